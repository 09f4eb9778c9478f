"""Projects run folders into MLflow: idempotent, incremental, one writer; MLflow can be deleted and made again at any time.

How far a run is projected is kept with MLflow itself, as the number of its events, `resume` lines not counted: a resumed
run's log equals the uninterrupted one but for those and the clocks, so what is written again after a crash is not logged
twice. Points carry the time and the images of their event, so that a batch that is sent twice is stored once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from reports import reading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

BATCH = 1000  # metrics per call, MLflow's limit
SILENT = 900.0  # seconds without an event after which a run that is not done counts as killed
METRICS = {"train": ("loss", "lr", "grad_norm", "seconds"), "eval": ("fid", "eval_seconds")}


@dataclass
class Summary:
    """What one pass did."""

    runs: int = 0
    changed: int = 0
    points: int = 0

    def __str__(self) -> str:
        return f"{self.runs} runs, {self.changed} changed, {self.points} points logged"


def default_uri(root: Path) -> str:
    """A sqlite file beside the runs."""
    return f"sqlite:///{Path(root).resolve() / 'mlflow.db'}"


def sync(root: Path, suite: str, uri: str | None = None) -> Summary:
    """Project every run of a suite that has begun. uri: tracking address, sqlite in ROOT by default."""
    content = reading.read_json(Path(root) / suite / "suite.json")
    with _one_writer(root):
        client = _client(uri or default_uri(root))
        experiment = _experiment(client, content, root)
        known = {run.data.tags["skipbench.run"]: run for run in _runs(client, experiment) if "skipbench.run" in run.data.tags}
        summary = Summary()
        for cell in content["cells"]:
            name = f"{cell['dataset']}/{cell['backbone']}"
            parent = _parent(client, experiment, known, suite, name)
            for entry in content["runs"]:
                folder = Path(root) / suite / entry["run"]
                if (entry["dataset"], entry["backbone"]) == (cell["dataset"], cell["backbone"]) and (folder / "events.jsonl").is_file():
                    _project(client, experiment, known.get(entry["run"]), parent, folder, summary)
            _results(client, parent, known, Path(root) / suite / "report", name)
    return summary


@contextmanager
def _one_writer(root: Path) -> Iterator[None]:
    with (Path(root) / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _client(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing phones out
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, suite: dict, root: Path) -> str:
    """The suite's experiment, created once."""
    found = client.get_experiment_by_name(suite["suite"])
    if found:
        return found.experiment_id
    local = client.tracking_uri.startswith("sqlite")
    location = (Path(root).resolve() / "mlartifacts" / suite["suite"]).as_uri() if local else None
    return client.create_experiment(suite["suite"], artifact_location=location, tags={"mlflow.note.content": suite["title"]})


def _runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


# One run --------------------------------------------------------------------------------------------------------------


def _project(client: MlflowClient, experiment: str, run: Run | None, parent: str, folder: Path, summary: Summary) -> None:
    """Bring one MLflow run up to its folder."""
    summary.runs += 1
    size, status = (folder / "events.jsonl").stat().st_size, standing(folder)
    tags = run.data.tags if run else {}
    if tags.get("skipbench.bytes") == str(size) and tags.get("skipbench.status") == status:
        return
    config = reading.read_json(folder / "config.json")
    events = [event for event in reading.read_events(folder, live=True) if event["event"] != "resume"]
    if not events:
        return
    if run is None:
        run_id, done = _create(client, experiment, parent, config, events[0]), 0
    else:
        run_id, done = run.info.run_id, int(tags.get("skipbench.events", 0))
    points, strange = metrics(events[done:], config["spec"]["evaluation"]["extractor"])
    for start in range(0, len(points), BATCH):
        client.log_batch(run_id, metrics=points[start:start + BATCH])
    _set_tags(client, run_id, {"skipbench.events": str(max(done, len(events))), "skipbench.bytes": str(size), "skipbench.status": status,
                               **({"skipbench.not_finite": "; ".join(strange)[:500]} if strange else {})})
    _set_status(client, run_id, folder, status, events[-1]["time"])
    summary.changed += 1
    summary.points += len(points)


def standing(folder: Path) -> str:
    """MLflow's status of a run, by its own record: a killed job does not stay RUNNING for ever."""
    if (folder / "result.json").is_file():
        return "FINISHED" if reading.read_json(folder / "result.json")["status"] == "complete" else "FAILED"
    if (folder / "error.json").is_file():
        return "FAILED"
    return "RUNNING" if time.time() - (folder / "events.jsonl").stat().st_mtime < SILENT else "KILLED"


def metrics(events: list[dict], extractor: str) -> tuple[list[Metric], list[str]]:
    """The points of events, over images, and where a number was not finite: such a one is never logged as a number."""
    from mlflow.entities import Metric

    points, strange = [], []
    for event in events:
        for key in METRICS.get(event["event"], ()):
            value, name = reading.number(event.get(key)), _metric_name(event["event"], key, extractor)
            if event.get(key) is None:
                continue
            if math.isfinite(value):
                points.append(Metric(name, value, int(event["time"] * 1000), int(event["images"])))
            else:
                strange.append(f"{name} is {event[key]} at {event['images']:,} images")
    return points, strange


def _metric_name(kind: str, key: str, extractor: str) -> str:
    """A distance bears its extractor's name, unless it is Inception's."""
    if key == "fid":
        return "fid" if extractor == "inception" else f"frechet_{extractor}"
    return "train_seconds" if key == "seconds" else key


def _create(client: MlflowClient, experiment: str, parent: str, config: dict, start: dict) -> str:
    """A new MLflow run with everything that does not change."""
    from mlflow.entities import Dataset, DatasetInput, Param

    spec = config["spec"]
    tags = {"skipbench.run": config["run"], "mlflow.parentRunId": parent, "suite": config["suite"], "dataset": spec["dataset"],
            "backbone": spec["backbone"], "method": config["label"], "seed": str(spec["seed"]), "role": config["role"],
            "pair": str(config["pair"]), "protocol": str(spec["protocol"]), "hash": config["hash"]}
    run = client.create_run(experiment, start_time=int(start["time"] * 1000), tags=tags, run_name=_run_name(config))
    facts = {key: start.get(key) for key in ("params", "method_params", "flops", "init_digest", "device_name", "host")}
    params = [Param(key, str(value)[:6000]) for key, value in (flatten(spec) | facts).items()]
    for first in range(0, len(params), 100):
        client.log_batch(run.info.run_id, params=params[first:first + 100])
    dataset = Dataset(name=spec["dataset"], digest=str(start.get("data_digest"))[:32], source_type="local", source=json.dumps({"name": spec["dataset"]}))
    client.log_inputs(run.info.run_id, [DatasetInput(dataset)])
    return run.info.run_id


def _run_name(config: dict) -> str:
    spec = config["spec"]
    return f"{spec['dataset']} {spec['backbone']} {config['label']} seed {spec['seed']}" + (f" ({config['role']})" if config["role"] != "paired" else "")


def flatten(value: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


def _set_tags(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _set_status(client: MlflowClient, run_id: str, folder: Path, status: str, end: float) -> None:
    if status == "RUNNING":
        client.update_run(run_id, status=status)
        return
    client.set_terminated(run_id, status, int(end * 1000))
    grids = sorted((folder / "samples").glob("*.png"))
    if grids and status == "FINISHED":
        client.log_artifact(run_id, str(grids[-1]), "samples")


# Cells ----------------------------------------------------------------------------------------------------------------


def _parent(client: MlflowClient, experiment: str, known: dict[str, Run], suite: str, cell: str) -> str:
    """The run that groups a cell's runs and carries its results."""
    name = f"cell {cell}"
    if name in known:
        return known[name].info.run_id
    dataset, _, backbone = cell.partition("/")
    tags = {"skipbench.run": name, "suite": suite, "dataset": dataset, "backbone": backbone, "role": "cell"}
    run = client.create_run(experiment, tags=tags, run_name=f"{cell}: results")
    client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def _results(client: MlflowClient, parent: str, known: dict[str, Run], report: Path, cell: str) -> None:
    """Speedups as metrics, tables and figures as artifacts, once per version of report.json."""
    path = report / "report.json"
    if not path.is_file():
        return
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before = known.get(f"cell {cell}")
    if before and before.data.tags.get("skipbench.report") == digest:
        return
    stamp = int(path.stat().st_mtime * 1000)
    for row in reading.read_json(path)["comparisons"]:
        if row["cell"] == cell and not row["withheld"]:
            arm = re.sub(r"[^\w\-. /:]", "_", row["method"]).strip("_")
            for key in ("speedup", "low", "high"):
                if row.get(key) is not None:
                    client.log_metric(parent, f"{key} {arm}", row[key], stamp, 0)
    for folder in ("tables", "figures"):
        if (report / folder).is_dir():
            client.log_artifacts(parent, str(report / folder), folder)
    _set_tags(client, parent, {"skipbench.report": digest})


# The browser ----------------------------------------------------------------------------------------------------------


def ui(root: Path, port: int, uri: str | None = None) -> int:
    """Serve MLflow on 127.0.0.1 until Ctrl-C; BadInput for a port in use or nothing synced."""
    if uri is None and not (Path(root) / "mlflow.db").is_file():
        raise BadInput(f"--root: nothing is synced in {root} yet; start with: python -m bench run quick")
    if not port < 2**16:
        raise BadInput(f"--port: {port} is out of range; choose 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(f"--port: {port} cannot be used ({error.strerror}); choose another") from None
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri or default_uri(root), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    try:
        return subprocess.run(command, env=environment).returncode
    except KeyboardInterrupt:
        return 0
