"""The table of runs, from their own records alone; needs neither torch nor the suite file."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from bench.eventlog import tail
from bench.record import state
from reports import reading

SILENT = 300.0  # seconds without an event after which a run that is not done counts as stopped


def show(root: Path, name: str) -> None:
    """Print one line per run and the counts."""
    from rich.console import Console
    from rich.table import Table

    suite = reading.read_json(Path(root) / name / "suite.json")
    budgets = {(cell["dataset"], cell["backbone"]): cell["budget"] for cell in suite["cells"]}
    table = Table("run", "role", "state", "images", "last distance", "left", box=None, pad_edge=False)
    for column in (3, 4, 5):
        table.columns[column].justify = "right"
    counts: Counter[str] = Counter()
    for run in suite["runs"]:
        row = describe(Path(root) / name / run["run"], budgets[run["dataset"], run["backbone"]])
        counts[row[0]] += 1
        table.add_row(run["run"], run["role"], *row)
    console = Console()
    console.width = max(console.width, 120) if not console.is_terminal else console.width
    console.print(table)
    frozen = (Path(root) / name / "protocol.json").is_file()
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())) + f" of {len(suite['runs'])} runs; targets "
          + ("frozen" if frozen else "not frozen yet"))


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
    alive = time.time() - last.get("time", 0) < SILENT and (folder / "lock").is_file()
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
