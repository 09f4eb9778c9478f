"""The browser of MLflow, on this machine only."""

import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from projected import ROOT, free_port

from bench.errors import BadInput
from bench.tracking import sync


def test_ui_refuses_what_cannot_be(tmp_path):
    with pytest.raises(BadInput, match="nothing is synced"):
        sync.ui(tmp_path, 5000)
    with pytest.raises(BadInput, match="'ftp://x' is unknown"):
        sync.ui(tmp_path, 5000, "ftp://x")
    (tmp_path / "mlflow.db").touch()
    for port in (70000, 0, -1):
        with pytest.raises(BadInput, match=f"--port: {port} is out of range"):
            sync.ui(tmp_path, port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="cannot be used"):
            sync.ui(tmp_path, taken.getsockname()[1])


def test_ui_answers_on_loopback_and_leaves_nothing_behind(root):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "ui", "--root", str(root), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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
