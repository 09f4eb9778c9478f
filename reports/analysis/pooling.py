"""Over cells: equal-weight geometric means with the one interval that decides, and the test of the null arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from reports.analysis import verdicts
from reports.analysis.comparisons import Both, Comparison, Interval
from reports.analysis.planning import ALPHA, Plan, Planned, noncentrality, plan, standard_error

NULL_ALPHA = 0.001  # of the null arm's one test

Cells = Mapping[str, Comparison]  # by "dataset/backbone"


@dataclass(frozen=True)
class Welch:
    """Welch's test of whether cells differ: F, its degrees of freedom and p."""

    f: float
    freedom: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Pooled(Planned):
    """One arm over its usable cells. [low, high], at `level`, decides everything said of the arm; descriptive is 95 %.

    No interval (nan): fewer than three pairs in a cell, or no variance. Without pairs in any usable cell, all is nan.
    """

    speedup: float
    low: float
    high: float
    level: float  # 1 - .05 / m
    verdict: str
    sentence: str  # what the interval excludes
    n: int  # fewest pairs of a pooled cell
    cells: tuple[str, ...]  # pooled
    unusable: tuple[str, ...]  # shown, not pooled: their pilots gave no band
    descriptive: Interval
    mean: float  # of the cells' mean d
    error: float  # its standard error
    freedom: float  # Satterthwaite's
    plan: Plan
    censored: Both  # largest share over pooled cells, baseline and arm
    welch: Welch | None  # from six pairs per cell and two cells on
    leave_one_out: tuple[float, float] | None  # range of the speedup with one dataset left out; None for one dataset


@dataclass(frozen=True)
class NullTest:
    """The null arm over the suite, tested once at 99.9 %. smallest_bias: the ratio it would catch in 80 %."""

    speedup: float
    low: float
    high: float
    failed: bool
    smallest_bias: float
    cells: tuple[str, ...]


def pool(comparisons: Mapping[str, Cells], unusable: Collection[str] = ()) -> dict[str, Pooled]:
    """Pool every arm of the plan over its cells: comparisons[arm]["dataset/backbone"], decided at 1 - .05 / m.

    m is the number of arms: give all of the plan, but no null arm and no noise floor. unusable: cells whose pilots gave
    no usable band; they are named and not pooled. No other cell is ever left out: one without pairs allows no interval.
    """
    alpha = ALPHA / max(len(comparisons), 1)
    return {arm: pool_cells(cells, alpha, unusable) for arm, cells in comparisons.items()}


def pool_cells(cells: Cells, alpha: float, unusable: Collection[str] = ()) -> Pooled:
    """One arm, decided at level 1 - alpha: `pool` for one arm, and the claims about a part of the cells."""
    used = {cell: one for cell, one in cells.items() if cell not in unusable}
    n = min((one.n for one in used.values()), default=0)
    filled = [one for one in used.values() if one.n]
    mean = float(np.mean([one.mean for one in filled])) if filled else math.nan
    error, freedom = math.nan, math.nan
    if n >= verdicts.INTERVAL_PAIRS:
        error, freedom = standard_error([one.sd.value for one in filled], [one.n for one in filled])
    decisive, shown = (_interval(mean, error, freedom, a) for a in (alpha, ALPHA))
    worst = [max((one.censored[side] for one in filled), default=math.nan) for side in (0, 1)]
    censored = (worst[0], worst[1])
    word = verdicts.verdict(decisive.low, decisive.high, max(n, int(bool(filled))), censored)
    return Pooled(
        decisive.value,
        decisive.low,
        decisive.high,
        level=1 - alpha,
        verdict=word,
        sentence=verdicts.sentence(word, decisive.low, decisive.high),
        n=n,
        cells=tuple(used),
        unusable=tuple(cell for cell in cells if cell in unusable),
        descriptive=shown,
        mean=mean,
        error=error,
        freedom=freedom,
        plan=plan([one.sd.value for one in filled], [one.n for one in filled], alpha),
        censored=censored,
        welch=_welch(used),
        leave_one_out=_leave_one_out(used),
    )


def null_test(cells: Cells, unusable: Collection[str] = ()) -> NullTest:
    """The null arm's test, from its comparisons with the baseline; without an interval it does not fail."""
    one = pool_cells(cells, NULL_ALPHA, unusable)
    bias = math.exp(noncentrality(one.freedom, NULL_ALPHA) * one.error) if one.error > 0 else math.nan
    return NullTest(one.speedup, one.low, one.high, one.low > 1 or one.high < 1, bias, one.cells)


def _interval(mean: float, error: float, freedom: float, alpha: float) -> Interval:
    if not error > 0:
        return Interval(math.exp(mean))
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _welch(cells: Cells) -> Welch | None:
    """Welch's F; None for one cell, fewer than six pairs, or a cell without variance."""
    usable = all(one.n >= verdicts.VERDICT_PAIRS and one.sd.value > 0 for one in cells.values())
    if len(cells) < 2 or not usable:
        return None
    found = anova_oneway([one.d for one in cells.values()], use_var="unequal")
    return Welch(float(found.statistic), (float(found.df_num), float(found.df_denom)), float(found.pvalue))


def _leave_one_out(cells: Cells) -> tuple[float, float] | None:
    means = {cell: one.mean for cell, one in cells.items() if one.n}
    datasets = {cell.partition("/")[0] for cell in means}
    left = [[mean for cell, mean in means.items() if cell.partition("/")[0] != out] for out in datasets]
    speedups = [math.exp(np.mean(those)) for those in left if those]
    return (min(speedups), max(speedups)) if speedups else None
