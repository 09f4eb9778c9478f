"""The table of runs, from their own records, and what the scheduler says; needs neither torch nor the suite file.

The record decides: a scheduler calls a job that it requeued done, or does not know it any more.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.table import Table

from bench.cli.console import console, table
from bench.launching import slurm
from bench.launching.progress import Grid
from bench.launching.sweep_folder import SweepFolder
from reports.records.event_log import number
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import Listed, SuiteRecord, read, read_result, read_suite, widest

OVER = {State.COMPLETE, State.DIVERGED, State.UNNEEDED}  # states of runs that nobody waits for


def show(root: Path, name: str, watch: float | None = None) -> None:
    """Print one line per run and the counts; with `watch`, again after so many seconds, until every run is done."""
    sweep, screen = SweepFolder(root, name), console()
    if watch is None:
        rows, grid, line, _ = _look(sweep)
        screen.print(rows, "", grid, "", sep="\n")
        print(line)
        return
    with Live(console=screen, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            rows, grid, line, over = _look(sweep, unfinished=True)
            live.update(Group(grid, line, rows), refresh=True)
            if over:
                return
            time.sleep(max(watch, 0.5))


def _look(sweep: SweepFolder, unfinished: bool = False) -> tuple[Table, Table, str, bool]:
    """The table of runs (of what is not done, if so asked), that of cells by arms, a line of counts, and whether every
    run is done."""
    root, name = sweep.path.parent, sweep.path.name
    suite = read_suite(root, name, widest(root, name))
    budgets = {cell.name: int(cell.budget) for cell in suite.cells}
    jobs = slurm.of_runs(sweep)
    rows = table("run", "role", "state", right=("images", "last distance", "left"))
    for title in ("job", "scheduler") if jobs else ():
        rows.add_column(title)
    counts, grid, (unneeded, said) = Counter[State](), Grid(), _looks(suite, root, name)
    for run in suite.runs:
        state, *figures = describe(RunFolder(sweep.path / run.run), run, budgets[run.cell])
        state = State.UNNEEDED if run.run in unneeded else state
        counts[state] += 1
        if state is not State.UNNEEDED:
            grid.add(run.cell, run.role, run.method, state, number(figures[1]))
        if not (unfinished and state in OVER):
            rows.add_row(run.run, run.role, state, *figures, *(jobs.get(run.run, ("", "")) if jobs else ()))
    frozen = "frozen" if sweep.protocol.is_file() else "not frozen yet"
    bands = f"target bands {frozen}" if suite.seeds.pilots else "no target bands"
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    over = OVER.issuperset(counts)
    return rows, grid.table(), f"{told} of {len(suite.runs)} runs; {bands}{said}", over


def _looks(suite: SuiteRecord, root: Path, name: str) -> tuple[set[str], str]:
    """The runs that are not needed, and in a line where the arms stand; of a suite that gives looks."""
    if not suite.looks:
        return set(), ""
    from reports.report import looks  # SciPy: for such suites alone

    records = read(root, name, widest(root, name))
    looked = looks.looked(records)
    unneeded = {run.run for run in suite.runs if looks.unneeded(records, looked, run)}
    return unneeded, f"\n{looks.told(records, looked)}"


def describe(folder: RunFolder, run: Listed, budget: int) -> tuple[State, str, str, str]:
    """State, images, last distance and time left of one run; ValueError names a broken file."""
    state, left = folder.state(), ""
    if state is State.MISSING:
        return state, "0", "", ""
    if state.done and (result := read_result(folder, run)):
        return state, f"{result.images:,}", f"{result.evaluations[-1].fid:.3f}" if result.evaluations else "", ""
    event, measured = folder.last_event() or {}, folder.last_event("eval")
    images, seconds = event.get("images", 0), event.get("seconds")
    if state is State.RUNNING and seconds and images:
        left = f"{(budget - images) * seconds / images:,.0f} s"
    return state, f"{images:,}", f"{float(measured['fid']):.3f}" if measured else "", left
