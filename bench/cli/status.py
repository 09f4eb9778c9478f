"""The table of runs, from their own records, and beside it what the scheduler says; needs neither torch nor the suite file.

The record decides: a scheduler calls a job that it requeued done, or does not know it any more.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.runs import lock
from bench.launching import slurm as scheduler
from bench.runs.event_log import tail
from bench.runs.record import state
from reports.records import reading

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def show(root: Path, name: str, watch: float | None = None) -> None:
    """Print one line per run and the counts; with `watch`, again after so many seconds, until every run is done."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    console.width = max(console.width, 120) if not console.is_terminal else console.width
    folder = Path(root) / name
    if watch is None:
        table, line, _ = _look(folder)
        console.print(table)
        print(line)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            table, line, over = _look(folder, unfinished=True)
            live.update(_page(table, line), refresh=True)
            if over:
                return
            time.sleep(max(watch, 0.5))


def _page(table: Table, line: str) -> Group:
    from rich.console import Group

    return Group(line, table)


def _look(folder: Path, unfinished: bool = False) -> tuple[Table, str, bool]:
    """The table (of what is not done, if so asked), a line of counts, and whether every run is done."""
    from rich.table import Table

    suite = reading.read_json(folder / "suite.json")
    budgets = {(cell["dataset"], cell["backbone"]): cell["budget"] for cell in suite["cells"]}
    jobs = scheduler.of_runs(folder)
    table = Table("run", "role", "state", "images", "last distance", "left", *(["job", "scheduler"] if jobs else []), box=None,
                  pad_edge=False)
    for column in (3, 4, 5):
        table.columns[column].justify = "right"
    counts: Counter[str] = Counter()
    for run in suite["runs"]:
        row = describe(folder / run["run"], budgets[run["dataset"], run["backbone"]])
        counts[row[0]] += 1
        if not (unfinished and row[0] in ("complete", "diverged")):
            table.add_row(run["run"], run["role"], *row, *(jobs.get(run["run"], ("", "")) if jobs else ()))
    total = len(suite["runs"])
    line = (", ".join(f"{count} {word}" for word, count in sorted(counts.items())) + f" of {total} runs; targets "
            + ("frozen" if (folder / "protocol.json").is_file() else "not frozen yet"))
    return table, line, counts["complete"] + counts["diverged"] == total


def describe(folder: Path, budget: int) -> tuple[str, str, str, str]:
    """State, images, last distance and time left of one run."""
    standing = state(folder)
    if standing == "done":
        result = reading.read_json(folder / "result.json")
        evaluations = result["evaluations"]
        return result["status"], f"{result['images']:,}", _number(evaluations[-1]["fid"] if evaluations else None), ""
    if standing == "absent":
        return "missing", "0", "", ""
    last = tail(folder / "events.jsonl") or {}
    images, distance = last.get("images", 0), last_distance(folder / "events.jsonl")
    if standing == "failed":
        return "failed", f"{images:,}", _number(distance), ""
    alive = lock.held(folder / "lock")
    seconds = last.get("seconds")
    left = f"{(budget - images) * seconds / images:,.0f} s" if alive and seconds and images else ""
    return "running" if alive else "stopped", f"{images:,}", _number(distance), left


def last_distance(log: Path) -> float | str | None:
    """The distance of the last evaluation in a log."""
    lines = [line for line in log.read_bytes().splitlines() if line.startswith(b'{"event": "eval"')] if log.is_file() else []
    try:
        return json.loads(lines[-1])["fid"] if lines else None
    except json.JSONDecodeError:  # a torn last line
        return json.loads(lines[-2])["fid"] if len(lines) > 1 else None


def _number(distance: float | str | None) -> str:
    return "" if distance is None else f"{float(distance):.3f}"
