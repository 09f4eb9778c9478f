"""The words a report may use, and the rules behind them."""

from __future__ import annotations

import math

from scipy import stats

CLEAR = 1.02  # faster and slower: the whole interval beyond this
SAME = 1.1  # no detectable difference: the whole interval within this
ALPHA = 0.05
VERDICT_SEEDS, INTERVAL_SEEDS = 6, 3
NOTABLE = 0.013  # gaps of the final distance under 1.3 % are not discussed


def word(low: float, high: float, p: float, n: int, bound: str = "") -> str:
    """The word for an interval [low, high] of a speedup with p value p, from n pairs; the first rule that fits.

    bound: ">=" or "<=" where censoring leaves a one-sided statement; then only what it supports is said.
    """
    if n < INTERVAL_SEEDS:
        return "points only"
    if not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if n < VERDICT_SEEDS:
        return "preliminary"
    if low > CLEAR and p < ALPHA and bound != "<=":
        return "faster"
    if high < 1 / CLEAR and p < ALPHA and bound != ">=":
        return "slower"
    return "no detectable difference" if 1 / SAME <= low and high <= SAME and not bound else "inconclusive"


def claim(low: float, high: float, number: float) -> str:
    """The word for a claim of the paper with a number, such as "about 1.5x"."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if low > CLEAR:
        return "stronger" if low > number else "weaker" if high < number else "supported"
    return "contradicted" if high < CLEAR else "inconclusive"


def seeds_needed(mean: float, sd: float, most: int = 1000) -> int | None:
    """About how many pairs would decide, if log ratios go on with this mean and standard deviation; None beyond `most`."""
    for n in range(VERDICT_SEEDS, most + 1):
        half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * sd / math.sqrt(n)
        low, high = mean - half, mean + half
        clear = math.log(CLEAR)
        if low > clear or high < -clear or (-math.log(SAME) <= low and high <= math.log(SAME)):
            return n
    return None
