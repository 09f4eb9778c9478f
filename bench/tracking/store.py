"""The way to an MLflow store: its address, its client without noise or telemetry, the one writer, and what is in it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from bench.errors import BadInput, unknown
from bench.runs.record import write_json
from reports.records import reading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "skipbench.run"  # tag: the run folder, or `cell DATASET/BACKBONE`, that an MLflow run stands for
SENT = "skipbench.measured"  # tag: events whose points are stored
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
OFFERED = ("sqlite:///FILE", "http://HOST:PORT", "https://...", "postgresql://... and the like where the driver is installed")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing phones out
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}  # by default it waits minutes for a server that went away
LAST = 60.0  # seconds that a process told by SIGTERM to do a last pass waits for its turn


class Unreachable(BadInput):
    """The tracking server does not answer (any more), or refuses. Run folders have it all: a later sync goes on where this ended."""


def default_uri(root: Path) -> str:
    """A sqlite file beside the runs. `%` and `?` mean something else in such an address."""
    return f"sqlite:///{Path(root).resolve() / 'mlflow.db'}".replace("%", "%25").replace("?", "%3F")


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def one_writer(root: Path, stop: Sequence[int] = ()) -> Iterator[None]:
    """Hold ROOT/.mlflow.lock; says whom it waits for. The kernel frees the lock of a process that dies.

    stop: signals that came, by a handler; KeyboardInterrupt ends the wait at SIGINT, and after SIGTERM if its turn does
    not come soon.
    """
    with (Path(root) / ".mlflow.lock").open("a+") as lock:
        if not _taken(lock):
            lock.seek(0)
            owner = lock.read().strip() or "?"
            print(f"sync: process {owner} is writing to MLflow for {root}; waiting for it", file=sys.stderr, flush=True)
            told = float("inf")
            while not _taken(lock):
                told = min(told, time.monotonic()) if stop else told
                if signal.SIGINT in stop or time.monotonic() - told > LAST:
                    print("sync: told to end while waiting; what is missing comes with the next sync", file=sys.stderr, flush=True)
                    raise KeyboardInterrupt
                time.sleep(0.5)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def root_name(root: Path) -> str:
    """A name of ROOT's own that goes wherever ROOT is moved or copied; made at its first sync, by the one writer."""
    path = Path(root) / ".mlflow.root"
    if not path.is_file():
        write_json(path, {"root": secrets.token_hex(8)})
    return reading.read_json(path)["root"]


@contextmanager
def connect(uri: str) -> Iterator[MlflowClient]:
    """A client of the store at `uri`; BadInput for an address that cannot be, Unreachable for a silent or refusing server."""
    (_knock if is_server(uri) else check_database)(uri)
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
        if is_server(uri):
            raise Unreachable(f"tracking address: {_shown(uri)} {_failing(error)}") from error
        raise


def _failing(error: Exception) -> str:
    """What a server does instead of answering, in one line with the status where the error tells it."""
    text = _shown(" ".join(str(error).split()))
    response = getattr(error, "response", None)  # of a request of artifacts
    content = getattr(error, "json", {})  # of an answer in MLflow's own form
    if response is not None:
        status = response.status_code
    elif found := re.search(r"failed with error code (\d+)|too many (\d+) error responses", text):
        status = int(found[1] or found[2])
    else:
        status = error.get_http_status_code() if content.get("error_code") else None
    if text.startswith("API request to http") or isinstance(error, OSError) and response is None:
        return f"{'stopped answering' if status is None else f'answers with status {status}'}; nothing is lost, sync again when it is back"
    said = (text if status or not content else " ".join(str(content).split())).partition(" Response body")[0][:200]
    if "valid JSON" in said or type(error).__name__ == "ParseError":
        return f"answers, but not as an MLflow server does ({said})"
    return f"refuses{'' if status is None else f' with status {status}'}: {said}"


def _shown(uri: str) -> str:
    """An address without its password."""
    return re.sub(r"(//[^/:@]*:)[^/@]*@", r"\1***@", uri)


def check_database(uri: str) -> None:
    """BadInput unless it is a well-formed address of a database whose driver is there and that opens; MLflow itself tries for minutes."""
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        raise unknown("tracking address", _shown(uri), OFFERED)
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        inspect(create_engine(uri, poolclass=NullPool)).has_table("experiments")
    except ArgumentError as error:
        raise BadInput(f"tracking address: {_shown(uri)!r} is no database's ({str(error).splitlines()[0]}); "
                       f"choose from {', '.join(OFFERED)}") from None
    except ImportError as error:
        raise BadInput(f"tracking address: {_shown(uri)} needs the Python module {error.name}, which is not installed; install it, "
                       "or choose sqlite:///FILE or the http address of a server") from None
    except SQLAlchemyError as error:
        raise Unreachable(f"tracking address: {_shown(uri)} cannot be opened ({str(error).splitlines()[0]})") from None


def _knock(uri: str) -> None:
    """Find out in seconds, not minutes, that nobody is there."""
    try:
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except (OSError, ValueError) as error:
        raise Unreachable(f"tracking address: {_shown(uri)} does not answer ({error}); start the server, "
                          "or leave the address out for a local file") from None


def experiment(client: MlflowClient, suite: dict, root: Path) -> str:
    """The id of the suite's experiment, created once. Artifacts: ROOT/mlartifacts, unless a server keeps them."""
    from mlflow.exceptions import MlflowException

    name = suite["suite"]
    found = client.get_experiment_by_name(name)
    if not found:
        location = None if is_server(client.tracking_uri) else (Path(root).resolve() / "mlartifacts" / name).as_uri()
        try:
            note = {"mlflow.note.content": str(suite.get("title", name))}
            return client.create_experiment(name, artifact_location=location, tags=note)
        except MlflowException:  # a request that was sent again after its first answer got lost
            found = client.get_experiment_by_name(name)
            if not found:
                raise
    if not found.experiment_id:
        raise Unreachable(f"tracking address: {_shown(client.tracking_uri)} answers, but not as an MLflow server does (an empty experiment)")
    if found.lifecycle_stage != "active":
        raise BadInput(f"suite: experiment {name!r} was deleted in MLflow; bring it back with: "
                       f"mlflow experiments restore -x {found.experiment_id}")
    return found.experiment_id


def runs(client: MlflowClient, experiment_id: str) -> dict[str, Run]:
    """Our MLflow runs, by the name of what they stand for.

    A request to create a run that was sent again (its first answer got lost) leaves twins: the one that got further
    stays.
    """
    found: dict[str, Run] = {}
    for run in _all(client, experiment_id):
        name = run.data.tags.get(NAME)
        if name is None:
            continue  # somebody else's
        twin = found.setdefault(name, run)
        if twin is not run:
            found[name], less = sorted((twin, run), key=_progress, reverse=True)
            client.delete_run(less.info.run_id)
    return found


def _progress(run: Run) -> tuple[int, int, str]:
    return int(run.data.tags.get(SENT, 0)), len(run.data.tags), run.info.run_id


def _all(client: MlflowClient, experiment_id: str) -> list[Run]:
    """All pages before anything is deleted: a page begins at a count of runs."""
    pages = [client.search_runs([experiment_id], max_results=1000)]
    while token := pages[-1].token:
        pages.append(client.search_runs([experiment_id], max_results=1000, page_token=token))
    return [run for page in pages for run in page]


def set_tags(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    """Set tags, 100 at most, in one request."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value[:5000]) for key, value in tags.items()])
