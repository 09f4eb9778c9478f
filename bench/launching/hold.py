"""SLURM's warnings, held back while a job starts: one that comes before Python can take it would end the job for good.

    python bench/launching/hold.py PROGRAM [WORDS ...]

runs a program with them blocked. They stay pending, also through exec, until it calls `release`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WARNINGS = (signal.SIGUSR2, signal.SIGTERM)  # of the end of the time or a preemption; of a preemption


def release() -> None:
    """Take what came meanwhile, and from now on what comes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)


@contextmanager
def held() -> Iterator[None]:
    """What is started in here never sees them: a job's warnings go to all its processes, and are the first one's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    os.execvp(sys.argv[1], sys.argv[1:])
