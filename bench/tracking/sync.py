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
import shutil
import socket
import tempfile
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.errors import BadInput
from bench.tracking import results, store
from bench.tracking.store import NAME, NOTE, Experiment, Unreachable, default_uri, ui
from reports.records.event_log import number, read_events
from reports.records.files import read_json
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import read_bands, read_suite, widest
from reports.report.styles import INK, style

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.entities import Run as MlflowRun

__all__ = ["Summary", "Unreachable", "default_uri", "sync", "ui"]

METRICS = {  # by event
    "train": ("loss", "lr", "grad_norm", "seconds"),
    "eval": ("fid", "kid", "mean_spread", "eval_seconds"),
}
# Of the start event: what becomes params, and what becomes tags since a resumed run may change it.
PARAMS = {"params", "backbone_params", "method_params", "flops", "init_digest", "extractor_digest"}
PARAMS |= {"reference_digest", "reference_size"}
PLACE = ("device", "device_name", "host")
LONGEST = 6000  # characters of a param's value, MLflow's limit
START, ROOT, FOLDER = "skipbench.start", "skipbench.root", "skipbench.folder"  # tags that tell trainings apart
STATUS = {State.RUNNING: "RUNNING", State.COMPLETE: "FINISHED", State.STOPPED: "KILLED"}  # in MLflow; else FAILED
SERIES, LARGE, GRIDS = "samples", 256, 8  # name of a run's image series; pixels and number of its grids


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
    ValueError, one line: the folder is broken, or of another protocol version.
    """
    folder, content = Path(root) / suite, read_suite(root, suite, widest(root, suite))
    read_bands(folder / "protocol.json")
    with store.one_writer(root, stop) as lease, store.connect(uri or default_uri(root)) as client:
        experiment = store.open_experiment(client, content, root)
        starts = {run.run: _start(RunFolder(folder / run.run)) for run in content.runs}
        origin = {ROOT: store.root_name(root)}
        origins = {name: {START: str(start["time"]), **origin} for name, start in starts.items() if start}
        _refuse_another_sweep(experiment, origins)
        summary, parents = Summary(len(origins)), dict[str, str]()  # runs of cells, and what their runs are measured by
        for cell in content.cells:
            mine = [RunFolder(folder / run.run) for run in content.runs if run.cell == cell.name and run.run in origins]
            if not mine:
                continue
            first, ends = min((starts[run.path.name] for run in mine), key=itemgetter("time")), map(_last_time, mine)
            parent = results.project_cell(experiment, suite, cell, first, max(ends))
            for run in mine:
                lease.check()
                _project(experiment, run, {"mlflow.parentRunId": parent, **origins[run.path.name]}, summary)
            results.project_results(experiment, parent, folder / "report", cell.name)
            metric = results.metric_name("fid", read_json(mine[0].config)["spec"]["evaluation"]["extractor"])
            results.project_links(experiment, parent, cell.name, metric)
            parents |= {parent: metric}
        for parent, metric in [*parents.items()][:1]:
            results.describe(experiment, content, folder / "report", parent, metric)
    return summary


def _start(folder: RunFolder) -> dict[str, Any]:
    """The `start` event of a run, read without the rest of its log; empty if it has not begun."""
    if not folder.events.is_file():
        return {}
    with folder.events.open("rb") as log:
        starts = (line for line in log if line.startswith(b'{"event": "start"') and line.endswith(b"}\n"))
        return next((dict(json.loads(line)) for line in starts), {})


def _last_time(folder: RunFolder) -> float:
    """The time of a run's last event."""
    return float((folder.last_event() or {}).get("time", 0))


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
    client, run = experiment.client, experiment.runs.get(folder.path.name)
    if run and run.data.tags.get(START, origin[START]) != origin[START]:  # other numbers at the same steps
        client.delete_run(experiment.runs.pop(folder.path.name).info.run_id)
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
    spec, start = config["spec"], events[0]
    run = run or _create(experiment, config, start, origin)
    run_id, latest = run.info.run_id, {metric.key: metric.step for metric in run.data.to_proto().metrics}
    measured = metrics(events, spec["evaluation"]["extractor"])
    new = [point for point in measured if math.isfinite(point.value) and point.step > latest.get(point.key, -1)]
    client.log_batch(run_id, metrics=new, params=_params(run, spec, start))
    if not (run.inputs and run.inputs.dataset_inputs):
        client.log_inputs(run_id, [results.dataset(spec["dataset"], start)])
    status = STATUS.get(state, "FAILED")
    seen = dict[str, str]()
    if status != "RUNNING":  # an end, whichever
        seen = _log_samples(experiment, run_id, folder)
        client.set_terminated(run_id, status, int(1000 * events[-1]["time"]))
    elif run.info.status != "RUNNING":  # stopped once, at work again
        client.update_run(run_id, status="RUNNING")
    seen[NOTE] = _note(config, events, state) + seen.get(NOTE, "")
    experiment.tag(run_id, _remarks(events, measured) | seen | marks | origin)
    summary.changed, summary.points = summary.changed + 1, summary.points + len(new)


def _create(experiment: Experiment, config: dict[str, Any], start: dict[str, Any], origin: dict[str, str]) -> MlflowRun:
    """A new MLflow run that can be found again by its name."""
    spec, label, role = config["spec"], config["label"], config["role"]
    tags = {key: str(config[key]) for key in ("run", "hash", "suite", "role", "pair", "protocol")}
    tags |= {key: str(spec[key]) for key in ("dataset", "backbone", "seed")} | origin
    tags |= {NAME: config["run"], "method": label, "mlflow.runColor": style(label).colour.replace(INK, "#333333")}
    name = f"{spec['dataset']} {spec['backbone']} {label} seed {spec['seed']}" + f" ({role})" * (role != "paired")
    return experiment.client.create_run(experiment.id, int(1000 * start["time"]), tags, name)


def _log_samples(experiment: Experiment, run_id: str, folder: RunFolder) -> dict[str, str]:
    """Store grids of samples as MLflow's series of images, GRIDS of them over the training, always under the same
    names; returns the tags of a run with such a series, and the last grid for its description."""
    from PIL import Image

    grids = sorted(folder.samples.glob("*.png"))
    chosen = {grids[round(k * (len(grids) - 1) / (GRIDS - 1))]: None for k in range(GRIDS) if grids}
    if not chosen:
        return {}
    with tempfile.TemporaryDirectory() as made:
        for grid in chosen:
            images, identity = int(grid.stem), uuid.uuid5(uuid.NAMESPACE_URL, f"{folder.path.name}/{grid.stem}")
            path = Path(made, f"{SERIES}+step+{images}+timestamp+{images}+{identity}")
            with Image.open(grid) as picture:
                times = max(1, LARGE // picture.width)
                larger = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
                larger.save(f"{path}+compressed.webp", lossless=True, method=0)
            shutil.copy(grid, f"{path}.png")
        experiment.client.log_artifacts(run_id, made, "images")
    link = quote(f"images/{path.name}+compressed.webp", safe="")
    return {"mlflow.loggedImages": "True", NOTE: f"\n\n![samples](get-artifact?path={link}&run_uuid={run_id})"}


def _note(config: dict[str, Any], events: list[dict[str, Any]], state: State) -> str:
    """What the run is and how far it came, in Markdown."""
    spec, extractor = config["spec"], config["spec"]["evaluation"]["extractor"]
    what = (
        f"**{config['label']}** on {spec['dataset']}/{spec['backbone']}, seed {spec['seed']}, {config['role']}: {state}"
    )
    measured = [event for event in events if event["event"] == "eval"]
    if not measured:
        return what
    name = "FID" if extractor == "inception" else f"Frechet distance ({extractor})"
    last = f"{number(measured[-1]['fid']):.3f} after {measured[-1]['images']:,} of {spec['budget']:,} images"
    return f"{what}. {name} {last}."


def _params(run: MlflowRun, spec: dict[str, Any], start: dict[str, Any]) -> list[Param]:
    """What is trained, and what its first event says of it, as params that are not stored yet."""
    from mlflow.entities import Param
    from pandas import json_normalize

    params = json_normalize(spec).to_dict("records")[0]  # {"a": {"b": 1}} becomes {"a.b": 1}
    params |= {key: start[key] for key in PARAMS if start.get(key) is not None}
    return [Param(key, str(params[key])[:LONGEST]) for key in sorted(params.keys() - run.data.params.keys())]


def metrics(events: list[dict[str, Any]], extractor: str) -> list[Metric]:
    """All that is measured, finite or not, over images. Only Inception's distances are called `fid` and `kid`."""
    from mlflow.entities import Metric

    names = {"seconds": "train_seconds"} | {key: results.metric_name(key, extractor) for key in ("fid", "kid")}
    found = []
    for event in events:
        values = {names.get(key, key): event.get(key) for key in METRICS.get(event["event"], ())}
        values |= {results.metric_name("fid", name): value for name, value in event.get("beside", {}).items()}
        at = int(1000 * event["time"]), int(event["images"])
        found += [Metric(key, number(value), *at) for key, value in values.items() if value is not None]
    return found


def _remarks(events: list[dict[str, Any]], measured: list[Metric]) -> dict[str, str]:
    """Tags for what is no number: values that are not finite, why a run ended, where it ran."""
    strange = [point for point in measured if not math.isfinite(point.value)]
    first = {point.key: f"{point.key}: {point.value} at {point.step:,} images" for point in reversed(strange)}
    counts = Counter(point.key for point in strange)
    tags = {key: str(events[0][key]) for key in PLACE if key in events[0]}
    if strange:
        tags["not_finite"] = "; ".join(first[key] + f" and {n - 1} more" * (n > 1) for key, n in counts.items())
    return tags | ({"reason": str(events[-1]["reason"])} if events[-1].get("reason") else {})
