"""MLflow's page on what is synced: on this machine only, and gone when this process goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from bench.tracking import store
from bench.errors import BadInput

LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # a page needs no runner of background jobs
GRACE = 10.0  # seconds that the server gets to end


def ui(root: Path, port: int, uri: str | None = None) -> int:
    """Serve MLflow on 127.0.0.1 until Ctrl-C or SIGTERM; BadInput for a port in use or nothing synced."""
    if uri is not None and store.is_server(uri):
        print(f"MLflow is served at {uri}", flush=True)
        return 0
    if uri is None and not (Path(root) / "mlflow.db").is_file():
        raise BadInput(f"--root: nothing is synced in {root} yet; start with: python -m bench run quick")
    store.check_database(uri or store.default_uri(root))
    _check_port(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri or store.default_uri(root),
               "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    server = subprocess.Popen(command, env=os.environ | store.QUIET | LEAN, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _check_port(port: int) -> None:
    if not 0 < port < 2**16:
        raise BadInput(f"--port: {port} is out of range; choose 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(f"--port: {port} cannot be used ({error.strerror}); choose another") from None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end(server: subprocess.Popen) -> None:
    """MLflow leaves processes of its own behind when it is told to end: the whole group goes, and only it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
