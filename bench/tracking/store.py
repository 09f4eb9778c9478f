"""An MLflow store: its address, a client without noise or telemetry, the one writer, an experiment, the pages."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.errors import BadInput, unknown
from reports.records.files import read_json, write_json
from reports.records.lease import Held, Lease, owner
from reports.records.suite_records import SuiteRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

NAME = "skipbench.run"  # tag: the run folder, or `cell DATASET/BACKBONE`, that an MLflow run stands for
NOTE = "mlflow.note.content"  # tag: what MLflow shows as the description of a run or an experiment, in Markdown
KIND = {"mlflow.experimentKind": "custom_model_development"}  # tag: among the experiments of model training
MODELS = "workflowType=machine_learning"  # of an address: show what belongs to model training
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
OFFERED = ("sqlite:///FILE", "http://HOST:PORT", "https://...", "postgresql://... and the like with a driver installed")
SERVER = ("http://", "https://")  # how the address of a tracking server begins
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing phones out
LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # pages need no runner of background jobs
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}  # by default it waits minutes for a server that went away
LAST = 60.0  # seconds that a process told by SIGTERM to do a last pass waits for its turn


class Unreachable(BadInput):
    """The store cannot be written to now. The run folders have it all: a later sync goes on where this one ended."""


def default_uri(root: Path) -> str:
    """A sqlite file beside the runs. `%` and `?` mean something else in such an address."""
    path = str(Path(root).resolve() / "mlflow.db")
    driver = "+pysqlite" if {"%", "?"} & set(path) else ""  # else MLflow makes a folder of the quoted name, too
    return f"sqlite{driver}:///" + path.replace("%", "%25").replace("?", "%3F")


@contextmanager
def one_writer(root: Path, stop: Sequence[int] = ()) -> Iterator[Lease]:
    """Own ROOT/.mlflow.lease; says whom it waits for. Unreachable if `check` of the lease finds it lost.

    stop: signals received so far; KeyboardInterrupt ends the wait at SIGINT, and LAST seconds after SIGTERM.
    """
    lease, deadline = Lease(Path(root) / ".mlflow.lease", cancel=lambda: signal.SIGINT in stop), math.inf
    with ExitStack() as stack:
        for waited in itertools.count():
            with suppress(Held):
                stack.enter_context(lease)
                break
            time.sleep(0.5)
            if not waited:
                whom = owner(lease.path) or "another process"
                print(f"sync: {whom} is writing to MLflow for {root}; waiting for it", file=sys.stderr, flush=True)
            deadline = min(deadline, time.monotonic() + LAST if stop else math.inf)
            if signal.SIGINT in stop or time.monotonic() > deadline:
                print("sync: told to end while waiting; what is missing comes with the next sync", file=sys.stderr)
                raise KeyboardInterrupt
        try:
            yield lease
        except Held as error:
            raise Unreachable(f"another process writes to MLflow now ({error}); sync again later") from None


def root_name(root: Path) -> str:
    """A random name of ROOT, kept in it wherever it is moved or copied; made at its first sync, by the one writer."""
    path = Path(root) / ".mlflow.root"
    if not path.is_file():
        write_json(path, {"root": secrets.token_hex(8)})
    return str(read_json(path)["root"])


@contextmanager
def connect(uri: str) -> Iterator[MlflowClient]:
    """A client of the store at `uri`. BadInput: it cannot be an address, or a database that MLflow here cannot use.
    Unreachable: a server is silent or refuses, a database is in use or full."""
    check_address(uri)
    os.environ.update(QUIET | PATIENCE | os.environ)
    from alembic.util import CommandError
    from google.protobuf.json_format import ParseError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("alembic", "mlflow", "sqlalchemy"):  # after the import, which sets them
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints the traceback of what it raises
    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, CommandError, RequestException, ParseError) as error:
        if uri.startswith(SERVER):
            raise Unreachable(f"tracking address: {_shown(uri)} {_failing(error)}") from error
        if unusable := _unusable(uri, error):
            raise unusable from error
        raise


def _unusable(uri: str, error: Exception) -> BadInput | None:
    """What is wrong with a database, and what to do, in one line; None if it is not the database's fault."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DatabaseError, OperationalError

    cause = error.__cause__ if isinstance(error.__cause__, DatabaseError) else error
    why, file = str(cause).splitlines()[0], make_url(uri).database
    if other := re.search(r"(?<=schema \().*?(?=\))|Can't locate revision.*", why):
        why = f"is of another MLflow version: {other[0]}"
    elif isinstance(cause, OperationalError) or type(cause) is DatabaseError:
        why = f"cannot be used ({why})"
    else:
        return None
    shown = f"tracking address: {_shown(uri)} {why}"
    if re.search(r"locked|busy|full|I/O|connect", why):
        return Unreachable(f"{shown}; nothing is lost, sync again when it can be written to")
    if not uri.startswith("sqlite") or not file or not os.path.lexists(file):
        return BadInput(f"{shown}; choose another --tracking")
    do = f"move {file} away and make it again with: python -m bench sync SUITE"
    return BadInput(f"{shown}; it is a projection of the run folders: {do}")


def _failing(error: Exception) -> str:
    """What a server does instead of answering, in one line, with its HTTP status where the error tells it."""
    text = _shown(" ".join(str(error).split()))
    found = re.search(r"(?<=failed with error code )\d+|(?<=too many )\d+|\d+(?= (?:Client|Server) Error)", text)
    status = found[0] if found else None
    if "ProxyError" in text:
        return "cannot be reached through the proxy of this environment; name its host in no_proxy"
    if text.startswith("API request to http") or (isinstance(error, OSError) and not found):
        does = f"answers with status {status}" if status else "stopped answering"
        return f"{does}; nothing is lost, sync again when it is back"
    said = text.removeprefix("INTERNAL_ERROR: Response: ").partition(" Response body")[0][:200]
    if "valid JSON" in said or type(error).__name__ == "ParseError":
        return f"answers, but not as an MLflow server does ({said})"
    return f"refuses{f' with status {status}' if status else ''}: {said}"


def _shown(uri: str) -> str:
    """An address without its password."""
    return re.sub(r"(//[^/:@]*:)[^/@]*@", r"\1***@", uri)


def check_address(uri: str) -> None:
    """BadInput: it cannot be an address. Unreachable: nobody answers there; MLflow itself would try for minutes."""
    shown = f"tracking address: {_shown(uri)}"
    if uri.startswith(SERVER):
        try:
            parts = urlsplit(uri)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=5).close()
        except (OSError, ValueError) as error:
            choices = "start the server, or leave the address out for a local file"
            raise Unreachable(f"{shown} does not answer ({error}); {choices}") from None
        return
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        raise unknown("tracking address", _shown(uri), OFFERED)
    _reach_without_percent()
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        inspect(create_engine(uri, poolclass=NullPool)).has_table("experiments")
    except (ArgumentError, ImportError) as error:  # the second: a Python module that such a database needs
        why = str(error).splitlines()[0]
        raise BadInput(f"{shown} cannot be used ({why}); choose from {', '.join(OFFERED)}") from None
    except SQLAlchemyError as error:
        if unusable := _unusable(uri, error):
            raise unusable from None
        raise


def _reach_without_percent() -> None:
    """Let MLflow be imported by a link if it lies in a folder with a %, which it takes for a pattern."""
    found = importlib.util.find_spec("mlflow")
    if found and found.origin and "%" in found.origin:
        link = Path(tempfile.mkdtemp(prefix="skipbench-"), "packages")
        link.symlink_to(Path(found.origin).parents[1])
        sys.path.insert(0, str(link))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(link), *filter(None, [os.environ.get("PYTHONPATH")])])


@dataclass(frozen=True)
class Experiment:
    """A suite's experiment. `runs` and `tags` are those it had when the pass began, runs by what they stand for."""

    client: MlflowClient
    id: str
    tags: dict[str, str]
    runs: dict[str, MlflowRun]

    def describe(self, tags: dict[str, str]) -> None:
        """Set tags of the experiment itself that it does not have yet."""
        for key, value in tags.items():
            if self.tags.get(key) != value:
                self.client.set_experiment_tag(self.id, key, value[:5000])

    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags, 100 at most, in one request."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value[:5000]) for key, value in tags.items()])


def open_experiment(client: MlflowClient, suite: SuiteRecord, root: Path) -> Experiment:
    """The suite's experiment, created once. Artifacts go to ROOT/mlartifacts, unless a server keeps them."""
    from mlflow.exceptions import MlflowException

    name, uri = suite.suite, client.tracking_uri
    found = client.get_experiment_by_name(name)
    if not found:
        location = None if uri.startswith(SERVER) else (Path(root).resolve() / "mlartifacts" / name).as_uri()
        try:
            client.create_experiment(name, location, KIND | {NOTE: suite.title})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else it was sent twice, its first answer lost
                raise
        found = client.get_experiment_by_name(name)
    if not found or not found.experiment_id:
        raise Unreachable(f"tracking address: {_shown(uri)} answers, but not as an MLflow server does (no experiment)")
    if found.lifecycle_stage != "active":
        command = f"mlflow experiments restore -x {found.experiment_id}"
        raise BadInput(f"suite: experiment {name!r} was deleted in MLflow; bring it back with: {command}")
    runs: dict[str, MlflowRun] = {}
    everything = client.search_runs([found.experiment_id], max_results=50_000)  # MLflow's limit
    for run in sorted(everything, key=lambda run: (len(run.data.metrics), len(run.data.tags), run.info.run_id)):
        if stands_for := run.data.tags.get(NAME):  # else it is somebody else's
            if twin := runs.get(stands_for):  # a request sent twice leaves twins; the one that got further stays
                client.delete_run(twin.info.run_id)
            runs[stands_for] = run
    experiment = Experiment(client, found.experiment_id, dict(found.tags), runs)
    experiment.describe(KIND)
    return experiment


def ui(root: Path, port: int, uri: str | None = None) -> int:
    """Turn this process into MLflow's server on 127.0.0.1; it returns only if `uri` is that of a server already.

    uri: tracking address, sqlite in ROOT by default. BadInput for a port that cannot be used or if nothing is synced.
    """
    if uri is not None and uri.startswith(SERVER):
        print(f"MLflow is served at {uri}", flush=True)
        return 0
    if uri is None and not (Path(root) / "mlflow.db").exists():
        raise BadInput(f"--root: nothing is synced in {root} yet; start with: python -m bench run quick")
    uri = uri or default_uri(root)
    check_address(uri)
    if not 0 < port < 2**16:
        raise BadInput(f"--port: {port} is out of range; choose 1 to 65535")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise BadInput(f"--port: {port} cannot be used ({error.strerror}); choose another") from None
    with connect(uri):  # MLflow's server would print tracebacks of a database that it cannot use
        pass
    print(f"MLflow on http://127.0.0.1:{port}/#/experiments?{MODELS} (Ctrl-C ends it)", flush=True)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    return os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options], os.environ | QUIET | LEAN)
