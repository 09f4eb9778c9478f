"""The process that workers are forked from: it imports what they need while the command line imports and plans.

Imports nothing heavy itself, so that it can be started first.
"""

from __future__ import annotations

import signal
from multiprocessing import forkserver

ORPHANED = 255  # exit code that multiprocessing gives a worker whose forkserver is gone


class Gone(RuntimeError):
    """It was killed."""

    def __init__(self) -> None:
        super().__init__("the process that workers are forked from was killed; the same command goes on where it was")


def warm_up() -> None:
    """Start it. It leaves Ctrl-C to this process from its first instant on, and ends with it."""
    forkserver.set_forkserver_preload(["bench.training.trainer"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)
