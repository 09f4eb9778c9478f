"""Warnings that come while a job starts are not lost, and end nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.launching import hold

ROOT = Path(__file__).parents[3]
TAKES = ("import os, signal, sys, time; sys.path.insert(0, '.'); from bench import hold; print('up', flush=True); sys.stdin.readline()\n"
         "for number in hold.WARNINGS: signal.signal(number, lambda got, _: print(signal.Signals(got).name, flush=True))\n"
         "hold.release(); time.sleep(0.2); print('end')")


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
def test_what_comes_too_early_waits(name):
    process = subprocess.Popen([sys.executable, "-S", "bench/launching/hold.py", sys.executable, "-c", TAKES], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.Signals[name])
    out, _ = process.communicate("go\n", timeout=30)
    assert out == f"{name}\nend\n" and process.returncode == 0


def test_what_is_started_meanwhile_never_sees_them():
    code = "import time; print('up', flush=True); time.sleep(1); print('end')"
    with hold.held():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    for number in hold.WARNINGS:
        os.kill(process.pid, number)
    assert process.communicate(timeout=30)[0] == "end\n" and process.returncode == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(hold.WARNINGS)
