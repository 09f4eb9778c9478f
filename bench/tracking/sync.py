"""Projects run folders into MLflow: idempotent, incremental, one writer. MLflow can be deleted and made again.

Points are stored in the order of their images: MLflow's latest point of each metric says how far a run is stored. A
resumed run writes the same points again under other clocks; none is stored twice. A pass may end between any two
requests: the tags that mark a run as up to date are written last.

The time of the `start` event tells one training from another: a resumed run keeps it, a folder that is moved or copied
too. A run that was trained again is projected anew; one that another root trained is refused.
"""

from __future__ import annotations

import json
import math
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.tracking import store
from bench.tracking.cells import project_cell, project_links, project_results
from bench.tracking.store import NAME, Experiment, Unreachable, default_uri
from bench.tracking.ui import ui
from reports.records.event_log import number, read_events
from reports.records.files import read_json
from reports.records.run_folder import RunFolder, State

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

__all__ = ["Summary", "Unreachable", "default_uri", "sync", "ui"]

METRICS = {"train": ("loss", "lr", "grad_norm", "seconds"), "eval": ("fid", "eval_seconds")}  # by event
# Of the start event: what becomes params, and what becomes tags since a resumed run may change it.
SIZES = ("params", "backbone_params", "method_params", "flops")
DIGESTS = ("init_digest", "extractor_digest", "reference_digest", "reference_size")
PLACE = ("device", "device_name", "host")
LONGEST = 6000  # characters of a param's value, MLflow's limit
START, ROOT, FOLDER = "skipbench.start", "skipbench.root", "skipbench.folder"  # tags that tell trainings apart
STATUS = {State.RUNNING: "RUNNING", State.COMPLETE: "FINISHED", State.STOPPED: "KILLED"}  # in MLflow; else FAILED


@dataclass
class Summary:
    """What one pass did."""

    runs: int = 0
    changed: int = 0
    points: int = 0
    anew: int = 0

    def __str__(self) -> str:
        anew = f", {self.anew} that were trained again made anew" if self.anew else ""
        return f"{self.runs} runs, {self.changed} changed, {self.points} points logged{anew}"


def sync(root: Path, suite: str, uri: str | None = None, stop: Sequence[int] = ()) -> Summary:
    """Project every run of a suite that has begun, while runs write too: a torn last line waits for the next pass.

    uri: tracking address, sqlite in ROOT by default. stop: signals received so far (see `store.one_writer`). BadInput:
    an address that leads nowhere or holds another sweep of that name; its subclass Unreachable: a later pass may go on.
    """
    folder = Path(root) / suite
    content = read_json(folder / "suite.json")
    with store.one_writer(root, stop) as lease, store.connect(uri or default_uri(root)) as client:
        experiment = store.open_experiment(client, content, root)
        begun = {entry["run"]: _start_time(RunFolder(folder / entry["run"])) for entry in content["runs"]}
        origin = {ROOT: store.root_name(root)}
        origins = {name: {START: time, **origin} for name, time in begun.items() if time}
        _refuse_another_sweep(experiment, origins)
        summary = Summary(len(origins))
        for cell in (f"{cell['dataset']}/{cell['backbone']}" for cell in content["cells"]):
            parent = project_cell(experiment, suite, cell)
            for entry in content["runs"]:
                if f"{entry['dataset']}/{entry['backbone']}" == cell and entry["run"] in origins:
                    lease.check()
                    tags = {"mlflow.parentRunId": parent, **origins[entry["run"]]}
                    _project(experiment, RunFolder(folder / entry["run"]), tags, summary)
            project_results(experiment, parent, folder / "report", cell)
            project_links(experiment, parent, cell)
    return summary


def _start_time(folder: RunFolder) -> str | None:
    """The time of a run's `start` event, read without the rest of its log; None if it has not begun."""
    if not folder.events.is_file():
        return None
    with folder.events.open("rb") as log:
        starts = (line for line in log if line.startswith(b'{"event": "start"') and line.endswith(b"}\n"))
        return next((str(json.loads(line)["time"]) for line in starts), None)


def _refuse_another_sweep(experiment: Experiment, origins: dict[str, dict[str, str]]) -> None:
    """BadInput, before anything is written, if MLflow has a run from another root and of another training."""
    for name in origins.keys() & experiment.runs.keys():
        tags, origin = experiment.runs[name].data.tags, origins[name]
        if START in tags and tags[START] != origin[START] and tags.get(ROOT) != origin[ROOT]:
            what = f"MLflow has another training of {name}, synced from {tags.get(FOLDER)}"
            choices = "choose another --tracking or name of the suite, or delete that sweep's runs in MLflow"
            raise BadInput(f"suite: {what}; two sweeps of one name do not mix: {choices}")


def _project(experiment: Experiment, folder: RunFolder, origin: dict[str, str], summary: Summary) -> None:
    """Bring one MLflow run up to its folder. origin: tags of its parent and its training."""
    run = experiment.runs.get(folder.path.name)
    if run and run.data.tags.get(START, origin[START]) != origin[START]:  # other numbers at the same steps
        experiment.client.delete_run(experiment.runs.pop(folder.path.name).info.run_id)
        run, summary.anew = None, summary.anew + 1
    state = folder.state()
    marks = origin | {"status": state.value, "skipbench.bytes": str(folder.events.stat().st_size)}
    if run and marks.items() <= run.data.tags.items():  # all of them, since they are written last
        return
    config = read_json(folder.config)
    events = [event for event in read_events(folder.path, live=True) if event["event"] != "resume"]
    if not events:
        return
    origin = origin | {FOLDER: f"{socket.gethostname()}:{folder.path.parent.resolve()}"}
    run = run or _create(experiment, config, events[0], origin)
    _describe(experiment, run, config["spec"], events[0])
    measured = metrics(events, config["spec"]["evaluation"]["extractor"])
    latest = {metric.key: metric.step for metric in run.data.to_proto().metrics}
    new = [point for point in measured if math.isfinite(point.value) and point.step > latest.get(point.key, -1)]
    experiment.log(run.info.run_id, new)
    _conclude(experiment, run, folder, STATUS.get(state, "FAILED"), events[-1]["time"])
    experiment.tag(run.info.run_id, _remarks(events, measured) | marks | origin)
    summary.changed, summary.points = summary.changed + 1, summary.points + len(new)


def _create(experiment: Experiment, config: dict[str, Any], start: dict[str, Any], origin: dict[str, str]) -> Run:
    """A new MLflow run that can be found again by its name."""
    spec, label, role = config["spec"], config["label"], config["role"]
    tags = {key: str(config[key]) for key in ("run", "hash", "suite", "role", "pair")}
    tags |= {key: str(spec[key]) for key in ("dataset", "backbone", "seed")} | origin
    tags |= {NAME: config["run"], "method": label, "protocol": str(config.get("protocol", spec.get("protocol")))}
    name = f"{spec['dataset']} {spec['backbone']} {label} seed {spec['seed']}" + f" ({role})" * (role != "paired")
    return experiment.client.create_run(experiment.id, int(1000 * start["time"]), tags, name)


def _describe(experiment: Experiment, run: Run, spec: dict[str, Any], start: dict[str, Any]) -> None:
    """Store as params and dataset what is trained, and what its first event says of it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param
    from pandas import json_normalize

    params = json_normalize(spec).to_dict("records")[0]  # {"a": {"b": 1}} becomes {"a.b": 1}
    params |= {key: start[key] for key in SIZES + DIGESTS if start.get(key) is not None}
    new = params.keys() - run.data.params.keys()
    experiment.log(run.info.run_id, params=[Param(key, str(params[key])[:LONGEST]) for key in sorted(new)])
    source, digest = json.dumps({"name": spec["dataset"]}), str(start.get("data_digest"))[:32]
    dataset, context = Dataset(spec["dataset"], digest, "local", source), InputTag("mlflow.data.context", "training")
    if not (run.inputs and run.inputs.dataset_inputs):
        experiment.client.log_inputs(run.info.run_id, [DatasetInput(dataset, [context])])


def metrics(events: list[dict[str, Any]], extractor: str) -> list[Metric]:
    """All that is measured, finite or not, over images. A distance is called `fid` only if it is Inception's."""
    from mlflow.entities import Metric

    names = {"seconds": "train_seconds", "fid": "fid" if extractor == "inception" else f"frechet_{extractor}"}
    found = [(event, key) for event in events for key in METRICS.get(event["event"], ()) if event.get(key) is not None]
    return [Metric(names.get(key, key), number(e[key]), int(1000 * e["time"]), int(e["images"])) for e, key in found]


def _remarks(events: list[dict[str, Any]], measured: list[Metric]) -> dict[str, str]:
    """Tags for what is no number: values that are not finite, why a run ended, where it ran."""
    strange = [point for point in measured if not math.isfinite(point.value)]
    first = {point.key: f"{point.key}: {point.value} at {point.step:,} images" for point in reversed(strange)}
    counts = Counter(point.key for point in strange)
    tags = {key: str(events[0][key]) for key in PLACE if key in events[0]}
    if strange:
        tags["not_finite"] = "; ".join(first[key] + f" and {n - 1} more" * (n > 1) for key, n in counts.items())
    return tags | ({"reason": str(events[-1]["reason"])} if events[-1].get("reason") else {})


def _conclude(experiment: Experiment, run: Run, folder: RunFolder, status: str, end: float) -> None:
    """MLflow's status; at an end, whichever, also the last grid of samples."""
    client, run_id = experiment.client, run.info.run_id
    if status != "RUNNING":
        for grid in sorted(folder.samples.glob("*.png"))[-1:]:
            client.log_artifact(run_id, str(grid), "samples")
        client.set_terminated(run_id, status, int(1000 * end))
    elif run.info.status != "RUNNING":  # stopped once, at work again
        client.update_run(run_id, status="RUNNING")
