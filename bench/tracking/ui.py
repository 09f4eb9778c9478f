"""MLflow's pages on what is synced, on this machine only."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from bench.errors import BadInput
from bench.tracking import store

LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # pages need no runner of background jobs


def ui(root: Path, port: int, uri: str | None = None) -> int:
    """Turn this process into MLflow's server on 127.0.0.1; it returns only if `uri` is that of a server already.

    uri: tracking address, sqlite in ROOT by default. BadInput for a port that cannot be used or if nothing is synced.
    """
    if uri is not None and uri.startswith(store.SERVER):
        print(f"MLflow is served at {uri}", flush=True)
        return 0
    if uri is None and not (Path(root) / "mlflow.db").is_file():
        raise BadInput(f"--root: nothing is synced in {root} yet; start with: python -m bench run quick")
    uri = uri or store.default_uri(root)
    store.check_database(uri)
    if not 0 < port < 2**16:
        raise BadInput(f"--port: {port} is out of range; choose 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(f"--port: {port} cannot be used ({error.strerror}); choose another") from None
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    return os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options], os.environ | store.QUIET | LEAN)
