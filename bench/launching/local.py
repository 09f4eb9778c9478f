"""Training a suite on this machine: a coordinator with a progress display, MLflow kept in step."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import datasets
import reports
from bench.errors import BadInput
from bench.launching.coordinator import Coordinator
from bench.launching.process import begin
from bench.launching.progress import Grid, last_distance
from bench.launching.sweep_folder import SweepFolder
from bench.planning.plan import plan, select, with_pilots
from bench.planning.suite import SuiteFile
from bench.planning.suite_file import label, with_arms
from bench.runs import checkpoint
from bench.runs.run_spec import Run
from datasets.parallel import cores, leave_with_parent
from reports.records.event_log import read_events
from reports.records.lease import Lease
from reports.records.run_folder import State
from reports.records.suite_records import WITH_ARMS
from reports.report.output import NO_REPORT


def run(
    suite: SuiteFile,
    root: Path,
    data: Path,
    only: str | None,
    workers: int | None,
    sync_every: float,
    arms: Sequence[str] | None = None,
) -> int:
    """Train what is missing; returns 0, 1 if a run failed, 2 after bad input. The same call resumes.

    arms: added to the suite's own and to those of earlier calls. They get a report in which they stand beside these.
    """
    own, suite = suite, widened(suite, root, arms)
    everything = plan(suite)
    wanted = with_pilots(everything, select(everything, only))
    prepare(own, suite, wanted, root, data)
    for one in wanted:
        one.folder(root).forget_failure()
    over = all(one.folder(root).is_done() for one in wanted)
    slots = devices(suite, workers) if not over and suite.device == "cuda" else None
    count = len(slots) if slots else workers or default_workers(suite)
    coordinator = Coordinator(everything, root, data, count, slots)
    coordinator.looks.refresh()
    states, sweep = Counter(map(coordinator.looks.state, wanted)), Path(root) / suite.name
    done = states[State.COMPLETE] + states[State.DIVERGED]
    left, most = len(wanted) - done - states[State.UNNEEDED], "at most " * bool(suite.looks)
    print(f"{suite.name}: {len(wanted)} runs, {done} done, {most}{left} to train; folder {sweep}", flush=True)
    code = 0
    if left:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
                signal.signal(number, lambda got, _: sys.exit(128 + got))  # as Ctrl-C does: what is at work saves
        try:
            with synced(suite.name, Path(root).resolve(), sync_every), SuiteProgress(wanted, root) as progress:
                code = coordinator.train(wanted, lambda: progress.show(coordinator.looks.needs))
                progress.show(coordinator.looks.needs)
        except KeyboardInterrupt:
            print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
            raise
    ended = {one.id: coordinator.looks.state(one) for one in wanted}
    undone = {name: state for name, state in ended.items() if not state.done and state is not State.UNNEEDED}
    unneeded = list(ended.values()).count(State.UNNEEDED)
    told = f", {unneeded} not needed: their arms have a verdict" * bool(unneeded)
    print(f"{len(wanted) - len(undone) - unneeded} of {len(wanted)} runs done{told}", flush=True)
    for name, state in undone.items():
        why = f"failed, see {sweep / name / 'error.json'}" if state is State.FAILED else "not done"
        print(f"  {name}: {why}", file=sys.stderr)
    if undone:
        print("mend what is said there and call the same command again: it trains what is not done", file=sys.stderr)
    if arms:
        page = reports.write(root, suite.name, listing=WITH_ARMS)
        print(*reports.verdicts(root, suite.name, [*map(label, arms)]), sep="\n")
        print(f"report: {page or NO_REPORT}")
    return code


def widened(suite: SuiteFile, root: Path, arms: Sequence[str] | None) -> SuiteFile:
    """The suite with arms added to its own and to those of earlier calls; without arms the suite itself."""
    if not arms:
        return suite
    with_arms(suite, arms)  # what is wrong with these is said first
    sweep = SweepFolder(root, suite.name)
    earlier = [arm for arm in sweep.added_arms() if arm not in map(label, suite.arms)]
    try:
        return with_arms(suite, [*earlier, *arms])
    except BadInput as error:
        told = "put its file back, or delete this listing to take all added arms out"
        raise BadInput(f"{sweep.path / WITH_ARMS}: {str(error).removeprefix('--arm: ')}; {told}") from None


def prepare(own: SuiteFile, suite: SuiteFile, wanted: list[Run], root: Path, data: Path) -> None:
    """Before anything starts: the data is there, no folder belongs to another configuration, no log is broken.

    own: the suite without added arms, whose listing stands beside that of all."""
    sweep = SweepFolder(root, suite.name)
    sweep.check(suite, plan(suite))
    for name in dict.fromkeys(cell.dataset for cell in suite.cells):
        datasets.prepare(name, data)
    for one in wanted:
        folder = one.folder(root)
        if folder.config.is_file():
            folder.ensure_config(one.config)
        if folder.is_done():
            checkpoint.drop_after(folder.checkpoints)  # it may have been killed before it did so
        elif folder.events.is_file():
            read_events(folder.path, live=True)
    with Lease(sweep.path / ".publishing", wait=60.0):  # another call may add an arm meanwhile
        sweep.publish(own, plan(own))
        if suite is not own:
            whole = widened(own, root, suite.arms[len(own.arms) :])
            sweep.publish(whole, plan(whole), WITH_ARMS)


def default_workers(suite: SuiteFile) -> int:
    """As many as fit into the usable cores."""
    return max(1, cores() // max(one.threads * one.processes for one in map(suite.of, suite.cells)))


def devices(suite: SuiteFile, workers: int | None) -> list[str]:
    """The GPUs of each worker, of those that CUDA_VISIBLE_DEVICES leaves to us. BadInput if there are too few."""
    import torch

    each, given = max(suite.of(cell).processes for cell in suite.cells), os.environ.get("CUDA_VISIBLE_DEVICES")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0  # of those that the variable names
    names = given.split(",") if given is not None else map(str, range(there))
    visible = [name.strip() for name in names if name.strip()][:there]
    most = len(visible) // each
    if (workers or 1) > most:
        told = f"{suite.name} trains on cuda, runs at a time: {workers or 1}, GPUs of each: {each}"
        field, do = ("--workers", f"give at most {most}") if most else ("device", "run it where there are enough")
        raise BadInput(f"{field}: {told}; {len(visible)} are visible here; {do}")
    return [",".join(visible[slot * each : (slot + 1) * each]) for slot in range(workers or most)]


@contextmanager
def synced(suite: str, root: Path, every: float, tracking: str | None = None) -> Iterator[None]:
    """Keep MLflow in step meanwhile, if `every` is not 0: one writer, in a process that ends with this one.

    SIGTERM asks it for a last pass; until it can take that, the signal waits.
    """
    if not every:
        yield
        return
    words = ["sync", suite, "--root", str(root), "--watch", str(every), "--quiet"]
    process = begin(_command, words + (["--tracking", tracking] if tracking else []))
    try:
        yield
    finally:
        process.terminate()
        process.join(120)
        process.kill()  # does nothing to one that has ended
        process.join()
        if (code := process.exitcode) not in (0, 2):  # 2: it has said what is wrong with MLflow, in a line
            print(f"sync ended with code {code}; run it again with: python -m bench sync", file=sys.stderr)


def _command(words: list[str]) -> None:
    """A command of ours, `python -m bench ...`, in the process of its own that this is."""
    leave_with_parent()
    sys.argv[1:] = words
    runpy.run_module("bench", run_name="__main__", alter_sys=True)


class SuiteProgress(Progress):
    """A live display, from the run folders alone: cells by arms, a bar, the time left."""

    EVERY = 15.0  # seconds between lines where there is no terminal

    def __init__(self, runs: list[Run], root: Path) -> None:
        self.runs, self.root, self.printed = runs, root, -self.EVERY
        self.grid, self.over = Grid(), dict[str, tuple[State, float]]()  # of runs that are over: state, last distance
        terminal = Console().is_terminal
        columns = (BarColumn(40), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        super().__init__(*columns, disable=not terminal, speed_estimate_period=60)
        self.add_task("starting", total=sum(run.spec.budget for run in runs))

    def get_renderables(self) -> Iterator[RenderableType]:
        """The grid above the bar."""
        yield self.grid.table()
        yield from super().get_renderables()

    def show(self, needs: Callable[[Run], bool | None]) -> None:
        """Look at the run folders and draw; a run that is done or failed counts as trained to its end."""
        trained, grid = 0, Grid()
        self.runs = [run for run in self.runs if needs(run) is not False]
        for run in self.runs:
            folder = run.folder(self.root)
            if run.id not in self.over and (folder.is_done() or folder.error.is_file()):
                self.over[run.id] = folder.state(), last_distance(folder)
            state, distance = self.over.get(run.id) or (State.RUNNING, last_distance(folder))
            over = run.id in self.over
            trained += run.spec.budget if over else (folder.last_event() or {"images": 0})["images"]
            grid.add(run.spec.cell, run.role, run.label, state, distance)
        self.grid, ended = grid, len(self.over)
        task = self.tasks[0]
        self.update(task.id, completed=trained, total=sum(run.spec.budget for run in self.runs))
        seconds = task.time_remaining
        left = "time left unknown" if seconds is None else f"{timedelta(seconds=int(seconds))} left"
        text = f"{ended}/{len(self.runs)} runs, {task.speed or 0:,.0f} images/s, {left}"
        self.update(task.id, description=text)
        if self.disable and time.monotonic() - self.printed >= self.EVERY:
            self.printed = time.monotonic()
            print(f"{task.percentage / 100:4.0%}  {text}", flush=True)
