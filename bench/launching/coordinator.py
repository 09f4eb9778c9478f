"""Gives the runs of a suite to fresh processes: pilots first, comparisons once the target bands are frozen.

Any number of coordinators may work on one suite, here and in jobs: a run belongs to whoever holds the lease of its
folder, and what is done is what the folders say.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.launching import process
from bench.launching.looks import Looks
from bench.launching.process import Exit, Meeting
from bench.launching.sweep_folder import SweepFolder
from bench.runs.run_spec import Run

POLL = 1.0  # seconds between looks at runs that others hold, and at the progress
REVIVALS = 3  # times that the process of one run may be killed before the run counts as failed
PATIENCE = 120.0  # seconds that processes get to save when they are told to leave


class Elsewhere:
    """The ranks of a run on other nodes of a job; on this machine alone there are none."""

    meeting: Meeting | None = None  # of all ranks

    def codes(self) -> list[int | None]:
        """How they ended, None for those that are at work or lost."""
        return []

    def end(self) -> None:
        """Tell them to leave."""

    def wait(self) -> None:
        """Wait until they have left, or are given up."""


@dataclass
class ActiveRun:
    """A run at work: its processes here, rank 0 first, in a slot of the coordinator, and those elsewhere."""

    run: Run
    slot: int
    processes: list[BaseProcess]
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    def exit_code(self) -> int | None:
        """How the run ended, None while it is at work; where a rank was killed, what the others say is no failure."""
        codes = self._codes()
        if codes[0] is None and set(codes) <= {None, Exit.DONE}:
            return None
        self.elsewhere.end()
        _end(self.processes, PATIENCE if codes[0] is None else 10.0)  # they wait for one that is gone; rank 0 saves
        self.elsewhere.wait()
        ours, theirs = self.processes[0].exitcode, self.elsewhere.codes()
        if ours == Exit.DONE:
            return ours
        if -signal.SIGKILL in codes + theirs or None in theirs:
            return -signal.SIGKILL
        return next((code for code in theirs if code in (Exit.FAILED, Exit.BAD_INPUT)), ours)

    def _codes(self) -> list[int | None]:
        return [one.exitcode for one in self.processes] + self.elsewhere.codes()


@dataclass
class Coordinator:
    """Trains runs of a suite, of which `everything` is the plan, on this machine, `workers` at a time.

    devices: CUDA_VISIBLE_DEVICES of each worker, None on a CPU. grace: seconds to wait for the end of the job when a
    process was told to leave by somebody else, before its run starts again. elsewhere: starts the ranks of a run on
    other nodes of this job.
    """

    everything: list[Run]
    root: Path
    data: Path
    workers: int = 1
    devices: list[str] | None = None
    grace: float = 0.0
    elsewhere: Callable[[Run], Elsewhere] = lambda _: Elsewhere()
    active: list[ActiveRun] = field(default_factory=list, init=False)
    failed: set[str] = field(default_factory=set, init=False)  # also those where nothing could be written down
    killed: Counter[str] = field(default_factory=Counter, init=False)  # how often the process of a run was
    bad_input: bool = field(default=False, init=False)
    frozen: bool = field(default=False, init=False)  # whether comparisons may start

    def __post_init__(self) -> None:
        self.looks = Looks(self.everything, self.root)

    def train(self, wanted: list[Run], tick: Callable[[], None] = lambda: None) -> int:
        """Train runs until all are done or failed, `tick` at each look; 0, 1 if one is not done, 2 after bad input."""
        try:
            while not self.bad_input and (left := self._left(wanted)):
                self._start_what_fits(left)
                if not self.active and not self._worth_waiting(left):
                    break
                connection.wait([one.sentinel for active in self.active for one in active.processes], timeout=POLL)
                self._collect()
                tick()
        finally:
            self.end()
        if not self.bad_input:
            self._freeze()  # as soon as the pilots are done: a report then has a band, before any pair
        undone = any(not run.folder(self.root).is_done() for run in wanted if self.looks.needs(run) is not False)
        return 2 if self.bad_input else int(undone)

    def end(self, patience: float = PATIENCE) -> None:
        """Tell what is at work to save and leave, and wait for it; what has not left after some seconds is killed."""
        _end([one for active in self.active for one in active.processes], patience)
        self.active = []

    def _has_failed(self, run: Run) -> bool:
        return run.id in self.failed or run.folder(self.root).error.is_file()

    def _is_open(self, run: Run) -> bool:
        return not (run.folder(self.root).is_done() or self._has_failed(run))

    def _left(self, wanted: list[Run]) -> list[Run]:
        """The wanted runs that are open and needed, and of others those that have to say whether they are."""
        self.looks.refresh()
        left = [run for run in wanted if self._is_open(run) and self.looks.needs(run) is not False]
        names = {run.id for run in left}
        return left + [run for run in self.looks.before(left) if self._is_open(run) and run.id not in names]

    def _start_what_fits(self, left: list[Run]) -> None:
        slots = sorted(set(range(self.workers)) - {active.slot for active in self.active})
        waiting = [run for run in left if run.id not in {active.run.id for active in self.active}]
        ready = (run for run in waiting if self._may_start(run) and not run.folder(self.root).is_held())
        for slot, run in zip(slots, ready, strict=False):
            devices = self.devices[slot] if self.devices else None
            with process.held_back(*process.WARNINGS):  # a handler that ends all runs finds this one
                others = self.elsewhere(run)
                ranks = process.start(run, self.root, self.data, devices, others.meeting)
                self.active.append(ActiveRun(run, slot, ranks, others))

    def _may_start(self, run: Run) -> bool:
        if run.role in ("pilot", "tuning"):
            return True
        return self._freeze() and self.looks.needs(run) is True

    def _freeze(self) -> bool:
        self.frozen = self.frozen or SweepFolder(self.root, self.everything[0].suite).freeze(self.everything)
        return self.frozen

    def _worth_waiting(self, left: list[Run]) -> bool:
        """Not if all that is open waits for pilots of which one failed, or for the verdict of runs that failed."""
        pilots = [run for run in self.everything if run.role == "pilot"]
        broken = any(map(self._has_failed, pilots + self.looks.before(left)))
        return not broken or any(self._may_start(run) for run in left)

    def _collect(self) -> None:
        """Look at the runs that have ended."""
        for active in list(self.active):
            code = active.exit_code()
            if code is None:
                continue
            self.active.remove(active)
            if code == Exit.LEFT:
                time.sleep(self.grace)
            elif code == Exit.BAD_INPUT:
                self.bad_input = True
            elif code == Exit.FAILED:
                self.failed.add(active.run.id)
            elif code not in (Exit.DONE, Exit.HELD):
                self._count_killed(active.run, code)

    def _count_killed(self, run: Run, code: int) -> None:
        self.killed[run.id] += 1
        what = f"its process died of signal {-code}" if code < 0 else f"its process was lost (exit code {code})"
        if self.killed[run.id] < REVIVALS:
            run.folder(self.root).forget_failure()
            print(f"{run.id}: {what}; another goes on", file=sys.stderr, flush=True)
        else:
            print(f"{run.id}: failed: {what}, {REVIVALS} times", file=sys.stderr, flush=True)
            self.failed.add(run.id)
            with suppress(OSError):
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
