"""An MLflow store: its address, a client without noise or telemetry, the one writer, a suite's experiment."""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench.errors import BadInput, unknown
from reports.records.files import read_json, write_json
from reports.records.lease import Held, Lease, owner

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

NAME = "skipbench.run"  # tag: the run folder, or `cell DATASET/BACKBONE`, that an MLflow run stands for
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
OFFERED = ("sqlite:///FILE", "http://HOST:PORT", "https://...", "postgresql://... and the like with a driver installed")
SERVER = ("http://", "https://")  # how the address of a tracking server begins
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing phones out
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}  # by default it waits minutes for a server that went away
LAST = 60.0  # seconds that a process told by SIGTERM to do a last pass waits for its turn


class Unreachable(BadInput):
    """The store cannot be written to now. The run folders have it all: a later sync goes on where this one ended."""


def default_uri(root: Path) -> str:
    """A sqlite file beside the runs. `%` and `?` mean something else in such an address."""
    return f"sqlite:///{Path(root).resolve() / 'mlflow.db'}".replace("%", "%25").replace("?", "%3F")


@contextmanager
def one_writer(root: Path, stop: Sequence[int] = ()) -> Iterator[Lease]:
    """Own ROOT/.mlflow.lease; says whom it waits for. Unreachable if `check` of the lease finds it lost.

    stop: signals received so far; KeyboardInterrupt ends the wait at SIGINT, and LAST seconds after SIGTERM.
    """
    lease, deadline = Lease(Path(root) / ".mlflow.lease", cancel=lambda: signal.SIGINT in stop), None
    say = functools.partial(print, "sync:", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        while True:
            with suppress(Held):
                stack.enter_context(lease)
                break
            if deadline is None:
                say(f"{owner(lease.path) or 'another process'} is writing to MLflow for {root}; waiting for it")
            deadline = min(deadline or math.inf, time.monotonic() + LAST if stop else math.inf)
            if signal.SIGINT in stop or time.monotonic() > deadline:
                say("told to end while waiting; what is missing comes with the next sync")
                raise KeyboardInterrupt
            time.sleep(0.5)
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
    """A client of the store at `uri`. BadInput: it cannot be an address. Unreachable: a server is silent or refuses."""
    (_knock if uri.startswith(SERVER) else check_database)(uri)
    for name, value in (QUIET | PATIENCE).items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from google.protobuf.json_format import ParseError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, RequestException, ParseError) as error:
        if uri.startswith(SERVER):
            raise Unreachable(f"tracking address: {_shown(uri)} {_failing(error)}") from error
        raise


def _failing(error: Exception) -> str:
    """What a server does instead of answering, in one line, with its HTTP status where the error tells it."""
    text = _shown(" ".join(str(error).split()))
    found = re.search(r"(?<=failed with error code )\d+|(?<=too many )\d+|\d+(?= (?:Client|Server) Error)", text)
    status = found[0] if found else None
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


def check_database(uri: str) -> None:
    """BadInput unless it is the address of a database that opens; MLflow itself would try for minutes."""
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        raise unknown("tracking address", _shown(uri), OFFERED)
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    shown = f"tracking address: {_shown(uri)}"
    try:
        inspect(create_engine(uri, poolclass=NullPool)).has_table("experiments")
    except ArgumentError as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{shown} is no database's address ({why}); choose from {', '.join(OFFERED)}") from None
    except ImportError as error:
        choices = "install it, or choose sqlite:///FILE or the http address of a server"
        raise BadInput(f"{shown} needs the Python module {error.name}, which is not installed; {choices}") from None
    except SQLAlchemyError as error:
        raise Unreachable(f"{shown} cannot be opened ({str(error).splitlines()[0]})") from None


def _knock(uri: str) -> None:
    """Unreachable, in seconds and not minutes, if nobody listens at the address."""
    try:
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except (OSError, ValueError) as error:
        choices = "start the server, or leave the address out for a local file"
        raise Unreachable(f"tracking address: {_shown(uri)} does not answer ({error}); {choices}") from None


@dataclass(frozen=True)
class Experiment:
    """A suite's experiment. `runs` are those it had when the pass began, by what they stand for."""

    client: MlflowClient
    id: str
    runs: dict[str, Run]

    def log(self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        """Store metrics and params, in requests as large as MLflow takes."""
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])

    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags, 100 at most, in one request."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value[:5000]) for key, value in tags.items()])


def open_experiment(client: MlflowClient, suite: dict[str, Any], root: Path) -> Experiment:
    """The suite's experiment, created once. Artifacts go to ROOT/mlartifacts, unless a server keeps them."""
    from mlflow.exceptions import MlflowException

    name, uri = suite["suite"], client.tracking_uri
    found = client.get_experiment_by_name(name)
    if not found:
        location = None if uri.startswith(SERVER) else (Path(root).resolve() / "mlartifacts" / name).as_uri()
        try:
            client.create_experiment(name, location, {"mlflow.note.content": str(suite.get("title", name))})
        except MlflowException:  # it is there: the request was sent twice, its first answer lost
            if not client.get_experiment_by_name(name):
                raise
        found = client.get_experiment_by_name(name)
    if not found or not found.experiment_id:
        raise Unreachable(f"tracking address: {_shown(uri)} answers, but not as an MLflow server does (no experiment)")
    if found.lifecycle_stage != "active":
        command = f"mlflow experiments restore -x {found.experiment_id}"
        raise BadInput(f"suite: experiment {name!r} was deleted in MLflow; bring it back with: {command}")
    return Experiment(client, found.experiment_id, _runs(client, found.experiment_id))


def _runs(client: MlflowClient, experiment: str) -> dict[str, Run]:
    """Our MLflow runs, by what they stand for. A request sent twice leaves twins; the one that got further stays."""
    pages = [client.search_runs([experiment], max_results=1000)]
    while pages[-1].token:  # all pages before anything is deleted: a page begins at a count of runs
        pages.append(client.search_runs([experiment], max_results=1000, page_token=pages[-1].token))
    runs = [run for page in pages for run in page]
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (len(run.data.metrics), len(run.data.tags), run.info.run_id)):
        if name := run.data.tags.get(NAME):  # else it is somebody else's
            if name in found:
                client.delete_run(found[name].info.run_id)
            found[name] = run
    return found
