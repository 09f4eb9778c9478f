"""Two sweeps of the same cells and arms: where do their conclusions differ, and is it more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.analysis.comparisons import Interval
from reports.analysis.curves import TIE
from reports.analysis.planning import ALPHA
from reports.analysis.verdicts import INTERVAL_PAIRS
from reports.records.suite_records import read
from reports.report import compared, formats
from reports.report.build import build
from reports.report.page import render
from reports.report.sections import Table, put
from reports.report.tree import Arm, Pool, Report, encode, speedup

ALL = "all cells"  # of the rows over those that both sweeps have
_Side = tuple[Arm | Pool, dict[str, dict[int, float]], str]  # its log ratios by cell and seed, its verdict


@dataclass(frozen=True)
class Row:
    """An arm in a cell, or over the cells that both sweeps have."""

    cell: str  # dataset/backbone, or "all cells"
    method: str  # label of the arm
    first: Interval  # speedup in the first sweep
    second: Interval  # speedup in the second
    words: list[str]  # verdicts of both
    ratio: Interval  # speedup of the second over the first; at 1 - .05 / rows
    how: str  # paired by seed, Welch, identical, or too few pairs
    differs: bool  # whether that interval misses 1
    runs: list[str]  # of both


@dataclass(frozen=True)
class Contrast:
    """sweeps.json: two sweeps side by side."""

    first: str  # suite and root
    second: str  # suite and root
    verdict: str  # what the rows say together
    rows: list[Row]  # arms over cells, then cell by cell


def compare_sweeps(
    root: Path | str, suite: str, other_root: Path | str, other: str, out: Path | str | None = None
) -> Path:
    """Write index.html, sweeps.md, .csv, .tex and .json to `out` (default: ROOT/SUITE/against-OTHER); returns the page.

    ValueError, one line, if a sweep is not there or they have no comparison in common.
    """
    names = f"{suite} in {root}", f"{other} in {other_root}"
    found = contrast(build(read(root, suite)), build(read(other_root, other)), *names)
    folder = Path(out) if out else Path(root) / suite / f"against-{other}"
    caption = f"First: {names[0]}. Second: {names[1]}. Ratio: speedup of the second over the first, at 1 - .05 / rows."
    header = ["cell", "method", "first", "second", "ratio", "difference"]
    table = Table("sweeps", caption, header, [_told(row) for row in found.rows])
    table.write(folder, f"# {found.first} against {found.second}\n\n{found.verdict}")
    put(folder / "sweeps.json", encode(found))
    put(folder / "index.html", render("sweeps.html", c=found, table=table))
    return folder / "index.html"


def contrast(first: Report, second: Report, name: str, other: str) -> Contrast:
    """Both reports, arm by arm. On common seeds the difference is paired, else it is Welch's."""
    mine, theirs, rows = _sides(first), _sides(second), []
    keys = [key for key in mine if key in theirs]
    if not any(cell != ALL for cell, _ in keys):
        raise ValueError(f"suites: {first.suite!r} and {second.suite!r} have no cell and method in common")
    for cell, method in keys:
        (one, logs, word), (two, others, other_word) = mine[cell, method], theirs[cell, method]
        ratio, how = difference([(logs[at], others[at]) for at in logs if at in others], ALPHA / len(keys))
        differs, runs = bool(ratio.low > 1 or ratio.high < 1), sorted({*one.runs, *two.runs})
        rows.append(Row(cell, method, speedup(one), speedup(two), [word, other_word], ratio, how, differs, runs))
    bands = [(a.cell, a.band, b.band) for a in first.cells for b in second.cells if a.cell == b.cell]
    both = [(cell, np.array(a.levels), np.array(b.levels)) for cell, a, b in bands if a and b]
    moved = [cell for cell, a, b in both if len(a) != len(b) or not np.allclose(a, b)]
    words, numbers = sum(row.words[0] != row.words[1] for row in rows), sum(row.differs for row in rows)
    common = formats.plural(len(rows), "comparison")
    verdict = f"{common} in common: {words} with another word, {numbers} with a speedup that differs by more than noise"
    verdict += f", {sum(row.how == 'identical' for row in rows)} identical."
    return Contrast(name, other, verdict + f" Target bands differ: {', '.join(moved)}." * bool(moved), rows)


def _sides(report: Report) -> dict[tuple[str, str], _Side]:
    """What a report says, by cell ("all cells" first) and method."""
    arms = {(arm.cell, arm.method): arm for arm in report.comparisons if arm.role != "floor"}
    logs = {key: {one.seed: one.d for one in arm.result.pairs} if arm.result else {} for key, arm in arms.items()}
    sides: dict[tuple[str, str], Arm | Pool] = {(ALL, pool.method): pool for pool in report.pooled}
    found: dict[tuple[str, str], _Side] = {}
    for key, one in (sides | arms).items():
        cells = (one.cell,) if isinstance(one, Arm) else one.result.cells if one.result else ()
        word = formats.scaled(one.result.verdict, report.scale) if one.result else one.withheld or "no band"
        found[key] = one, {cell: logs[cell, one.method] for cell in cells}, word
    return found


def difference(cells: Sequence[tuple[dict[int, float], dict[int, float]]], alpha: float) -> tuple[Interval, str]:
    """The ratio of two speedups over cells, equal weights, with its interval at 1 - alpha and how it was found."""
    groups: list[Any] = []  # independent: of each cell one on common seeds, else two
    for a, b in cells:
        common = sorted(a.keys() & b.keys())
        paired = len(common) >= INTERVAL_PAIRS
        apart = [np.array([*b.values()]), -np.array([*a.values()])]
        groups += [np.array([b[s] - a[s] for s in common])] if paired else apart
    if min(map(len, groups), default=0) < INTERVAL_PAIRS:
        return Interval(), "too few pairs"
    one = compared.mean_interval(groups, alpha, len(cells))
    same = one.high - one.low == 0 and abs(one.value) <= TIE
    how = "identical" if same else "paired by seed" if len(groups) == len(cells) else "Welch"
    return Interval(*(1.0 if same else math.exp(end) for end in (one.value, one.low, one.high))), how


def _told(row: Row) -> list[str]:
    said = "more than noise" if row.differs else "within noise"
    said = row.how if row.how in ("identical", "too few pairs") else said
    sides = [f"{formats.interval(one)} {word}" for one, word in zip((row.first, row.second), row.words, strict=True)]
    said += ", another word" * (row.words[0] != row.words[1])
    return [row.cell, row.method, *sides, formats.interval(row.ratio), said]
