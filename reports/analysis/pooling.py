"""Over cells: equal-weight geometric means with the one interval that decides, and the test of the null arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.oneway import anova_oneway

from reports.analysis import verdicts
from reports.analysis.comparisons import Comparison, Interval
from reports.analysis.planning import ALPHA, Plan, Planned, half_width, noncentrality, plan, standard_error

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

    No interval (nan): fewer than three pairs in a cell, or no variance. Where a usable cell has no pair, n is 0, all
    numbers are nan and `sentence` names the cell.
    """

    speedup: float
    low: float
    high: float
    level: float  # 1 - .05 / m, or of its share
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
    censored: verdicts.Shares  # largest share over pooled cells, baseline and arm
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


def pool(
    comparisons: Mapping[str, Cells], unusable: Collection[str] = (), shares: Mapping[str, float] | None = None
) -> dict[str, Pooled]:
    """Pool every arm of the plan over its cells: comparisons[arm]["dataset/backbone"], decided at 1 - .05 / m.

    m is the number of arms: give all of the plan, but no null arm and no noise floor. unusable: cells whose pilots gave
    no usable band; they are named and not pooled. No other cell is ever left out: one without a pair allows no number.
    shares: of the .05 / m, what the look of an arm has (`verdicts.SHARES`); else all.
    """
    alpha, shares = ALPHA / max(len(comparisons), 1), shares or {}
    return {arm: pool_cells(cells, alpha * shares.get(arm, 1.0), unusable) for arm, cells in comparisons.items()}


def pool_cells(cells: Cells, alpha: float, unusable: Collection[str] = ()) -> Pooled:
    """One arm, decided at level 1 - alpha: `pool` for one arm, and the claims about a part of the cells.

    Where a used cell has no pair there is no number: n is 0, all numbers are nan, and `sentence` names those cells.
    """
    used = {cell: one for cell, one in cells.items() if cell not in unusable}
    empty = [cell for cell, one in used.items() if not one.n]
    whole = [] if empty else list(used.values())
    n, sds, pairs = (
        min((one.n for one in used.values()), default=0),
        [one.sd.value for one in whole],
        [one.n for one in whole],
    )
    mean = float(np.mean([one.mean for one in whole])) if whole else math.nan
    error, freedom = map(float, standard_error(sds, pairs)) if n >= verdicts.INTERVAL_PAIRS else (math.nan, math.nan)
    decisive, shown = (_interval(mean, error, freedom, a) for a in (alpha, ALPHA))
    missed = [max((one.censored[side] for one in whole), default=math.nan) for side in (0, 1)]
    censored = (missed[0], missed[1])
    word = verdicts.verdict(decisive.low, decisive.high, n, censored)
    sentence = verdicts.sentence(word, decisive.low, decisive.high)
    if 0 < len(empty) < len(used):
        word, sentence = verdicts.POINTS, f"No number: no pair in {', '.join(empty)}, and no cell is left out."
    datasets = {cell.partition("/")[0] for cell in used}
    kept = [[one.mean for cell, one in used.items() if cell.partition("/")[0] != left] for left in datasets]
    without = [math.exp(np.mean(means)) for means in kept if means and whole]
    return Pooled(
        decisive.value,
        decisive.low,
        decisive.high,
        level=1 - alpha,
        verdict=word,
        sentence=sentence,
        n=n,
        cells=tuple(used),
        unusable=tuple(cell for cell in cells if cell in unusable),
        descriptive=shown,
        mean=mean,
        error=error,
        freedom=freedom,
        plan=plan(sds, pairs, alpha),
        censored=censored,
        welch=_welch(whole),
        leave_one_out=(min(without), max(without)) if without else None,
    )


def null_test(cells: Cells, unusable: Collection[str] = ()) -> NullTest:
    """The null arm's test, from its comparisons with the baseline; without an interval it does not fail."""
    one = pool_cells(cells, NULL_ALPHA, unusable)
    bias = math.exp(noncentrality(one.freedom, NULL_ALPHA) * one.error) if one.error > 0 else math.nan
    return NullTest(one.speedup, one.low, one.high, one.low > 1 or one.high < 1, bias, one.cells)


def _interval(mean: float, error: float, freedom: float, alpha: float) -> Interval:
    half = float(half_width(error, freedom, alpha)) if error > 0 else math.nan
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _welch(cells: Sequence[Comparison]) -> Welch | None:
    """Welch's F; None for one cell, fewer than six pairs, or a cell without variance."""
    if len(cells) < 2 or not all(one.n >= verdicts.VERDICT_PAIRS and one.sd.value > 0 for one in cells):
        return None
    found = anova_oneway([one.d for one in cells], use_var="unequal")
    return Welch(float(found.statistic), (float(found.df_num), float(found.df_denom)), float(found.pvalue))
