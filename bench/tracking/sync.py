"""Projects run folders into MLflow: idempotent, incremental, one writer. MLflow can be deleted and made again.

Points are stored in the order of their images: MLflow's latest point of each metric says how far a run is stored. A
resumed run writes the same points again under other clocks; none is stored twice. A pass may end between any two
requests: the tags that mark a run as up to date are written last.

The time of the `start` event tells one training from another: a resumed run keeps it, a folder that is moved or copied
too. A run that was trained again is projected anew; one that another root trained is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.errors import BadInput
from bench.tracking import store
from bench.tracking.store import NAME, NOTE, Experiment, Unreachable, default_uri, ui
from reports.records.event_log import number, read_events
from reports.records.files import read_json
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import CellRecord, read_bands, read_suite, widest

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.entities import Run as MlflowRun

__all__ = ["Summary", "Unreachable", "default_uri", "sync", "ui"]

METRICS = {"train": ("loss", "lr", "grad_norm", "seconds"), "eval": ("fid", "eval_seconds")}  # by event
# Of the start event: what becomes params, and what becomes tags since a resumed run may change it.
PARAMS = {"params", "backbone_params", "method_params", "flops", "init_digest", "extractor_digest"}
PARAMS |= {"reference_digest", "reference_size"}
PLACE = ("device", "device_name", "host")
LONGEST = 6000  # characters of a param's value, MLflow's limit
START, ROOT, FOLDER = "skipbench.start", "skipbench.root", "skipbench.folder"  # tags that tell trainings apart
STATUS = {State.RUNNING: "RUNNING", State.COMPLETE: "FINISHED", State.STOPPED: "KILLED"}  # in MLflow; else FAILED
REPORT = "skipbench.report"  # tag: sha256 of the report.json that is stored
CURVES = "x_axis=step&y_axis_scale=log&line_smoothness=1&show_point=true"  # how MLflow draws them


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
        begun = {run.run: _start_time(RunFolder(folder / run.run)) for run in content.runs}
        origin = {ROOT: store.root_name(root)}
        origins = {name: {START: time, **origin} for name, time in begun.items() if time}
        _refuse_another_sweep(experiment, origins)
        summary = Summary(len(origins))
        for cell in content.cells:
            parent = project_cell(experiment, suite, cell)
            for run in content.runs:
                if run.cell == cell.name and run.run in origins:
                    lease.check()
                    tags = {"mlflow.parentRunId": parent, **origins[run.run]}
                    _project(experiment, RunFolder(folder / run.run), tags, summary)
            project_results(experiment, parent, folder / "report", cell.name)
            project_links(experiment, parent, cell.name)
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
    from mlflow.entities import Dataset, DatasetInput, InputTag

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
        name, digest = spec["dataset"], str(start.get("data_digest"))[:32]
        dataset = Dataset(name, digest, "local", json.dumps({"name": name}))
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    status = STATUS.get(state, "FAILED")
    if status != "RUNNING":  # an end, whichever: also the last grid of samples
        for grid in sorted(folder.samples.glob("*.png"))[-1:]:
            client.log_artifact(run_id, str(grid), "samples")
        client.set_terminated(run_id, status, int(1000 * events[-1]["time"]))
    elif run.info.status != "RUNNING":  # stopped once, at work again
        client.update_run(run_id, status="RUNNING")
    experiment.tag(run_id, _remarks(events, measured) | marks | origin)
    summary.changed, summary.points = summary.changed + 1, summary.points + len(new)


def _create(experiment: Experiment, config: dict[str, Any], start: dict[str, Any], origin: dict[str, str]) -> MlflowRun:
    """A new MLflow run that can be found again by its name."""
    spec, label, role = config["spec"], config["label"], config["role"]
    tags = {key: str(config[key]) for key in ("run", "hash", "suite", "role", "pair", "protocol")}
    tags |= {key: str(spec[key]) for key in ("dataset", "backbone", "seed")} | origin
    tags |= {NAME: config["run"], "method": label}
    name = f"{spec['dataset']} {spec['backbone']} {label} seed {spec['seed']}" + f" ({role})" * (role != "paired")
    return experiment.client.create_run(experiment.id, int(1000 * start["time"]), tags, name)


def _params(run: MlflowRun, spec: dict[str, Any], start: dict[str, Any]) -> list[Param]:
    """What is trained, and what its first event says of it, as params that are not stored yet."""
    from mlflow.entities import Param
    from pandas import json_normalize

    params = json_normalize(spec).to_dict("records")[0]  # {"a": {"b": 1}} becomes {"a.b": 1}
    params |= {key: start[key] for key in PARAMS if start.get(key) is not None}
    return [Param(key, str(params[key])[:LONGEST]) for key in sorted(params.keys() - run.data.params.keys())]


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


def project_cell(experiment: Experiment, suite: str, cell: CellRecord) -> str:
    """The id of the cell's MLflow run, created if there is none."""
    run = experiment.runs.get(f"cell {cell.name}")
    if run is None:
        tags = {NAME: f"cell {cell.name}", "suite": suite, "dataset": cell.dataset, "backbone": cell.backbone}
        name = f"{cell.name}: results"
        run = experiment.client.create_run(experiment.id, tags=tags | {"role": "cell"}, run_name=name)
    if run.info.status != "FINISHED":
        experiment.client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def project_results(experiment: Experiment, parent: str, report: Path, cell: str) -> None:
    """Store the report's numbers and files, once per version; the tag `withheld` names those that are not valid now."""
    from mlflow.entities import Metric

    path, known = report / "report.json", experiment.runs.get(f"cell {cell}")
    try:
        text = path.read_bytes()
        rows = [row for row in json.loads(text)["comparisons"] if row["cell"] == cell]
        shown = [(row["method"], row["result"]) for row in rows if row["result"] and not row["withheld"]]
        withheld = [f"{row['method']}: {row['withheld']}" for row in rows if row["withheld"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, or being written: the next pass reads it
        return
    digest, time = hashlib.sha256(text).hexdigest(), int(path.stat().st_mtime * 1000)
    if known and known.data.tags.get(REPORT) == digest:
        return
    stored, new = known.data.metrics if known else {}, []
    for method, result in shown:
        arm = re.sub(r"[^A-Za-z0-9_\-. /:]", "_", method).strip("_")  # the letters that MLflow allows
        found = {f"{key} {arm}": result[key] for key in ("speedup", "low", "high")}
        new += [Metric(key, x, time, 0) for key, x in found.items() if x is not None and stored.get(key) != x]
    experiment.client.log_batch(parent, metrics=new)
    experiment.client.log_artifacts(parent, str(report))
    experiment.tag(parent, {"withheld": "; ".join(withheld) or "nothing", REPORT: digest})


def project_links(experiment: Experiment, parent: str, cell: str) -> None:
    """Link the cell's page to the curves of each pair's arms, of the runs that MLflow had when the pass began."""
    pairs: dict[int, list[tuple[str, str]]] = {}
    metric = "fid"
    for run in experiment.runs.values():
        tags = run.data.tags
        if f"{tags.get('dataset')}/{tags.get('backbone')}" == cell and tags.get("role") in ("paired", "null"):
            pairs.setdefault(int(tags["pair"]), []).append((tags["run"], run.info.run_id))
            metric = next((name for name in run.data.metrics if name.startswith("frechet_")), metric)
    links = []
    for pair, runs in sorted(pairs.items()):
        arms = [run for _, run in sorted(runs)]
        words = {"runs": arms, "metric": metric, "experiments": [experiment.id], "plot_metric_keys": [metric]}
        query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in words.items())
        links.append(f"[seed {pair}](#/metric?{query}&{CURVES})")
    note, known = f"Distance over images, arm against arm: {' · '.join(links)}", experiment.runs.get(f"cell {cell}")
    if links and not (known and known.data.tags.get(NOTE) == note):
        experiment.tag(parent, {NOTE: note})
