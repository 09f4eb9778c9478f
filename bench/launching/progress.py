"""How far a suite is, cell by arm, as a small table that fills."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from rich.table import Table

from reports.records.event_log import number
from reports.records.files import read_json
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import Role

MOST_ACROSS = 10  # arms
ROLES = {"pilot": "pilots", "null": "null arm", "floor": "noise floor", "tuning": "tuning"}  # that are no arms


@dataclass
class Grid:
    """Runs done and failed of those planned, and the best distance measured so far, by cell and arm."""

    planned: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    best: dict[str, float] = field(default_factory=dict)

    def add(self, cell: str, role: Role, method: str, state: State, distance: float) -> None:
        """Count one run in. distance: its last; nan if there is none."""
        key = cell, ROLES.get(role, method)
        self.planned[key] += 1
        self.done[key] += state.done
        self.failed[key] += state is State.FAILED
        if math.isfinite(distance):
            self.best[cell] = min(distance, self.best.get(cell, math.inf))

    def table(self) -> Table:
        """Cells down, arms across; the other way round where there are many arms."""
        arms = list(dict.fromkeys(arm for _, arm in self.planned))
        lines = [["done of planned", *arms, "best distance"]]
        for cell in dict.fromkeys(cell for cell, _ in self.planned):
            best = f"{self.best[cell]:.3f}" if cell in self.best else "–"
            lines.append([cell, *(self._count((cell, arm)) for arm in arms), best])
        head, *body = lines if len(arms) <= MOST_ACROSS else map(list, zip(*lines, strict=True))
        rows = Table(box=None, pad_edge=False)
        for title in head:
            rows.add_column(title, justify="left" if title == head[0] else "right")
        for line in body:
            rows.add_row(*line)
        return rows

    def _count(self, key: tuple[str, str]) -> str:
        done, planned, failed = self.done[key], self.planned[key], self.failed[key]
        if not planned:
            return ""
        if failed:
            return f"[red]{done}/{planned}, {failed} failed[/red]"
        return f"[green]{done}/{planned}[/green]" if done == planned else f"{done}/{planned}"


def last_distance(folder: RunFolder) -> float:
    """The last distance of a run, done or under way; nan if there is none."""
    if folder.is_done():
        measured = read_json(folder.result).get("evaluations") or [{}]
        return number(measured[-1].get("fid"))
    return number((folder.last_event("eval") or {}).get("fid"))
