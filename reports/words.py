"""The words a report may use, and the rules behind them."""

from __future__ import annotations

import math

CLEAR = 1.02  # faster and slower: the whole interval beyond this
SAME = 1.1  # no detectable difference: the whole interval within this
ALPHA = 0.05
VERDICT_SEEDS, INTERVAL_SEEDS = 6, 3
NOTABLE = 0.013  # gaps of the final distance under 1.3 % are not discussed

POINTS, PRELIMINARY, IDENTICAL, NO_HEADLINE = "points only", "preliminary", "identical", "no headline"
FASTER, SLOWER, NO_DIFFERENCE, INCONCLUSIVE = "faster", "slower", "no detectable difference", "inconclusive"
SUPPORTED, STRONGER, WEAKER, CONTRADICTED, NOT_TESTED = "supported", "stronger", "weaker", "contradicted", "not tested"
OPEN = (INCONCLUSIVE, PRELIMINARY)  # more seeds would help


def word(low: float, high: float, p: float, n: int, bound: str = "") -> str:
    """The word for an interval [low, high] of a speedup with p value p, from n pairs; the first rule that fits.

    bound: ">=" or "<=" where censoring leaves a one-sided statement; then only what it supports is said.
    """
    if n < INTERVAL_SEEDS:
        return POINTS
    if n < VERDICT_SEEDS:
        return PRELIMINARY
    if not (math.isfinite(low) and math.isfinite(high)):
        return INCONCLUSIVE
    if low > CLEAR and p < ALPHA and bound in ("", ">="):
        return FASTER
    if high < 1 / CLEAR and p < ALPHA and bound in ("", "<="):
        return SLOWER
    return NO_DIFFERENCE if 1 / SAME <= low and high <= SAME and not bound else INCONCLUSIVE


def claim(low: float, high: float, number: float, bound: str = "") -> str:
    """The word for a claim of the paper with a number, such as "about 1.5x", from the interval [low, high]; bound as in `word`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return INCONCLUSIVE
    if low > CLEAR:
        said = STRONGER if low > number else WEAKER if high < number else SUPPORTED
    else:
        said = CONTRADICTED if high < CLEAR else INCONCLUSIVE
    allowed = {"": (said,), ">=": (STRONGER,), "<=": (CONTRADICTED,)}.get(bound, ())
    return said if said in allowed else INCONCLUSIVE
