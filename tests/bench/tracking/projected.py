"""Run folders as a trainer leaves them, what MLflow holds of them, passes that die, and a tracking server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

from bench.launching.sweep_folder import SweepFolder
from bench.planning import plan, suite_file
from bench.tracking import store as mlflow_store
from bench.tracking import sync
from reports.records.event_log import encode
from reports.records.files import write_json
from reports.records.reading import summarize
from reports.records.run_folder import RunFolder

ROOT = Path(__file__).parents[3]
CELL = "cell digits/uvit-xs"
WRITES = (
    "create_experiment",
    "set_experiment_tag",
    "create_run",
    "log_batch",
    "log_inputs",
    "log_artifact",
    "log_artifacts",
    "set_terminated",
    "update_run",
    "delete_run",
)  # every request of ours that changes something


@dataclass(frozen=True)
class Planned:
    """A run of the suite `tiny`."""

    id: str
    config: dict
    pair: int | None

    def folder(self, root: Path) -> RunFolder:
        """Where it lies."""
        return RunFolder(root / "tiny" / self.id)


def planned(root: Path) -> list[Planned]:
    """The runs of ROOT/tiny.yaml. Here and in `publish` alone the tests of tracking use the plan."""
    return [Planned(run.id, run.config, run.pair) for run in plan.plan(suite_file.load(str(root / "tiny.yaml")))]


def publish(root: Path) -> None:
    """Write ROOT/tiny/suite.json."""
    tiny = suite_file.load(str(root / "tiny.yaml"))
    SweepFolder(root, tiny.name).publish(tiny, plan.plan(tiny))


def write(folder, config, steps, done=False, clock=1000.0, status="complete", start=1000.0, loss=1.0):
    """What a trainer leaves after `steps` evaluations; a run that is not done has a living owner.

    A resumed run keeps `start`.
    """
    write_json(folder.config, config)
    events = [{"event": "start", "images": 0, "time": start, "data_digest": "d" * 64, "params": 7, "host": "here"}]
    for i in range(1, steps + 1):
        common = {"images": 32 * i, "seconds": float(i)}
        train, fid = {"loss": loss / i, "lr": 0.1, "grad_norm": 2.0}, 9.0 / i if i != 2 else float("nan")
        evaluation = {"fid": fid, "eval_seconds": 0.1, "draws": "a", "nfe": 2, "samples": 128}
        events.append({"event": "train", "time": clock + i, **common, **train})
        events.append({"event": "eval", "time": clock + i + 0.5, **common, **evaluation})
    own(folder)
    if done:
        end = {
            "event": "end",
            "images": 32 * steps,
            "time": clock + steps + 1,
            "seconds": float(steps),
            "status": status,
        }
        events.append(end | ({"reason": "loss is nan"} if status == "diverged" else {}))
        folder.samples.mkdir(exist_ok=True)
        for images in (96, 192):
            Image.new("L", (9, 9), images).save(folder.sample(images))
        write_json(folder.result, summarize(config, [json.loads(encode(event)) for event in events]))
        folder.lock.unlink()
    folder.events.write_text("".join(encode(event) + "\n" for event in events))


def own(folder, pid=None):
    """Leave a lease that names this process, or another one of this machine, and that nobody renews or gives back."""
    folder.lock.unlink(missing_ok=True)
    with folder.lease():
        text = folder.lock.read_text()
    if pid is not None:
        lines = [line for line in text.splitlines() if not line.startswith("start=")]
        text = "\n".join(lines).replace(f"pid={os.getpid()}", f"pid={pid}") + "\n"
    folder.lock.write_text(text)


def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def live(uri):
    """All MLflow runs of the suite that are not deleted."""
    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("tiny").experiment_id])


def by_run(uri):
    found = {run.data.tags["skipbench.run"]: run for run in live(uri)}
    assert len(found) == len(live(uri))  # no twins
    return found


def histories(uri, clock=True):
    """Every point of every run: (run, key) -> [(step, value, timestamp)...], without the timestamp if not clock."""
    client, found = MlflowClient(uri), {}
    for name, run in by_run(uri).items():
        for key in run.data.metrics:
            points = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
            found[name, key] = sorted(points if clock else [point[:2] for point in points])
    return found


def content(root, uri=None):
    """What a store says in the end, whatever way it came about."""
    uri = uri or sync.default_uri(root)
    runs = by_run(uri)
    names = {run.info.run_id: name for name, run in runs.items()}
    ids = re.compile("|".join(names))
    ours = ("skipbench.", "mlflow.user", "mlflow.source", "mlflow.parent")
    facts = {
        name: (
            run.info.status,
            run.data.params,
            [d.dataset.digest for d in run.inputs.dataset_inputs],
            names.get(run.data.tags.get("mlflow.parentRunId")),
            {k: ids.sub(lambda m: names[m[0]], v) for k, v in run.data.tags.items() if not k.startswith(ours)},
        )
        for name, run in runs.items()
    }
    artifacts = {
        name: sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        for name, run in runs.items()
        if (folder := Path(run.info.artifact_uri.removeprefix("file://"))).is_dir()
    }
    return facts, histories(uri, clock=False), artifacts


class Died(Exception):
    """The process was killed between two requests."""


def die_after(monkeypatch, count):
    """The pass dies after its write request number `count`; returns what counts them."""
    done = []

    def dying(original):
        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            done.append(original.__name__)
            if len(done) == count:
                raise Died
            return result

        return call

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
    return done


def with_report(root):
    report = root / "tiny" / "report"
    (report / "tables").mkdir(parents=True, exist_ok=True)
    (report / "tables" / "speedup.md").write_text("table")
    (report / "index.html").write_text("page")
    row = {
        "cell": "digits/uvit-xs",
        "method": "learnable(r=4)",
        "withheld": "",
        "result": {"speedup": 1.25, "low": 1.1, "high": None},
    }
    withheld = {**row, "method": "A/A", "withheld": "gate failed", "result": None}
    rows = [row, withheld, {**row, "cell": "other", "result": {"speedup": 9, "low": 8, "high": 10}}]
    (report / "report.json").write_text(json.dumps({"comparisons": rows}))
    return report


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder, port):
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    quiet = os.environ | mlflow_store.QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 240
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    end(process)
    raise AssertionError("the server did not come up")


def end(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the session that this test started, and nothing else
    process.wait()
