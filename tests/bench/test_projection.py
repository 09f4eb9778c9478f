"""The projection into MLflow, against a real sqlite store and a real server."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from mlflow import MlflowClient

from bench import lock, mlflow_store, projection
from bench import suite as suites
from bench.errors import BadInput
from bench.eventlog import encode
from bench.plan import plan, publish
from reports.reading import summarize

ROOT = Path(__file__).parents[2]
CELL = "cell digits/uvit-xs"
WRITES = ("create_experiment", "create_run", "log_batch", "log_inputs", "log_artifact", "log_artifacts", "set_terminated",
          "update_run", "delete_run")  # every request of ours that changes something


@pytest.fixture(scope="session")
def schema(tmp_path_factory):
    """An empty database, made once: MLflow takes seconds to create its tables."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def bare(tmp_path, tiny):
    """A published suite with one finished and one running run, their logs written as a trainer would."""
    suite = suites.load(tiny())
    runs = plan(suite)
    publish(suite, runs, tmp_path)
    write(runs[0].folder(tmp_path), runs[0].config, 6, done=True)
    write(runs[1].folder(tmp_path), runs[1].config, 3)
    return tmp_path


@pytest.fixture
def root(bare, schema):
    shutil.copy(schema, bare / "mlflow.db")
    return bare


@pytest.fixture
def second(root):
    """The run that is under way."""
    return plan(suites.load(str(root / "tiny.yaml")))[1]


def write(folder, config, steps, done=False, clock=1000.0, status="complete", start=1000.0, loss=1.0):
    """What a trainer leaves after `steps` evaluations; a run that is not done has a living owner. A resumed one keeps `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    events = [{"event": "start", "images": 0, "time": start, "data_digest": "d" * 64, "params": 7, "host": "here"}]
    for i in range(1, steps + 1):
        events.append({"event": "train", "images": 32 * i, "time": clock + i, "seconds": float(i), "loss": loss / i,
                       "lr": 0.1, "grad_norm": 2.0})
        events.append({"event": "eval", "images": 32 * i, "time": clock + i + 0.5, "seconds": float(i),
                       "fid": 9.0 / i if i != 2 else float("nan"), "eval_seconds": 0.1, "draws": "a", "nfe": 2, "samples": 128})
    (folder / "lock").write_text(json.dumps(lock.me()))
    if done:
        reason = {"reason": "loss is nan"} if status == "diverged" else {}
        events.append({"event": "end", "images": 32 * steps, "time": clock + steps + 1, "seconds": float(steps),
                       "status": status, **reason})
        (folder / "samples").mkdir(exist_ok=True)
        for name in ("000000000096.png", "000000000192.png"):
            (folder / "samples" / name).write_bytes(b"png")
        (folder / "result.json").write_text(json.dumps(summarize(config, [json.loads(encode(e)) for e in events])))
        (folder / "lock").unlink()
    (folder / "events.jsonl").write_text("".join(encode(e) + "\n" for e in events))


def live(uri):
    """All MLflow runs of the suite that are not deleted."""
    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("tiny").experiment_id])


def by_run(uri):
    found = {run.data.tags["skipbench.run"]: run for run in live(uri)}
    assert len(found) == len(live(uri))  # no twins
    return found


def histories(uri, clock=True):
    """Every point of every run: (run, key) -> [(step, value, timestamp)...]; clock=False leaves out what a clock decides."""
    client, found = MlflowClient(uri), {}
    for name, run in by_run(uri).items():
        for key in run.data.metrics:
            points = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
            found[name, key] = sorted(points if clock else [point[:2] for point in points])
    return found


def content(root, uri=None):
    """What a store says in the end, whatever way it came about."""
    uri = uri or projection.default_uri(root)
    runs = by_run(uri)
    names = {run.info.run_id: name for name, run in runs.items()}
    ours = ("skipbench.", "mlflow.user", "mlflow.source", "mlflow.parent")
    facts = {name: (run.info.status, run.data.params, [d.dataset.digest for d in run.inputs.dataset_inputs],
                    names.get(run.data.tags.get("mlflow.parentRunId")),
                    {k: v for k, v in run.data.tags.items() if not k.startswith(ours)}) for name, run in runs.items()}
    artifacts = {name: sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
                 for name, run in runs.items() if (folder := Path(run.info.artifact_uri.removeprefix("file://"))).is_dir()}
    return facts, histories(uri, clock=False), artifacts


def test_curves_params_tags_and_datasets(root):
    projection.sync(root, "tiny")
    uri = projection.default_uri(root)
    runs = by_run(uri)
    first = next(run for name, run in runs.items() if "s100" in name)
    assert first.info.status == "FINISHED" and first.data.tags["status"] == "complete"
    assert {"suite", "dataset", "backbone", "method", "seed", "role", "pair", "protocol", "run", "hash"} <= set(first.data.tags)
    assert first.data.tags["method"] == "none" and first.info.run_name == "digits uvit-xs none seed 100 (pilot)"
    assert first.data.params["optimizer.lr"] == "0.001" and first.inputs.dataset_inputs[0].dataset.name == "digits"
    assert first.data.tags["mlflow.parentRunId"] == runs[CELL].info.run_id
    points = histories(uri)[first.data.tags["skipbench.run"], "frechet_small-conv"]
    assert [(step, value) for step, value, _ in points] == [(32 * i, 9.0 / i) for i in (1, 3, 4, 5, 6)]  # nan is no number
    assert points[0][2] == 1001500 and first.data.tags["not_finite"] == "frechet_small-conv: nan at 64 images"
    assert next(run for name, run in runs.items() if "s101" in name).info.status == "RUNNING"
    assert content(root)[2] == {first.data.tags["run"]: ["samples/000000000192.png"]}  # the last grid only


def test_inception_alone_is_called_fid():
    event = {"event": "eval", "images": 1, "time": 1.0, "fid": 2.0}
    assert [projection.metrics([event], name)[0].key for name in ("inception", "small-conv")] == ["fid", "frechet_small-conv"]


def test_again_changes_nothing_and_more_is_added(root, second):
    assert projection.sync(root, "tiny").changed == 2
    before = histories(projection.default_uri(root))
    assert projection.sync(root, "tiny").changed == 0
    assert histories(projection.default_uri(root)) == before
    write(second.folder(root), second.config, 6, done=True)
    summary = projection.sync(root, "tiny")
    assert (summary.changed, summary.points) == (1, 3 * 6)
    assert len(histories(projection.default_uri(root))[second.id, "loss"]) == 6


def test_a_resumed_log_with_other_clocks_gives_no_duplicate(root, second):
    projection.sync(root, "tiny")
    write(second.folder(root), second.config, 2, clock=5000.0)  # cut back to a checkpoint and written again
    path, resumed = second.folder(root) / "events.jsonl", encode({"event": "resume", "images": 64, "time": 5003.0, "note": ""}) + "\n"
    path.write_text(path.read_text() + resumed)
    projection.sync(root, "tiny")
    write(second.folder(root), second.config, 6, done=True, clock=5000.0)
    path.write_text(path.read_text().replace('{"event": "end"', resumed + '{"event": "end"'))
    projection.sync(root, "tiny")
    assert [step for step, *_ in histories(projection.default_uri(root))[second.id, "loss"]] == [32 * i for i in range(1, 7)]


def test_a_torn_last_line_waits(root, second):
    path = second.folder(root) / "events.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-30])
    projection.sync(root, "tiny")
    path.write_text(whole)
    projection.sync(root, "tiny")
    assert len(histories(projection.default_uri(root))[second.id, "frechet_small-conv"]) == 2


def test_what_is_not_finite_stays_named(root, second):
    """A later pass adds to the tag and does not replace it; nothing of it is a number."""
    projection.sync(root, "tiny")
    write(second.folder(root), second.config, 6, done=True, status="diverged")
    path = second.folder(root) / "events.jsonl"
    path.write_text(path.read_text().replace('"loss": 0.2,', '"loss": "inf",'))
    projection.sync(root, "tiny")
    run = by_run(projection.default_uri(root))[second.id]
    assert run.data.tags["not_finite"] == "frechet_small-conv: nan at 64 images; loss: inf at 160 images"
    assert (run.info.status, run.data.tags["status"], run.data.tags["reason"]) == ("FAILED", "diverged", "loss is nan")
    assert 160 not in [step for step, *_ in histories(projection.default_uri(root))[second.id, "loss"]]


def test_a_killed_run_does_not_run_for_ever_and_may_come_back(root, second):
    def status():
        projection.sync(root, "tiny")
        return by_run(projection.default_uri(root))[second.id].info.status

    path = second.folder(root) / "lock"
    path.write_text(json.dumps(lock.me() | {"started": "0"}))  # its process is gone
    assert status() == "KILLED"
    path.write_text(json.dumps(lock.me()))
    assert status() == "RUNNING"
    path.write_text("torn")
    assert status() == "KILLED"
    (second.folder(root) / "error.json").write_text("{}")
    assert status() == "FAILED"


# A pass that ends anywhere ---------------------------------------------------------------------------------------------


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
    row = {"cell": "digits/uvit-xs", "method": "learnable(r=4)", "withheld": "", "speedup": 1.25, "low": 1.1, "high": None}
    rows = [row, {**row, "method": "A/A", "withheld": "gate failed"}, {**row, "cell": "other", "speedup": 9}]
    (report / "report.json").write_text(json.dumps({"comparisons": rows}))
    return report


def test_a_pass_that_dies_after_any_request_loses_and_duplicates_nothing(root, second, schema, monkeypatch):
    """And the run is cut back and written again under other clocks before the next pass."""
    with_report(root)
    with monkeypatch.context() as patch:
        requests = die_after(patch, 0)
        projection.sync(root, "tiny")
        write(second.folder(root), second.config, 6, done=True)
        projection.sync(root, "tiny")
    expected = content(root)
    for k in range(1, len(requests) + 1):
        shutil.rmtree(root / "mlartifacts")
        shutil.copy(schema, root / "mlflow.db")
        shutil.rmtree(second.folder(root))
        write(second.folder(root), second.config, 3)
        with monkeypatch.context() as patch:
            die_after(patch, k)
            with pytest.raises(Died):
                projection.sync(root, "tiny")
                write(second.folder(root), second.config, 6, done=True)
                projection.sync(root, "tiny")
        shutil.rmtree(second.folder(root))
        write(second.folder(root), second.config, 1, clock=5000.0)  # fewer events than may have been sent
        projection.sync(root, "tiny")
        write(second.folder(root), second.config, 6, done=True, clock=5000.0)
        projection.sync(root, "tiny")
        assert content(root) == expected, (k, requests[k - 1])


def test_a_creation_that_was_sent_twice_leaves_one_run(root, second, monkeypatch):
    """The first answer got lost, so the client asked again; the same for a run's parent."""
    create = MlflowClient.create_run
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lambda *a, **k: (create(*a, **k), create(*a, **k))[1])
        projection.sync(root, "tiny")
    assert len(live(projection.default_uri(root))) == 6
    write(second.folder(root), second.config, 6, done=True)
    projection.sync(root, "tiny")
    facts, points, _ = content(root)
    assert len(facts) == 3 and all(facts[name][3] == CELL for name in facts if name != CELL)
    assert len(points[second.id, "loss"]) == 6


def test_two_at_the_same_moment(bare):
    """On a database that is not there yet; the one that waits says for whom."""
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(bare)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and len(by_run(projection.default_uri(bare))) == 3
    assert all(len(v) == len(set(v)) for v in histories(projection.default_uri(bare)).values())
    assert any(f"sync: process {process.pid} is writing to MLflow" in text for process in processes for text in said)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_watch_that_waits_for_its_turn_can_be_ended(root, number, code):
    """By Ctrl-C at once; SIGTERM asks for a last pass, which has its turn."""
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(root), "--watch", "1"]
    with (root / ".mlflow.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert "waiting for it" in process.stderr.readline()
        process.send_signal(number)
        if code:
            assert process.wait(20) == code and "what is missing comes with the next sync" in process.stderr.read()
    assert process.wait(120) == code
    assert code or len(by_run(projection.default_uri(root))) == 3


def test_a_last_pass_does_not_wait_for_ever(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mlflow_store, "LAST", 0.2)
    with mlflow_store.one_writer(tmp_path), pytest.raises(KeyboardInterrupt), mlflow_store.one_writer(tmp_path, [signal.SIGTERM]):
        pass
    assert f"process {os.getpid()} is writing" in capsys.readouterr().err


def test_the_database_can_be_made_again(root, schema):
    projection.sync(root, "tiny")
    before = content(root)
    shutil.copy(schema, root / "mlflow.db")
    shutil.rmtree(root / "mlartifacts")
    projection.sync(root, "tiny")
    assert content(root) == before


@pytest.mark.parametrize("request_number", [1, 2, 4])
def test_a_run_that_was_trained_again_is_projected_anew(root, second, monkeypatch, request_number):
    """Other numbers under the same name; also where the pass dies in the middle of it."""
    projection.sync(root, "tiny")
    shutil.rmtree(second.folder(root))
    write(second.folder(root), second.config, 3, start=7000.0, loss=2.0)
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_after(patch, request_number)
        projection.sync(root, "tiny")
    again = projection.sync(root, "tiny")
    assert again.changed == 1 and again.points <= 3 * 6 - 1
    shutil.rmtree(second.folder(root))
    write(second.folder(root), second.config, 3, start=8000.0, loss=2.0)
    summary = projection.sync(root, "tiny")
    assert (summary.changed, summary.points, summary.anew) == (1, 3 * 6 - 1, 1) and "1 that were trained again" in str(summary)
    assert [value for _, value, _ in histories(projection.default_uri(root))[second.id, "loss"]] == [2.0, 1.0, 2.0 / 3]
    assert projection.sync(root, "tiny").changed == 0


def test_two_sweeps_of_one_name_do_not_mix(root, second, tmp_path_factory):
    """In one line that names the other, before anything is written; a copy or a moved root is the same sweep."""
    uri, copy, other = projection.default_uri(root), tmp_path_factory.mktemp("copy") / "runs", tmp_path_factory.mktemp("other")
    projection.sync(root, "tiny")
    shutil.copytree(root, copy)
    shutil.copytree(root / "tiny", other / "tiny")
    assert projection.sync(copy, "tiny", uri).changed == 0
    assert projection.sync(other, "tiny", uri).points == 0  # the folder of the suite alone, in another root
    projection.sync(root, "tiny", uri)
    before = content(root)
    write(second.folder(other), second.config, 6, done=True, start=7000.0, loss=2.0)
    with pytest.raises(BadInput, match=f"MLflow has another training of {second.id}, synced from .*:{root}/tiny; two sweeps") as caught:
        projection.sync(other, "tiny", uri)
    assert "\n" not in str(caught.value) and content(root) == before
    write(second.folder(copy), second.config, 3, start=8000.0, loss=3.0)  # moved, and trained again there
    assert projection.sync(copy, "tiny", uri).anew == 1


@pytest.mark.parametrize("name", ["a b", "100%25", "why?", "a#b", "ä"])
def test_a_root_of_any_name(root, tmp_path_factory, name):
    moved = tmp_path_factory.mktemp("odd") / name
    shutil.copytree(root, moved)
    projection.sync(moved, "tiny")
    assert len(by_run(projection.default_uri(moved))) == 3 and list((moved / "mlartifacts").rglob("000000000192.png"))


# Cells ------------------------------------------------------------------------------------------------------------------


def test_results_of_a_cell_become_metrics_once(root):
    report, uri = with_report(root), projection.default_uri(root)
    projection.sync(root, "tiny")
    cell = by_run(uri)[CELL]
    assert cell.data.metrics == {"speedup learnable_r_4": 1.25, "low learnable_r_4": 1.1}
    assert cell.data.tags["withheld"] == "A/A: gate failed"
    assert content(root)[2][CELL] == ["index.html", "tables/speedup.md"]
    (report / "report.json").write_text((report / "report.json").read_text() + "\n")  # written again, same numbers
    os.utime(report / "report.json", (9e8, 9e8))
    projection.sync(root, "tiny")
    assert len(histories(uri)[CELL, "speedup learnable_r_4"]) == 1


@pytest.mark.parametrize("text", ["", '{"comparisons": [', "[]", '{"comparisons": [null, {"cell": "digits/uvit-xs", "method": 3, "speedup": "inf"}]}'])
def test_a_report_that_is_half_written_or_strange_is_no_error(root, text):
    (with_report(root) / "report.json").write_text(text)
    projection.sync(root, "tiny")
    assert by_run(projection.default_uri(root))[CELL].data.metrics == {}


# Servers ----------------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db",
               "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = os.environ | mlflow_store.QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 240
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    end(process)
    raise AssertionError("the server did not come up")


def end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)  # the session that this test started, and nothing else
    except ProcessLookupError:
        pass
    process.wait()


def test_a_server_killed_in_the_middle_loses_and_duplicates_nothing(root, second, schema, monkeypatch):
    """kill -9 with the points of a run in and its watermark not; the run goes back and on before the server returns."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    shutil.copy(schema, root / "server.db")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    process = serve(root, port)
    log_batch = MlflowClient.log_batch

    def dying(self, run_id, metrics=(), **kwargs):
        log_batch(self, run_id, metrics=metrics, **kwargs)
        if any(metric.key == "loss" for metric in metrics):
            end(process)

    monkeypatch.setattr(MlflowClient, "log_batch", dying)
    with pytest.raises(projection.Unreachable, match="stopped answering; nothing is lost"):
        projection.sync(root, "tiny", uri)
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with pytest.raises(projection.Unreachable, match="does not answer"):
        projection.sync(root, "tiny", uri)
    for run in plan(suites.load(str(root / "tiny.yaml")))[:2]:
        write(run.folder(root), run.config, 6, done=True, clock=5000.0)
    process = serve(root, port)
    try:
        projection.sync(root, "tiny", uri)
        assert projection.sync(root, "tiny", uri).changed == 0
        found, names = histories(uri, clock=False), set(by_run(uri))
    finally:
        end(process)
    projection.sync(root, "tiny")
    assert found == histories(projection.default_uri(root), clock=False) and len(names) == 3


class Slow(BaseHTTPRequestHandler):
    """Hands requests on to a server; the answer of every third comes too late, after the client has gone."""

    target, late, count = 0, 3.0, 0

    def _pass(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(f"http://127.0.0.1:{self.target}{self.path}", body or None, method=self.command,
                          headers={"Content-Type": self.headers.get("Content-Type", "application/json")})
        try:
            with urlopen(request, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except HTTPError as error:
            status, content = error.code, error.read()
        Slow.count += 1
        if Slow.count % 3 == 0:
            time.sleep(self.late)
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass

    do_GET = do_POST = do_PATCH = do_PUT = _pass

    def log_message(self, *words):
        pass


def test_a_slow_server_gets_nothing_twice(root, second, schema, monkeypatch):
    """A request whose answer does not come in time was done all the same; it is sent again."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    shutil.copy(schema, root / "server.db")
    Slow.target = free_port()
    process = serve(root, Slow.target)
    slow = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=slow.serve_forever, daemon=True).start()

    def project():
        for _ in range(20):
            try:
                return projection.sync(root, "tiny", f"http://127.0.0.1:{slow.server_port}")
            except projection.Unreachable:
                continue
        raise AssertionError("never done")

    try:
        project()
        write(second.folder(root), second.config, 6, done=True)
        project()
        found = histories(f"http://127.0.0.1:{Slow.target}", clock=False)
    finally:
        slow.shutdown()
        end(process)
    assert Slow.count > 10
    projection.sync(root, "tiny")
    assert found == histories(projection.default_uri(root), clock=False)


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with the same."""

    status, body = 200, b""

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *words):
        pass


@pytest.mark.parametrize(("status", "body", "message"), [
    (403, "<html>\nno</html>", "refuses with status 403"), (404, "<html></html>", "refuses with status 404"),
    (401, '{"error_code": "UNAUTHENTICATED", "message": "who\\nare you"}', "refuses with status 401: UNAUTHENTICATED: who are you"),
    (403, '{"detail": "keep out"}', "refuses: {'detail': 'keep out'}"),
    (503, "later", "answers with status 503; nothing is lost, sync again"),
    (200, "<html>\nlog in</html>", "answers, but not as an MLflow server does"), (200, "{}", "answers, but not as an MLflow server does"),
    (200, '{"experiment": 3}', "answers, but not as an MLflow server does")])
def test_a_server_that_refuses_is_one_line_that_says_so(root, monkeypatch, status, body, message):
    """Of the kind after which `sync --watch` goes on: proxies come and go."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "body", body.encode())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(projection.Unreachable, match=f"tracking address: http://me:\\*\\*\\*@127.0.0.1:{server.server_port} {message}") as caught:
            projection.sync(root, "tiny", f"http://me:secret@127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value) and "restore" not in str(caught.value)


@pytest.mark.parametrize(("uri", "message"), [
    ("ftp://x", "tracking address: 'ftp://x' is unknown; choose from sqlite"), ("http://127.0.0.1:1", "does not answer"),
    ("http://127.0.0.1:x", "does not answer"), ("sqlite:", "'sqlite:' is no database's .*choose from sqlite:///FILE"),
    ("postgresql://me:secret@h/d", r"postgresql://me:\*\*\*@h/d needs the Python module psycopg"), ("mysql://h/d", "needs the Python module"),
    ("sqlite:////nowhere/at/all.db", "cannot be opened .*unable to open"), ("sqlite:////dev/null/x", "cannot be opened"),
    (f"sqlite:///{__file__}", "cannot be opened .*not a database")])
def test_an_address_that_leads_nowhere_is_one_line(root, uri, message):
    with pytest.raises(BadInput, match=message) as caught:
        projection.sync(root, "tiny", uri)
    assert "\n" not in str(caught.value)


def test_an_experiment_deleted_in_mlflow_is_one_line(root):
    projection.sync(root, "tiny")
    client = MlflowClient(projection.default_uri(root))
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    with pytest.raises(BadInput, match="experiment 'tiny' was deleted in MLflow; bring it back with: mlflow experiments restore"):
        projection.sync(root, "tiny")


def test_neither_mlflow_nor_torch_is_imported_before_it_is_needed():
    code = "import sys; from bench import projection; print([m for m in ('mlflow', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_ui_refuses_what_cannot_be(tmp_path):
    with pytest.raises(BadInput, match="nothing is synced"):
        projection.ui(tmp_path, 5000)
    with pytest.raises(BadInput, match="'ftp://x' is unknown"):
        projection.ui(tmp_path, 5000, "ftp://x")
    (tmp_path / "mlflow.db").touch()
    for port in (70000, 0, -1):
        with pytest.raises(BadInput, match=f"--port: {port} is out of range"):
            projection.ui(tmp_path, port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="cannot be used"):
            projection.ui(tmp_path, taken.getsockname()[1])


def test_ui_answers_on_loopback_and_leaves_nothing_behind(root):
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench", "ui", "--root", str(root), "--port", str(port)], cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    from urllib.request import urlopen

    until, page = time.monotonic() + 240, ""
    while not page and time.monotonic() < until:
        try:
            page = urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
        except OSError:
            time.sleep(0.2)
    process.terminate()
    assert "MLflow" in page and process.wait(30) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_cell_links_to_the_curves_of_each_pair(root):
    """Of the runs that were there when the pass began: the second pass knows them."""
    for run in plan(suites.load(str(root / "tiny.yaml"))):
        if run.pair in (0, 1):
            write(run.folder(root), run.config, 3, done=True)
    for _ in range(2):
        projection.sync(root, "tiny")
    client = MlflowClient(projection.default_uri(root))
    experiment = client.get_experiment_by_name("tiny").experiment_id
    cell, = client.search_runs([experiment], "tags.role = 'cell'")
    first, second = cell.data.tags["mlflow.note.content"].split("[seed 1]")
    arms = [run for run in client.search_runs([experiment]) if run.data.tags["role"] in ("paired", "null")]
    assert "[seed 0](#/metric?runs=" in first and "metric=%22frechet_small-conv%22" in first
    assert len(arms) == 6  # two pairs of two arms and a null run
    for run in arms:
        assert run.info.run_id in (first if run.data.tags["pair"] == "0" else second)
