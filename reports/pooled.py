"""Over cells: equal-weight geometric means, Satterthwaite's degrees of freedom, Holm over the arms, and the A/A test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reports.comparison import Comparison
from reports.words import ALPHA, INTERVAL_SEEDS, seeds_needed, word

NULL_LEVEL = 0.001  # the pooled A/A test, at the 99.9 % level


@dataclass(frozen=True)
class Pooled:
    """The speedup of one arm over its cells. leave_one_out: range over datasets, each left out in turn; None for one dataset."""

    speedup: float
    low: float
    high: float
    p: float
    p_holm: float
    word: str
    cells: list[str]  # that entered
    left_out: list[str]  # that had no headline
    bound: str
    leave_one_out: tuple[float, float] | None
    seeds_needed: int | None


def satterthwaite(comparisons: Sequence[Comparison], level: float = ALPHA) -> tuple[float, float, float, float]:
    """(mean, low, high, p) of the mean of the cells' mean log ratios, equal weights.

    v_c = s_c^2 / n_c; variance = sum v_c / C^2; df = (sum v_c)^2 / sum v_c^2 / (n_c - 1). Satterthwaite 1946.
    """
    mean = float(np.mean([c.mean for c in comparisons]))
    variances = np.array([c.sd**2 / c.n for c in comparisons])
    if not variances.sum() > 0:
        return mean, math.nan, math.nan, math.nan
    df = variances.sum() ** 2 / (variances**2 / [c.n - 1 for c in comparisons]).sum()
    error = math.sqrt(variances.sum()) / len(comparisons)
    half = float(stats.t.ppf(1 - level / 2, df)) * error
    return mean, mean - half, mean + half, 2 * float(stats.t.sf(abs(mean) / error, df))


def pool(arms: Mapping[str, Mapping[str, Comparison]]) -> dict[str, Pooled]:
    """Pool every arm over its cells: arms[method][dataset/backbone]. Holm's correction is over the arms."""
    entering = {arm: {cell: c for cell, c in cells.items() if enters(c)} for arm, cells in arms.items()}
    raw = {arm: satterthwaite(list(cells.values())) for arm, cells in entering.items() if cells}
    holm = _holm({arm: values[3] for arm, values in raw.items()})
    return {arm: _pooled(arms[arm], entering[arm], raw.get(arm), holm.get(arm, math.nan)) for arm in arms}


def enters(comparison: Comparison) -> bool:
    """Whether a cell has a headline with an interval."""
    return comparison.n >= INTERVAL_SEEDS and math.isfinite(comparison.speedup) and comparison.sd >= 0


def _pooled(cells: Mapping[str, Comparison], entering: Mapping[str, Comparison],
            raw: tuple[float, float, float, float] | None, p_holm: float) -> Pooled:
    left_out = [cell for cell in cells if cell not in entering]
    if raw is None:
        return Pooled(math.nan, math.nan, math.nan, math.nan, math.nan, "no headline", [], left_out, "", None, None)
    mean, low, high, p = raw
    bounds = {c.bound for c in entering.values()} - {""}
    bound = bounds.pop() if len(bounds) == 1 else "mixed" if bounds else ""
    n = min(c.n for c in entering.values())
    identical = all(c.sd == 0 for c in entering.values())
    said = "identical" if identical else "inconclusive" if bound == "mixed" else word(math.exp(low), math.exp(high), p_holm, n, bound)
    sd = math.sqrt(sum(c.sd**2 for c in entering.values())) / len(entering)
    return Pooled(math.exp(mean), math.exp(low), math.exp(high), p, p_holm, said, list(entering), left_out, bound,
                  _leave_one_out(entering), seeds_needed(mean, sd) if said in ("inconclusive", "preliminary") and sd > 0 else None)


def _holm(p: dict[str, float]) -> dict[str, float]:
    from statsmodels.stats.multitest import multipletests

    tested = {arm: value for arm, value in p.items() if math.isfinite(value)}
    if not tested:
        return {}
    return dict(zip(tested, multipletests(list(tested.values()), method="holm")[1].tolist(), strict=True))


def _leave_one_out(cells: Mapping[str, Comparison]) -> tuple[float, float] | None:
    datasets = {cell.partition("/")[0] for cell in cells}
    if len(datasets) < 2:
        return None
    means = [math.exp(float(np.mean([c.mean for cell, c in cells.items() if cell.partition("/")[0] != left]))) for left in datasets]
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


def null_test(cells: Mapping[str, Comparison]) -> NullTest:
    """The A/A test: `none` against itself under other seeds, pooled over the cells."""
    usable = {cell: c for cell, c in cells.items() if enters(c)}
    if not usable:
        return NullTest(math.nan, math.nan, math.nan, math.nan, False, [], [], 0.0)
    mean, low, high, p = satterthwaite(list(usable.values()), NULL_LEVEL)
    off = [cell for cell, c in usable.items() if c.low > 1 or c.high < 1]
    return NullTest(math.exp(mean), math.exp(low), math.exp(high), p, bool(p < NULL_LEVEL), list(usable), off, ALPHA * len(usable))
