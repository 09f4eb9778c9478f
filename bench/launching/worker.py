"""A worker: takes the runs of a suite that nobody has, one after the other, until none is left.

Workers need no coordinator: a run belongs to whoever holds the lock of its folder, and what is done is what the folder
says. The same loop serves the local runner and submitted jobs; any number of workers may come and go.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import bench
from bench.runs import protocol
from bench.training import distributed as ranks
from bench.planning import suite as suites
from bench.errors import is_bad_input
from bench.runs.lock import Locked
from bench.planning.plan import Run, plan, select
from bench.runs.record import state, write_json

POLL = 0.5  # seconds between looks at runs that others hold


def work(name: str, root: Path, data: Path, only: str | None = None, parent: BaseProcess | None = None,
         leaving: threading.Event | None = None) -> int:
    """Work on suite `name` until every selected run is done or failed; returns 1 if one failed, else 0.

    parent: a process with whose end the worker leaves (its run resumes from the last checkpoint).
    leaving: set by whoever ends this worker; what is raised then is no failure of a run, and ends the worker.
    """
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    everything = plan(suites.load(name))
    return _Worker(name, root, data, everything, leaving or threading.Event()).work(needed(everything, select(everything, only)))


@dataclass
class _Worker:
    """One worker and what it remembers from run to run."""

    suite: str
    root: Path
    data: Path
    everything: list[Run]
    leaving: threading.Event
    given_up: set[str] = field(default_factory=set)  # runs that failed, and not even that could be written down
    startup: float = field(default_factory=lambda: time.time() - bench.STARTED)  # of this process, in seconds; the first run tells it

    def work(self, wanted: list[Run]) -> int:
        """See the function `work`."""
        while still := [run for run in wanted if self._open(run)]:
            if not any([self._try(run) for run in still]):
                if not _can_proceed(still, self.everything, self.root, self.given_up):
                    break
                time.sleep(POLL)
        return int(any(state(run.folder(self.root)) != "done" for run in wanted))

    def _open(self, run: Run) -> bool:
        return state(run.folder(self.root)) not in ("done", "failed") and run.id not in self.given_up

    def _try(self, run: Run) -> bool:
        """Train the run if it may start and nobody has it; whether that was tried."""
        if not self._open(run) or run.role != "pilot" and not protocol.frozen(self.everything, self.root):
            return False
        try:
            self._train(run)
        except Locked:
            return False
        except Exception as error:  # recorded, told and counted; the suite goes on
            if self.leaving.is_set():
                print(f"{run.id}: left: {error}", file=sys.stderr, flush=True)
                raise SystemExit(1) from None
            if is_bad_input(error):
                raise
            self._failed(run, error)
        return True

    def _train(self, run: Run) -> None:
        from bench.training.trainer import execute

        if run.spec["processes"] == 1:
            execute(run, self.root, self.data, self.startup)
            self.startup = 0.0
        else:
            ranks.launch(run, self.suite, self.root, self.data)

    def _failed(self, run: Run, error: Exception) -> None:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"{run.id}: failed: {line}", file=sys.stderr, flush=True)
        try:
            write_json(run.folder(self.root) / "error.json", {"run": run.id, "error": line, "traceback": traceback.format_exc()})
        except OSError as second:  # a full disk: the run stays open, and the next submission resumes it
            print(f"{run.id}: could not be marked as failed: {second}", file=sys.stderr, flush=True)
            self.given_up.add(run.id)


def needed(everything: list[Run], chosen: list[Run]) -> list[Run]:
    """The chosen runs and, if one of them is no pilot, all pilots: they freeze the targets for the whole suite."""
    if all(run.role == "pilot" for run in chosen):
        return chosen
    ids = {run.id for run in chosen}
    return [run for run in everything if run.role == "pilot" or run.id in ids]


def forget_failures(runs: Iterable[Run], root: Path) -> None:
    """Let failed runs be tried again."""
    for run in runs:
        (run.folder(root) / "error.json").unlink(missing_ok=True)


def _can_proceed(open_runs: list[Run], everything: list[Run], root: Path, given_up: set[str]) -> bool:
    """Whether waiting helps: not if all that is open waits for pilots of which one failed."""
    pilots = [run for run in everything if run.role == "pilot"]
    failed = any(state(run.folder(root)) == "failed" or run.id in given_up for run in pilots)
    return not (failed and all(run.role != "pilot" for run in open_runs) and not protocol.frozen(everything, root))


def _leave_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
