"""Projects run folders into MLflow: idempotent, incremental, one writer; MLflow can be deleted and made again.

How far a run is projected is kept with MLflow itself, as the number of its events that hold metrics (how many others there
are depends on how often it is saved and probed): of those a resumed run's log equals the uninterrupted one but for the
clocks, so what is written again after a crash is not logged twice. A pass may end between any two requests: what is about
to be sent is noted first, what marks a run as up to date is written last, and a pass that finds the first without the second
asks MLflow which points it has.

Which training a run of MLflow shows is told by the time of its `start` event, which a resumed run keeps, wherever its folder
is moved or copied. A run that was trained again is projected anew; one that another root trained is refused.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.runs import lock
from bench.tracking import store
from bench.errors import BadInput
from bench.tracking.cells import project_cell, project_links, project_results
from bench.tracking.store import NAME, SENT, Unreachable, default_uri
from bench.tracking.ui import ui
from reports.records import reading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

__all__ = ["Summary", "Unreachable", "default_uri", "sync", "ui"]

METRICS = {"train": ("loss", "lr", "grad_norm", "seconds"), "eval": ("fid", "eval_seconds")}
BATCH, PARAMS = 1000, 100  # metrics and params per request, MLflow's limits
LONGEST = 6000  # characters of a param's value, MLflow's limit
SENDING = "skipbench.sending"  # tag: events whose points may be stored
DESCRIBED = "skipbench.described"  # tag: params and dataset are in
START, ROOT, FOLDER = "skipbench.start", "skipbench.root", "skipbench.folder"  # tags: which training, by what root, and where that lay
FACTS = ("params", "backbone_params", "method_params", "flops", "init_digest", "extractor_digest", "reference_digest",
         "reference_size")
PLACE = ("device", "device_name", "host")  # of the last start: tags, since a param cannot change
STATUS = {"complete": "FINISHED", "diverged": "FAILED", "failed": "FAILED", "killed": "KILLED", "running": "RUNNING"}


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
    """Project every run of a suite that has begun. uri: tracking address, sqlite in ROOT by default. stop: signals that came.

    Safe while runs write: a torn last line waits for the next pass. BadInput, one line, for an address that leads
    nowhere or holds another sweep of that name; its subclass Unreachable for a server that does not answer (any more) or
    refuses, after which a later pass goes on.
    """
    folder = Path(root) / suite
    content = reading.read_json(folder / "suite.json")
    summary = Summary()
    with store.one_writer(root, stop), store.connect(uri or default_uri(root)) as client:
        experiment = store.experiment(client, content, root)
        known = store.runs(client, experiment)
        here = store.root_name(root)
        origins = {entry["run"]: _origin(folder / entry["run"], here) for entry in content["runs"]}
        _refuse_another_sweep(known, origins)
        for cell in (f"{cell['dataset']}/{cell['backbone']}" for cell in content["cells"]):
            parent = project_cell(client, experiment, known.get(f"cell {cell}"), suite, cell)
            for entry in content["runs"]:
                begun = origins[entry["run"]]
                if begun and f"{entry['dataset']}/{entry['backbone']}" == cell:
                    _project(client, experiment, known, parent, folder / entry["run"], begun, summary)
            project_results(client, parent, known.get(f"cell {cell}"), folder / "report", cell)
            project_links(client, experiment, parent, known, cell)
    return summary


def _origin(folder: Path, here: str) -> dict[str, str]:
    """Tags that tell a training from another one under the same name; {} for a run that has not begun."""
    try:
        with (folder / "events.jsonl").open("rb") as log:
            start = next((json.loads(line) for line in log if line.startswith(b'{"event": "start"') and line.endswith(b"}\n")), None)
    except FileNotFoundError:
        return {}
    return {START: str(start["time"]), ROOT: here} if start else {}


def _refuse_another_sweep(known: dict[str, Run], origins: dict[str, dict[str, str]]) -> None:
    """BadInput, before anything is written, if MLflow has a run from another root and of another training."""
    for name, origin in origins.items():
        tags = known[name].data.tags if name in known else {}
        if origin and START in tags and tags[START] != origin[START] and tags.get(ROOT) != origin[ROOT]:
            raise BadInput(f"suite: MLflow has another training of {name}, synced from {tags.get(FOLDER)}; two sweeps of one name do not "
                           "mix: choose another --tracking or name of the suite, or delete that sweep's runs in MLflow")


def _project(client: MlflowClient, experiment: str, known: dict[str, Run], parent: str, folder: Path, origin: dict[str, str],
             summary: Summary) -> None:
    """Bring one MLflow run up to its folder. The marks compared here are written last."""
    summary.runs += 1
    run = known.get(folder.name)
    if run and run.data.tags.get(START, origin[START]) != origin[START]:  # trained again: other numbers at the same steps
        client.delete_run(known.pop(folder.name).info.run_id)
        run, summary.anew = None, summary.anew + 1
    status, size = standing(folder), (folder / "events.jsonl").stat().st_size
    marks = {"skipbench.bytes": str(size), "status": status, "mlflow.parentRunId": parent, **origin}
    if run and all(run.data.tags.get(key) == value for key, value in marks.items()):
        return
    config = reading.read_json(folder / "config.json")
    events = [event for event in reading.read_events(folder, live=True) if event["event"] != "resume"]
    if not events:
        return
    origin = {**origin, FOLDER: f"{socket.gethostname()}:{folder.parent.resolve()}"}
    run = run or _create(client, experiment, config, events[0], origin)
    if DESCRIBED not in run.data.tags:
        _describe(client, run, config["spec"], events[0])
    extractor = config["spec"]["evaluation"]["extractor"]
    measured = [event for event in events if event["event"] in METRICS]
    sent = _send(client, run, measured, extractor)
    _conclude(client, run, folder, status, events[-1]["time"])
    done = max(len(measured), _count(run, SENT))
    store.set_tags(client, run.info.run_id, {**_remarks(events, extractor), SENT: str(done), **marks, **origin})
    summary.changed, summary.points = summary.changed + 1, summary.points + sent


def standing(folder: Path) -> str:
    """complete, diverged, failed, running or killed, by its own record: only a lock's live owner keeps it running.

    The lock is looked at first: a run writes its result before it lets go.
    """
    held = lock.held(folder / "lock")
    if (folder / "result.json").is_file():
        return str(reading.read_json(folder / "result.json")["status"])
    if (folder / "error.json").is_file() and not held:
        return "failed"
    return "running" if held else "killed"


# What a run is --------------------------------------------------------------------------------------------------------


def _create(client: MlflowClient, experiment: str, config: dict, start: dict, origin: dict[str, str]) -> Run:
    """A new MLflow run that can be found again by its name."""
    spec = config["spec"]
    tags = {NAME: config["run"], "run": config["run"], "hash": config["hash"], "suite": config["suite"],
            "dataset": spec["dataset"], "backbone": spec["backbone"], "method": config["label"],
            "seed": str(spec["seed"]), "role": config["role"], "pair": str(config["pair"]),
            "protocol": str(spec["protocol"]), **origin}
    role = "" if config["role"] == "paired" else f" ({config['role']})"
    name = f"{spec['dataset']} {spec['backbone']} {config['label']} seed {spec['seed']}{role}"
    return client.create_run(experiment, start_time=_clock(start["time"]), tags=tags, run_name=name)


def _describe(client: MlflowClient, run: Run, spec: dict, start: dict) -> None:
    """Params and dataset; those that an interrupted pass left there stay."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    values = flatten(spec) | {key: start[key] for key in FACTS if start.get(key) is not None}
    params = [Param(key, str(value)[:LONGEST]) for key, value in values.items() if key not in run.data.params]
    for first in range(0, len(params), PARAMS):
        client.log_batch(run.info.run_id, params=params[first:first + PARAMS])
    dataset = Dataset(name=spec["dataset"], digest=str(start.get("data_digest"))[:32], source_type="local",
                      source=json.dumps({"name": spec["dataset"]}))
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def flatten(value: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


# What a run did -------------------------------------------------------------------------------------------------------


def _send(client: MlflowClient, run: Run, events: list[dict], extractor: str) -> int:
    """Log the points of the events that are not in yet; returns how many.

    SENDING only grows: after an interrupted pass, MLflow is asked until SENT has caught up with what may have been
    sent, since a run that was cut back to a checkpoint meanwhile writes the same points again, under other clocks.
    """
    run_id, done = run.info.run_id, _count(run, SENT)
    begun = max(done, _count(run, SENDING))
    points = metrics(events[done:], extractor)
    if begun > done:
        keys = {point.key for point in points}
        stored = {(key, point.step) for key in keys for point in client.get_metric_history(run_id, key)}
        points = [point for point in points if (point.key, point.step) not in stored]
    store.set_tags(client, run_id, {DESCRIBED: "yes", SENDING: str(max(begun, len(events)))})
    for start in range(0, len(points), BATCH):
        client.log_batch(run_id, metrics=points[start:start + BATCH])
    return len(points)


def _count(run: Run, tag: str) -> int:
    return int(run.data.tags.get(tag, 0))


def metrics(events: list[dict], extractor: str) -> list[Metric]:
    """The finite points of events, over images, with the clock of their event."""
    from mlflow.entities import Metric

    return [Metric(name, value, _clock(event["time"]), int(event["images"]))
            for event, name, value in _numbers(events, extractor) if math.isfinite(value)]


def _numbers(events: list[dict], extractor: str) -> list[tuple[dict, str, float]]:
    """(event, metric name, number) of everything that is measured."""
    return [(event, _metric_name(key, extractor), reading.number(event[key]))
            for event in events for key in METRICS.get(event["event"], ()) if event.get(key) is not None]


def _metric_name(key: str, extractor: str) -> str:
    """A distance bears its extractor's name, unless it is Inception's."""
    if key == "fid":
        return "fid" if extractor == "inception" else f"frechet_{extractor}"
    return "train_seconds" if key == "seconds" else key


def _remarks(events: list[dict], extractor: str) -> dict[str, str]:
    """Tags for what is no number: values that are not finite, why a run ended, where it ran."""
    strange: dict[str, list[str]] = {}
    for event, name, value in _numbers(events, extractor):
        if not math.isfinite(value):
            strange.setdefault(name, []).append(f"{value} at {event['images']:,} images")
    found = [f"{name}: {points[0]}" + (f" and {len(points) - 1} more" if len(points) > 1 else "")
             for name, points in strange.items()]
    tags = {key: str(events[0][key]) for key in PLACE if key in events[0]}
    tags |= {"not_finite": "; ".join(found)} if found else {}
    return tags | ({"reason": str(events[-1]["reason"])} if events[-1].get("reason") else {})


def _conclude(client: MlflowClient, run: Run, folder: Path, status: str, end: float) -> None:
    """MLflow's status; at an end, whichever, also the last grid of samples."""
    if STATUS[status] == "RUNNING":
        if run.info.status != "RUNNING":  # killed once, at work again
            client.update_run(run.info.run_id, status="RUNNING")
        return
    for grid in sorted((folder / "samples").glob("*.png"))[-1:]:
        client.log_artifact(run.info.run_id, str(grid), "samples")
    client.set_terminated(run.info.run_id, STATUS[status], _clock(end))


def _clock(seconds: float) -> int:
    """MLflow's clock: milliseconds."""
    return int(seconds * 1000)
