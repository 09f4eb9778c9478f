"""Over cells: equal-weight geometric means, Satterthwaite's degrees of freedom, Holm over the arms, and the A/A test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reports import stats, words
from reports.comparison import Comparison
from reports.stats import Interval, Mean

NULL_LEVEL = 0.001  # the pooled A/A test, at the 99.9 % level

Cells = Mapping[str, Comparison]  # by "dataset/backbone"


@dataclass(frozen=True)
class Pooled:
    """The speedup of one arm over its cells. leave_one_out: range over datasets, each left out in turn; None for one dataset."""

    speedup: float
    low: float
    high: float
    p: float
    p_holm: float
    word: str
    n: int  # fewest pairs of a cell that entered
    cells: list[str]  # that entered
    left_out: list[str]  # that had no headline
    bound: str  # "", ">=", "<=" or "mixed"
    leave_one_out: tuple[float, float] | None
    seeds_needed: int | None


def enters(comparison: Comparison) -> bool:
    """Whether a cell has a headline from enough pairs for an interval."""
    return comparison.n >= words.INTERVAL_SEEDS and math.isfinite(comparison.speedup)


def mean(cells: Cells) -> Mean:
    """The mean log ratio over cells, equal weights; at least one cell."""
    return stats.satterthwaite([c.mean for c in cells.values()], [c.sd for c in cells.values()], [c.n for c in cells.values()])


def pool(arms: Mapping[str, Cells]) -> dict[str, Pooled]:
    """Pool every arm over its cells: arms[method][dataset/backbone]. Holm's correction is over all arms, tested or not."""
    entering = {arm: {cell: c for cell, c in cells.items() if enters(c)} for arm, cells in arms.items()}
    means = {arm: mean(cells) if cells else Mean(math.nan, math.nan, math.nan) for arm, cells in entering.items()}
    corrected = stats.holm({arm: one.p() for arm, one in means.items()})
    return {arm: _pooled(arms[arm], entering[arm], means[arm], corrected[arm], len(arms)) for arm in arms}


def bound_of(cells: Cells) -> str:
    """What censoring makes of a mean over cells."""
    bounds = {c.bound for c in cells.values()} - {""}
    return "" if not bounds else bounds.pop() if len(bounds) == 1 else "mixed"


def _pooled(cells: Cells, entering: Cells, one: Mean, p_holm: float, family: int) -> Pooled:
    shown, bound = one.interval().exp() if entering else Interval(), bound_of(entering)
    n = min((c.n for c in entering.values()), default=0)
    said = _word(shown, p_holm, n, bound, one.error) if entering else _unsaid(cells)
    return Pooled(shown.value, shown.low, shown.high, one.p() if entering else math.nan, p_holm, said, n, list(entering),
                  [cell for cell in cells if cell not in entering], bound, leave_one_out(entering),
                  _needed(entering, one, n, family) if said in words.OPEN else None)


def _word(shown: Interval, p: float, n: int, bound: str, error: float) -> str:
    return words.IDENTICAL if error == 0 else words.word(shown.low, shown.high, p, n, bound)


def _unsaid(cells: Cells) -> str:
    """Of cells that do not enter: too few pairs, or no headline."""
    return words.POINTS if any(c.n and math.isfinite(c.speedup) for c in cells.values()) else words.NO_HEADLINE


def _needed(cells: Cells, one: Mean, n: int, family: int) -> int | None:
    """Pairs per cell that would decide; the test at the level that Holm asks of the smallest p."""
    v = np.array([c.sd**2 for c in cells.values()])
    if not v.sum() > 0:
        return None
    return stats.seeds_needed(one.value, math.sqrt(v.sum()) / len(v), n, words.ALPHA / family, float(v.sum() ** 2 / (v**2).sum()))


def leave_one_out(cells: Cells) -> tuple[float, float] | None:
    """The range of the speedup with each dataset left out in turn; None for a single dataset."""
    datasets = {cell.partition("/")[0] for cell in cells}
    if len(datasets) < 2:
        return None
    means = [math.exp(np.mean([c.mean for cell, c in cells.items() if cell.partition("/")[0] != left])) for left in datasets]
    return min(means), max(means)


@dataclass(frozen=True)
class NullTest:
    """The A/A arm over the suite. failed: its pooled 99.9 % interval misses 1. missing_one: cells whose 95 % interval does."""

    speedup: float
    low: float  # 99.9 %
    high: float
    p: float
    failed: bool
    cells: list[str]
    missing_one: list[str]
    expected: float  # number of such cells by chance


def null_test(cells: Cells) -> NullTest:
    """The A/A test: `none` against itself under other seeds, pooled over the cells."""
    usable = {cell: c for cell, c in cells.items() if enters(c)}
    if not usable:
        return NullTest(math.nan, math.nan, math.nan, math.nan, False, [], [], 0.0)
    one = mean(usable)
    shown, p = one.interval(NULL_LEVEL).exp(), one.p()
    off = [cell for cell, c in usable.items() if c.low > 1 or c.high < 1]
    tested = sum(math.isfinite(c.low) for c in usable.values())
    return NullTest(shown.value, shown.low, shown.high, p, bool(p < NULL_LEVEL), list(usable), off, words.ALPHA * tested)
