"""The way to an MLflow store: one writer at a time, addresses, and real servers that die, lag or refuse."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from beside import said_beside
from mlflow import MlflowClient
from projected import CELL, ROOT, by_run, content, end, free_port, histories, live, planned, serve, write

from bench.errors import BadInput
from bench.tracking import results, sync
from bench.tracking import store as mlflow_store
from reports.records.lease import Lease


def test_a_creation_that_was_sent_twice_leaves_one_run(root, second, monkeypatch):
    """The first answer got lost, so the client asked again; the same for a run's parent."""
    create = MlflowClient.create_run
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lambda *a, **k: (create(*a, **k), create(*a, **k))[1])
        sync.sync(root, "tiny")
    assert len(live(sync.default_uri(root))) == 6
    write(second.folder(root), second.config, 6, done=True)
    sync.sync(root, "tiny")
    facts, points, _ = content(root)
    assert len(facts) == 3 and all(facts[name][3] == CELL for name in facts if name != CELL)
    assert len(points[second.id, "loss"]) == 6


def test_two_at_the_same_moment(bare):
    """On a database that is not there yet; the one that waits says for whom."""
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(bare)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and len(by_run(sync.default_uri(bare))) == 3
    assert all(len(v) == len(set(v)) for v in histories(sync.default_uri(bare)).values())
    assert any(
        f"sync: process {process.pid} on {socket.gethostname()} is writing to MLflow" in text
        for process in processes
        for text in said
    ), said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_watch_that_waits_for_its_turn_can_be_ended(root, number, code):
    """By Ctrl-C at once; SIGTERM asks for a last pass, which has its turn."""
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(root), "--watch", "1"]
    with Lease(root / ".mlflow.lease"):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert "waiting for it" in process.stderr.readline()
        process.send_signal(number)
        if code:
            assert process.wait(20) == code and "what is missing comes with the next sync" in process.stderr.read()
    assert process.wait(120) == code
    assert code or len(by_run(sync.default_uri(root))) == 3


def test_a_last_pass_does_not_wait_for_ever(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mlflow_store, "LAST", 0.2)
    told = mlflow_store.one_writer(tmp_path, [signal.SIGTERM])
    with mlflow_store.one_writer(tmp_path), pytest.raises(KeyboardInterrupt), told:
        pass
    said = capsys.readouterr().err
    assert f"process {os.getpid()} on " in said and "what is missing comes with the next sync" in said


def test_a_pass_that_was_killed_keeps_nobody_waiting(root):
    """kill -9 leaves its lease behind; the next pass takes it at once and says nothing."""
    code = "import sys, time\nfrom bench.tracking.store import one_writer\n"
    code += "with one_writer(sys.argv[1]): print(1, flush=True); time.sleep(600)"
    killed = subprocess.Popen([sys.executable, "-c", code, root], cwd=ROOT, stdout=subprocess.PIPE)
    killed.stdout.readline()
    killed.kill()
    killed.communicate()
    assert (root / ".mlflow.lease").is_file()
    begun = time.monotonic()
    with mlflow_store.one_writer(root):
        assert time.monotonic() - begun < 5


def test_a_pass_that_lost_its_lease_stops(root, monkeypatch):
    """A machine that slept: another process took the lease over; what was projected until then stays."""
    lease, project_cell = root / ".mlflow.lease", results.project_cell

    def overtaken(*args):
        lease.write_text(lease.read_text().replace(f"pid={os.getpid()}", "pid=1"))
        return project_cell(*args)

    monkeypatch.setattr(results, "project_cell", overtaken)
    with pytest.raises(sync.Unreachable, match=r"another process writes to MLflow now .*taken over by process 1 on"):
        sync.sync(root, "tiny")
    monkeypatch.undo()
    lease.unlink(missing_ok=True)
    assert sync.sync(root, "tiny").changed == 2


def test_a_server_killed_in_the_middle_loses_and_duplicates_nothing(root, second, schema, monkeypatch):
    """kill -9 with the points of a run in and its tags not; the run goes back and on before the server returns."""
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
    with pytest.raises(sync.Unreachable, match="stopped answering; nothing is lost"):
        sync.sync(root, "tiny", uri)
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with pytest.raises(sync.Unreachable, match="does not answer"):
        sync.sync(root, "tiny", uri)
    for run in planned(root)[:2]:
        write(run.folder(root), run.config, 6, done=True, clock=5000.0)
    process = serve(root, port)
    try:
        sync.sync(root, "tiny", uri)
        assert sync.sync(root, "tiny", uri).changed == 0
        found, names = histories(uri, clock=False), set(by_run(uri))
    finally:
        end(process)
    sync.sync(root, "tiny")
    assert found == histories(sync.default_uri(root), clock=False) and len(names) == 3


class Slow(BaseHTTPRequestHandler):
    """Hands requests on to a server; the answer of every third comes too late, after the client has gone."""

    target, late, count = 0, 1.5, 0

    def _pass(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(
            f"http://127.0.0.1:{self.target}{self.path}",
            body or None,
            method=self.command,
            headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
        )
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
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    shutil.copy(schema, root / "server.db")
    Slow.target = free_port()
    process = serve(root, Slow.target)
    slow = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=slow.serve_forever, daemon=True).start()

    def project():
        for _ in range(20):
            try:
                return sync.sync(root, "tiny", f"http://127.0.0.1:{slow.server_port}")
            except sync.Unreachable:
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
    sync.sync(root, "tiny")
    assert found == histories(sync.default_uri(root), clock=False)


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


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (403, "<html>\nno</html>", "refuses with status 403"),
        (404, "<html></html>", "refuses with status 404"),
        (401, '{"error_code": "UNAUTHENTICATED", "message": "who\\nare you"}', "refuses: UNAUTHENTICATED: who are you"),
        (403, '{"detail": "keep out"}', "refuses: {'detail': 'keep out'}"),
        (503, "later", "answers with status 503; nothing is lost, sync again"),
        (200, "<html>\nlog in</html>", "answers, but not as an MLflow server does"),
        (200, "{}", "answers, but not as an MLflow server does"),
        (200, '{"experiment": 3}', "answers, but not as an MLflow server does"),
    ],
)
def test_a_server_that_refuses_is_one_line_that_says_so(root, monkeypatch, status, body, message):
    """Of the kind after which `sync --watch` goes on: proxies come and go."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "body", body.encode())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(
            sync.Unreachable,
            match=f"tracking address: http://me:\\*\\*\\*@127.0.0.1:{server.server_port} {message}",
        ) as caught:
            sync.sync(root, "tiny", f"http://me:secret@127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value) and "restore" not in str(caught.value)


def test_a_proxy_that_is_in_the_way_is_named(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(sync.Unreachable, match="through the proxy of this environment; name its host in no_proxy"):
            sync.sync(root, "tiny", f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://x", "tracking address: 'ftp://x' is unknown; choose from sqlite"),
        ("http://127.0.0.1:1", "does not answer"),
        ("http://127.0.0.1:x", "does not answer"),
        ("sqlite:", "sqlite: cannot be used .*choose from sqlite:///FILE"),
        (
            "postgresql://me:secret@h/d",
            r"postgresql://me:\*\*\*@h/d cannot be used \(No module named 'psycopg'\); choose from",
        ),
        ("mysql://h/d", "cannot be used .No module named"),
        ("sqlite:////nowhere/at/all.db", "cannot be used .*unable to open.*choose another --tracking$"),
        ("sqlite:////dev/null/x", "cannot be used .*choose another --tracking$"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(root, uri, message):
    with pytest.raises(BadInput, match=message) as caught:
        sync.sync(root, "tiny", uri)
    assert "\n" not in str(caught.value)


def test_an_environment_and_a_root_with_a_percent_in_their_names(bare, tmp_path):
    """MLflow takes it for a pattern of its settings, and for the beginning of a code in an address."""
    packages, root = tmp_path / "100% #1", tmp_path / "50%? ü"
    packages.symlink_to(Path(pytest.__file__).parents[1])
    shutil.copytree(bare / "tiny", root / "tiny")
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(root)]
    told = os.environ | {"PYTHONPATH": str(packages)}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert done.returncode == 0 and "2 runs, 2 changed" in done.stdout, done.stderr
    assert (root / "mlflow.db").is_file() and not (tmp_path / "50%25%3F ü").exists()


def test_an_experiment_deleted_in_mlflow_is_one_line(root):
    sync.sync(root, "tiny")
    client = MlflowClient(sync.default_uri(root))
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    with pytest.raises(
        BadInput, match="experiment 'tiny' was deleted in MLflow; bring it back with: mlflow experiments restore"
    ):
        sync.sync(root, "tiny")


def statement(path, *statements):
    connection = sqlite3.connect(path)
    for each in statements:
        connection.execute(each)
    connection.commit()
    connection.close()


def version(name):
    return lambda path: statement(path, f"update alembic_version set version_num = '{name}'")


def of_a_newer_one_with_other_tables(path):
    statement(path, "drop table tags", "update alembic_version set version_num = 'ffffffffffff'")


def folder(path):
    path.unlink()
    path.mkdir()


SPOILED = {  # what becomes of mlflow.db, and what is said of it
    "newer": (version("ffffffffffff"), "is of another MLflow version: found version ffffffffffff, but expected "),
    "older": (version("451aebb31d03"), "is of another MLflow version: found version 451aebb31d03, but expected "),
    "newer, other tables": (of_a_newer_one_with_other_tables, "is of another MLflow version: Can't locate revision"),
    "without a version": (lambda path: statement(path, "delete from alembic_version"), "found version None"),
    "of other columns": (
        lambda path: statement(path, "alter table runs rename column lifecycle_stage to stage"),
        "cannot be used .*no such column",
    ),
    "no database": (lambda path: path.write_text("not a database, but long enough " * 99), "not a database"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:20000]), "malformed"),
    "a folder": (folder, "unable to open database file"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_database_that_cannot_be_used_is_one_line_that_says_how_to_make_it_again(root, kind, capfd):
    """To `sync` and `ui`; it is no matter of waiting."""
    spoil, message = SPOILED[kind]
    database = root / "mlflow.db"
    spoil(database)
    do = f"it is a projection of the run folders: move {database} away and make it again with: python -m bench sync"
    with pytest.raises(BadInput, match=f"{message}.*; {do} SUITE$") as caught:
        sync.sync(root, "tiny")
    assert type(caught.value) is BadInput and "\n" not in str(caught.value)
    if kind in ("newer", "a folder"):
        with pytest.raises(BadInput, match=f"{message}.*; {do} SUITE$"):
            sync.ui(root, free_port())
    assert "Traceback" not in capfd.readouterr().err


def test_a_database_that_may_only_be_read_is_one_line(root, capfd):
    with pytest.raises(BadInput, match=r"attempt to write a readonly database\); choose another --tracking$"):
        sync.sync(root, "tiny", f"sqlite:///file:{root / 'mlflow.db'}?mode=ro&uri=true")
    assert "Traceback" not in capfd.readouterr().err


def test_a_locked_database_is_waited_for(root, capfd):
    """Also one that another program locks in the middle of a pass."""
    uri = sync.default_uri(root) + "?timeout=0.1"
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(sync.Unreachable, match=r"locked\); nothing is lost, sync again when it can be written to$"):
            sync.sync(root, "tiny", uri)
    assert sync.sync(root, "tiny", uri).changed == 2 and "Traceback" not in capfd.readouterr().err


def test_a_fault_of_ours_in_a_database_keeps_its_traceback(root, monkeypatch):
    """What MLflow refuses of what we send is no fault of the database."""
    from mlflow.exceptions import MlflowException

    monkeypatch.setattr(mlflow_store, "NAME", "no/\n:name")
    with pytest.raises(MlflowException), mlflow_store.connect(sync.default_uri(root)) as client:
        client.create_experiment("")


def test_training_goes_on_without_a_database_that_cannot_be_used_after_one_line(root):
    """The watcher beside it ends: only a person can mend that."""
    version("ffffffffffff")(root / "mlflow.db")
    said = said_beside("tiny", root, 0.1)
    assert said.startswith("sync: tracking address: sqlite:///") and said.count("\n") == 1, said


def test_a_watcher_says_once_that_a_database_is_locked_and_goes_on(root):
    uri = sync.default_uri(root) + "?timeout=0.1"
    command = [sys.executable, "-m", "bench", "sync", "tiny", "--root", str(root), "--watch", "0.1", "--tracking", uri]
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "database is locked" in process.stderr.readline()
        time.sleep(2)
    assert "2 changed" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
