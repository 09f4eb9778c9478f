"""One fresh process per run, and per rank of a run; what goes wrong in it is that run's alone.

Nothing heavy is imported here, so that the forkserver can be started first and import while the command line plans.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import BadInput
from reports.records.lease import Held

if TYPE_CHECKING:
    from bench.runs.run_spec import Run

# glibc hands freed memory back to the kernel, and takes it again page by page at the next step, unless told to keep it.
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}

LONGEST = 107 - 32  # bytes of a folder with `pymp-xxxxxxxx/listener-xxxxxxxx` in it, a socket's name
WARNINGS = (signal.SIGTERM, signal.SIGUSR2)
PEERS = 5.0  # seconds in which a rank whose peer is gone is told to leave


class Exit(IntEnum):
    """How the process of a run ends."""

    DONE = 0  # the run has its result
    FAILED = 1  # its error.json says why
    BAD_INPUT = 2  # one line on stderr
    HELD = 75  # another process trains it
    LEFT = 76  # it was told to leave, and saved


@contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """These signals wait meanwhile, and what is started here begins with them blocked."""
    resource_tracker.ensure_running()  # its start would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm_up() -> None:
    """Start the forkserver. It takes no Ctrl-C, hangup or warning, and ends with this process."""
    for name, value in HEAP.items():
        os.environ.setdefault(name, value)
    forkserver.set_forkserver_preload(["bench.launching.preload"])
    given = tempfile.gettempdir()
    tempfile.tempdir = given if len(os.fsencode(given)) <= LONGEST else "/tmp"
    util.get_temp_dir()  # of sockets; it remembers the place, and all else goes where it was told to
    tempfile.tempdir = given
    with held_back(signal.SIGINT, signal.SIGHUP, *WARNINGS):
        forkserver.ensure_running()


def begin(target: Callable[..., None], *words: object) -> BaseProcess:
    """Start target(*words) in a process of the forkserver; of another one if that has just been killed."""
    for patience in (0.1, 1.0, None):
        warm_up()
        process = multiprocessing.get_context("forkserver").Process(target=target, args=words, daemon=True)
        try:
            process.start()
            break
        except (EOFError, ConnectionError):
            if patience is None:
                raise
            time.sleep(patience)
    return process


class Meeting(NamedTuple):
    """Where the ranks of a run meet, and that those of one node out of several are to start here."""

    host: str
    port: int
    node: int = 0
    nodes: int = 1


def start(
    run: Run, root: Path, data: Path, devices: str | None = None, meeting: Meeting | None = None
) -> list[BaseProcess]:
    """Start the processes of a run, or of its part on this node, lowest rank first.

    devices: the value of CUDA_VISIBLE_DEVICES, None to leave it. meeting: by default a free port of this machine.
    """
    count = run.execution.processes
    shared = {"CUDA_VISIBLE_DEVICES": devices} if devices is not None else {}
    if count == 1:
        return [begin(_main, run, root, data, shared, time.time())]
    if meeting is None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            meeting = Meeting(*probe.getsockname())
    each = count // meeting.nodes
    shared |= {"WORLD_SIZE": str(count), "MASTER_ADDR": meeting.host, "MASTER_PORT": str(meeting.port)}
    ranks = [shared | {"RANK": str(meeting.node * each + k), "LOCAL_RANK": str(k)} for k in range(each)]
    return [begin(_main, run, root, data, environment, time.time()) for environment in ranks]


def _main(run: Run, root: Path, data: Path, environment: dict[str, str], started: float) -> None:
    """What the process does. It leaves Ctrl-C to its parent, and ends with it."""
    from datasets.parallel import leave_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    os.environ.update(environment)
    code = _train(run, root, data, time.time() - started)
    sys.stderr.flush()
    if "RANK" in environment:
        os._exit(code)  # no rank waits for another any more
    sys.exit(code)


def _train(run: Run, root: Path, data: Path, startup: float) -> Exit:
    from bench.runs import distributed
    from bench.training.trainer import follow_run, train_run
    from bench.training.warning import EndWarning, Leaving

    warning = EndWarning().listen()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)  # blocked since the forkserver began
    try:
        if run.execution.processes > 1:
            distributed.join(run.spec.device)
        if distributed.rank():
            follow_run(run, root, data, warning)
        else:
            train_run(run, root, data, warning, startup)
    except Held:
        return Exit.HELD
    except Leaving:
        return Exit.LEFT
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return Exit.BAD_INPUT
    except BaseException as error:  # a method of a user may call sys.exit, too
        if run.execution.processes > 1:  # another rank may have left or died: then this one is told to leave
            time.sleep(PEERS)
            if warning.given:
                return Exit.LEFT
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"{run.id}: failed: {line}", file=sys.stderr)  # first: on a full disk there may be room for this alone
        try:
            run.folder(root).fail(error)
        except OSError as second:  # the run stays open, and the next command resumes it
            print(f"{run.id}: could not be marked as failed: {second}", file=sys.stderr)
        return Exit.FAILED
    return Exit.DONE
