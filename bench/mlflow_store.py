"""The way to an MLflow store: its address, its client without noise or telemetry, the one writer, and what is in it."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.errors import BadInput, unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "skipbench.run"  # tag: the run folder, or `cell DATASET/BACKBONE`, that an MLflow run stands for
SENT = "skipbench.measured"  # tag: events whose points are stored
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing phones out
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}  # by default it waits minutes for a server that went away


class Unreachable(BadInput):
    """The tracking server does not answer (any more). Nothing is lost: the next sync goes on where this one ended."""


def default_uri(root: Path) -> str:
    """A sqlite file beside the runs. `%` and `?` mean something else in such an address."""
    return f"sqlite:///{Path(root).resolve() / 'mlflow.db'}".replace("%", "%25").replace("?", "%3F")


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def one_writer(root: Path) -> Iterator[None]:
    """Hold ROOT/.mlflow.lock; says whom it waits for. The kernel frees the lock of a process that dies."""
    with (Path(root) / ".mlflow.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "?"
            print(f"sync: process {owner} is writing to MLflow for {root}; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def connect(uri: str) -> Iterator[MlflowClient]:
    """A client of the store at `uri`; BadInput for an address of no known kind, Unreachable for a silent server."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in (*DATABASES, "http", "https"):
        raise unknown("tracking address", uri, [f"{name}://..." for name in (*DATABASES, "http", "https")])
    if is_server(uri):
        _knock(uri)
    for name, value in (QUIET | PATIENCE).items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        if is_server(uri) and str(error).startswith("API request to"):
            raise Unreachable(f"tracking address: {uri} stopped answering; nothing is lost, "
                              "sync again when it is back") from error
        raise


def _knock(uri: str) -> None:
    """Find out in seconds, not minutes, that nobody is there."""
    try:
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except (OSError, ValueError) as error:
        raise Unreachable(f"tracking address: {uri} does not answer ({error}); start the server, "
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
