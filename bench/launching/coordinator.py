"""Gives the runs of a suite to fresh processes: pilots first, comparisons once the targets are frozen.

Any number of coordinators may work on one suite, here and in jobs: a run belongs to whoever holds the lease of its
folder, and what is done is what the folders say.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.launching import process
from bench.launching.process import Exit
from bench.launching.sweep_folder import SweepFolder
from bench.runs.run_spec import Run

POLL = 0.5  # seconds between looks at runs that others hold, and at the progress
REVIVALS = 3  # times that the process of one run may be killed before the run counts as failed
PATIENCE = 120.0  # seconds that processes get to save when they are told to leave


@dataclass
class Task:
    """A run at work: its processes, rank 0 first, in a slot of the coordinator."""

    run: Run
    slot: int
    processes: list[BaseProcess]
    killed = False  # a rank was: what the others say of it is no failure of the run

    def ended(self) -> bool:
        """Whether the run's processes have ended; ranks that wait for one that is gone are ended, too."""
        codes = [process.exitcode for process in self.processes]
        if set(codes) == {None} or (codes[0] is None and set(codes) == {None, Exit.DONE}):
            return False
        self.killed = -signal.SIGKILL in codes and codes[0] != Exit.DONE
        _end(self.processes, PATIENCE if codes[0] is None else 10.0)  # rank 0 saves
        return True

    @property
    def code(self) -> int:
        """The exit code of rank 0, which knows how the run ended, unless a rank was killed."""
        code = self.processes[0].exitcode
        return -signal.SIGKILL if self.killed else Exit.FAILED if code is None else code


class Coordinator:
    """Trains runs on this machine, `workers` at a time.

    devices: CUDA_VISIBLE_DEVICES of each worker, None on a CPU. grace: seconds to wait for the end of the job when a
    process was told to leave by somebody else, before its run starts again.
    """

    def __init__(
        self,
        everything: list[Run],
        root: Path,
        data: Path,
        workers: int = 1,
        devices: list[str] | None = None,
        grace: float = 0.0,
    ) -> None:
        self.everything, self.root, self.data = everything, root, data
        self.workers, self.devices, self.grace = workers, devices, grace
        self.sweep = SweepFolder(root, everything[0].suite)
        self.tasks: list[Task] = []
        self.failed: set[str] = set()  # runs that failed here, also where nothing could be written down
        self.killed: dict[str, int] = {}  # how often the process of a run was killed
        self.bad_input = False
        self._frozen = False

    def train(self, wanted: list[Run], tick: Callable[[], None] = lambda: None) -> int:
        """Train the runs until each is done or failed; returns 0, 1 if one is not done, 2 after bad input.

        tick: called every POLL seconds.
        """
        try:
            while not self.bad_input and (left := [run for run in wanted if self._is_open(run)]):
                self._start_what_fits(left)
                if not self.tasks and not self._worth_waiting(left):
                    break
                connection.wait([one.sentinel for task in self.tasks for one in task.processes], timeout=POLL)
                if not self.tasks:
                    time.sleep(POLL)
                self._collect()
                tick()
        finally:
            self.end()
        undone = any(not run.folder(self.root).is_done() for run in wanted)
        return 2 if self.bad_input else int(undone)

    def end(self, patience: float = PATIENCE) -> None:
        """Tell what is at work to save and leave, and wait for it; what has not left after some seconds is killed."""
        _end([one for task in self.tasks for one in task.processes], patience)
        self.tasks = []

    def _is_open(self, run: Run) -> bool:
        folder = run.folder(self.root)
        return not (folder.is_done() or run.id in self.failed or folder.error.is_file())

    def _start_what_fits(self, left: list[Run]) -> None:
        slots = [slot for slot in range(self.workers) if slot not in [task.slot for task in self.tasks]]
        at_work = [task.run.id for task in self.tasks]
        for run in left:
            if not slots:
                return
            if run.id not in at_work and self._may_start(run) and not run.folder(self.root).is_held():
                slot = slots.pop(0)
                devices = self.devices[slot] if self.devices else None
                with process.held_back(*process.WARNINGS):  # a handler that ends all tasks finds this one
                    self.tasks.append(Task(run, slot, process.start(run, self.root, self.data, devices)))

    def _may_start(self, run: Run) -> bool:
        if run.role not in ("pilot", "tuning"):
            self._frozen = self._frozen or self.sweep.freeze(self.everything)
        return self._frozen or run.role in ("pilot", "tuning")

    def _worth_waiting(self, left: list[Run]) -> bool:
        """Not if all that is open waits for pilots of which one failed."""
        pilots = [run for run in self.everything if run.role == "pilot"]
        broken = any(run.id in self.failed or run.folder(self.root).error.is_file() for run in pilots)
        return not broken or any(self._may_start(run) for run in left)

    def _collect(self) -> None:
        """Look at the tasks that have ended."""
        for task in [task for task in self.tasks if task.ended()]:
            self.tasks.remove(task)
            run, code = task.run, task.code
            if code == Exit.LEFT:
                time.sleep(self.grace)
            elif code == Exit.BAD_INPUT:
                self.bad_input = True
            elif code == Exit.FAILED:
                self.failed.add(run.id)
            elif code not in (Exit.DONE, Exit.HELD):
                self._count_killed(run, code)

    def _count_killed(self, run: Run, code: int) -> None:
        self.killed[run.id] = self.killed.get(run.id, 0) + 1
        what = f"its process died of signal {-code}" if code < 0 else f"its process was lost (exit code {code})"
        if self.killed[run.id] < REVIVALS:
            run.folder(self.root).forget_failure()
            print(f"{run.id}: {what}; another goes on", file=sys.stderr, flush=True)
            return
        print(f"{run.id}: failed: {what}, {REVIVALS} times", file=sys.stderr, flush=True)
        self.failed.add(run.id)
        with contextlib.suppress(OSError):
            run.folder(self.root).fail(RuntimeError(f"{what}, {REVIVALS} times; too little memory?"))


def _end(processes: list[BaseProcess], patience: float) -> None:
    """End processes: they are told to leave, again and again (one may just be starting), and at last killed."""
    until = time.monotonic() + patience
    while (left := [one for one in processes if one.exitcode is None]) and time.monotonic() < until:
        for one in left:
            one.terminate()
        connection.wait([one.sentinel for one in left], timeout=1.0)
    for one in processes:
        if one.exitcode is None:
            one.kill()
        one.join()
