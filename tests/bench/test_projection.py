"""The projection into MLflow, against a real sqlite store and a real server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bench import projection
from bench import suite as suites
from bench.errors import BadInput
from bench.eventlog import encode
from bench.plan import plan, publish
from reports.reading import summarize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, tiny):
    """A published suite with one finished and one running run, their logs written as a trainer would."""
    suite = suites.load(tiny())
    runs = plan(suite)
    publish(suite, runs, tmp_path)
    write(runs[0].folder(tmp_path), runs[0].config, 6, done=True)
    write(runs[1].folder(tmp_path), runs[1].config, 3)
    return tmp_path


def write(folder, config, steps, done=False, clock=1000.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    events = [{"event": "start", "images": 0, "time": clock, "data_digest": "d" * 64, "params": 7}]
    for i in range(1, steps + 1):
        events.append({"event": "train", "images": 32 * i, "time": clock + i, "seconds": float(i), "loss": 1.0 / i, "lr": 0.1, "grad_norm": 2.0})
        events.append({"event": "eval", "images": 32 * i, "time": clock + i + 0.5, "seconds": float(i), "fid": 9.0 / i if i != 2 else float("nan"), "eval_seconds": 0.1,
                       "draws": "a", "nfe": 2, "samples": 128})
    if done:
        events.append({"event": "end", "images": 32 * steps, "time": clock + steps + 1, "seconds": float(steps), "status": "complete"})
        (folder / "samples").mkdir(exist_ok=True)
        (folder / "samples" / "000000000192.png").write_bytes(b"png")
        (folder / "result.json").write_text(json.dumps(summarize(config, json.loads("[" + ",".join(map(encode, events)) + "]"))))
    (folder / "events.jsonl").write_text("".join(encode(e) + "\n" for e in events))


def histories(uri):
    """Every point of every run: (run, key) -> [(step, value)...], in the order stored."""
    client = MlflowClient(uri)
    found = {}
    for run in client.search_runs([client.get_experiment_by_name("tiny").experiment_id]):
        for key in run.data.metrics:
            found[run.data.tags["skipbench.run"], key] = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
    return found


def by_run(uri):
    client = MlflowClient(uri)
    return {run.data.tags["skipbench.run"]: run for run in client.search_runs([client.get_experiment_by_name("tiny").experiment_id])}


def test_curves_params_tags_and_datasets(root):
    projection.sync(root, "tiny")
    uri = projection.default_uri(root)
    runs = by_run(uri)
    first = next(run for name, run in runs.items() if "s100" in name)
    assert first.info.status == "FINISHED" and "role" in first.data.tags and first.data.tags["method"] == "none"
    assert first.data.params["optimizer.lr"] == "0.001" and first.inputs.dataset_inputs[0].dataset.name == "digits"
    assert first.data.tags["mlflow.parentRunId"] == runs["cell digits/uvit-xs"].info.run_id
    points = histories(uri)[first.data.tags["skipbench.run"], "frechet_small-conv"]
    assert [(step, value) for step, value, _ in points] == [(32 * i, 9.0 / i) for i in (1, 3, 4, 5, 6)]  # nan is no number
    assert points[0][2] == 1001500 and "at 64 images" in first.data.tags["skipbench.not_finite"]
    assert next(run for name, run in runs.items() if "s101" in name).info.status == "RUNNING"
    assert list((root / "mlartifacts").rglob("000000000192.png"))


def test_again_changes_nothing_and_more_is_added(root):
    assert projection.sync(root, "tiny").changed == 2
    before = histories(projection.default_uri(root))
    assert projection.sync(root, "tiny").changed == 0
    assert histories(projection.default_uri(root)) == before
    run = plan(suites.load(str(root / "tiny.yaml")))[1]
    write(run.folder(root), run.config, 6, done=True)
    summary = projection.sync(root, "tiny")
    assert (summary.changed, summary.points) == (1, 3 * 6)
    assert len(histories(projection.default_uri(root))[run.id, "loss"]) == 6


def test_a_resumed_log_with_other_clocks_gives_no_duplicate(root):
    projection.sync(root, "tiny")
    run = plan(suites.load(str(root / "tiny.yaml")))[1]
    write(run.folder(root), run.config, 2, clock=5000.0)  # cut back to a checkpoint and written again
    path = run.folder(root) / "events.jsonl"
    path.write_text(path.read_text() + encode({"event": "resume", "images": 64, "time": 5003.0, "note": ""}) + "\n")
    projection.sync(root, "tiny")
    write(run.folder(root), run.config, 6, done=True, clock=5000.0)
    path.write_text(path.read_text().replace('{"event": "end"', encode({"event": "resume", "images": 64, "time": 5003.0, "note": ""}) + '\n{"event": "end"'))
    projection.sync(root, "tiny")
    assert [step for step, *_ in histories(projection.default_uri(root))[run.id, "loss"]] == [32 * i for i in range(1, 7)]


def test_a_torn_last_line_waits(root):
    run = plan(suites.load(str(root / "tiny.yaml")))[1]
    path = run.folder(root) / "events.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-30])
    projection.sync(root, "tiny")
    path.write_text(whole)
    projection.sync(root, "tiny")
    assert len(histories(projection.default_uri(root))[run.id, "frechet_small-conv"]) == 2


def test_a_killed_run_does_not_run_for_ever(root, monkeypatch):
    monkeypatch.setattr(projection, "SILENT", 0.0)
    projection.sync(root, "tiny")
    assert next(run for name, run in by_run(projection.default_uri(root)).items() if "s101" in name).info.status == "KILLED"


def test_two_at_the_same_moment(root):
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(root)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(by_run(projection.default_uri(root))) == 3 and all(len(v) == len(set(v)) for v in histories(projection.default_uri(root)).values())


def test_the_database_can_be_made_again(root):
    projection.sync(root, "tiny")
    before = histories(projection.default_uri(root))
    (root / "mlflow.db").unlink()
    shutil.rmtree(root / "mlartifacts")
    projection.sync(root, "tiny")
    assert histories(projection.default_uri(root)) == before


def test_results_of_a_cell_become_metrics(root):
    report = root / "tiny" / "report"
    (report / "tables").mkdir(parents=True)
    (report / "tables" / "speedup.md").write_text("table")
    row = {"cell": "digits/uvit-xs", "method": "learnable(r=4)", "withheld": "", "speedup": 1.25, "low": 1.1, "high": None}
    (report / "report.json").write_text(json.dumps({"comparisons": [row, {**row, "method": "A/A", "withheld": "gate failed"}]}))
    projection.sync(root, "tiny")
    metrics = by_run(projection.default_uri(root))["cell digits/uvit-xs"].data.metrics
    assert metrics == {"speedup learnable_r_4": 1.25, "low learnable_r_4": 1.1}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts"),
               "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 240
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.2)
    raise AssertionError("the server did not come up")


def end(process):
    os.killpg(process.pid, signal.SIGKILL)  # the session that this test started, and nothing else
    process.wait()


def test_a_server_killed_in_the_middle_loses_and_duplicates_nothing(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    process = serve(tmp_path, port)
    log_batch, calls = MlflowClient.log_batch, []

    def dying(self, run_id, *args, **kwargs):
        log_batch(self, run_id, *args, **kwargs)
        calls.append(1)
        if len(calls) == 2:  # the points of the first run are in, its watermark is not
            end(process)

    monkeypatch.setattr(MlflowClient, "log_batch", dying)
    with pytest.raises(Exception, match="(?i)connection|max retries"):
        projection.sync(root, "tiny", uri)
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    process = serve(tmp_path, port)
    try:
        projection.sync(root, "tiny", uri)
        found = histories(uri)
    finally:
        end(process)
    projection.sync(root, "tiny")
    assert found == histories(projection.default_uri(root))


def test_ui_refuses_what_cannot_be(tmp_path):
    with pytest.raises(BadInput, match="nothing is synced"):
        projection.ui(tmp_path, 5000)
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(BadInput, match="--port: 70000 is out of range"):
        projection.ui(tmp_path, 70000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="cannot be used"):
            projection.ui(tmp_path, taken.getsockname()[1])


def test_ui_answers_on_loopback(root):
    projection.sync(root, "tiny")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench", "ui", "--root", str(root), "--port", str(port)], cwd=ROOT, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        from urllib.request import urlopen

        until, page = time.monotonic() + 240, ""
        while not page and time.monotonic() < until:
            try:
                page = urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
            except OSError:
                time.sleep(0.3)
        assert "MLflow" in page
    finally:
        end(process)
