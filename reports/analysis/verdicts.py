"""What may be said of an interval: two complete partitions, one for a method and one for a claim with a number."""

from __future__ import annotations

import math

CLEAR = 1.02  # faster and slower: the whole interval beyond this
SAME = 1.1  # equivalent: the whole interval within this
MOST_CENSORED = 0.2  # levels not reached, in any pooled cell, above which nothing is called excluded
VERDICT_PAIRS, INTERVAL_PAIRS = 6, 3

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = "faster", "slower", "equivalent", "inconclusive"
STRONGER, WEAKER, SUPPORTED, CONTRADICTED, EXCLUDED = "stronger", "weaker", "supported", "contradicted", "excluded"
TOO_SHORT, NOT_TESTED, NO_VARIANCE = "inconclusive: budget too short", "not tested", "no variance"
PRELIMINARY, POINTS = "preliminary", "points only"
DECIDED = (FASTER, SLOWER, EQUIVALENT)  # verdicts after which an arm is not trained on, in a suite that gives looks
SHARES = {2: (0.35, 0.65), 3: (0.2, 0.3, 0.5)}  # of an arm's .05 / m, of its looks, by their number: a union bound

MISSED = f"in a cell, more than {MOST_CENSORED:.0%} of the levels were not reached"

Shares = tuple[float, float]  # of levels not reached, baseline and arm; over cells, the largest of each


def verdict(low: float, high: float, pairs: int, censored: Shares = (0.0, 0.0)) -> str:
    """The verdict of a speedup's interval from `pairs` pairs per cell. An interval of nan: the pairs do not vary."""
    if (word := _too_little(low, high, pairs)) is not None:
        return word
    if low > CLEAR:
        return FASTER
    if high < 1 / CLEAR:
        return SLOWER
    if low >= 1 / SAME and high <= SAME:
        return EQUIVALENT if max(censored) <= MOST_CENSORED else TOO_SHORT
    return INCONCLUSIVE


def claim(low: float, high: float, number: float, pairs: int, censored: Shares = (0.0, 0.0)) -> str:
    """The verdict of a claim "about `number` times as fast". ValueError for a number that is not above 1.1."""
    if not number > SAME:
        raise ValueError(f"number: {number!r} must be above {SAME}; a smaller speedup counts as equivalent")
    if (word := _too_little(low, high, pairs)) is not None:
        return word
    if low > CLEAR and high >= number:
        return STRONGER if low > number else SUPPORTED
    word = WEAKER if low > CLEAR else CONTRADICTED if high < CLEAR else EXCLUDED if high < number else INCONCLUSIVE
    return TOO_SHORT if word != INCONCLUSIVE and censored[0] > MOST_CENSORED else word


def sentence(word: str, low: float, high: float, number: float | None = None) -> str:
    """What the interval [low, high] excludes, in one sentence; `number` for a claim."""
    below, above, n = f"{low:.2f}x", f"{high:.2f}x", f"{number:g}x" if number else ""
    outside = f"the interval excludes speedups below {below} and above {above}"
    return {
        FASTER: f"Faster: {outside}.",
        SLOWER: f"Slower: {outside}, so any speedup.",
        EQUIVALENT: f"Equivalent within 10 %: {outside}.",
        INCONCLUSIVE: f"Inconclusive: {outside}, and leaves open {n or 'a difference'}.",
        TOO_SHORT: f"The budget was too short for [{below}, {above}] to exclude anything: {MISSED}.",
        STRONGER: f"More than {n}: {outside}.",
        WEAKER: f"Faster, but not {n}: {outside}.",
        SUPPORTED: f"Faster, and {n} is possible: {outside}.",
        CONTRADICTED: f"No speedup: {outside}, so {n} too.",
        EXCLUDED: f"{n} is excluded, a smaller speedup is not: {outside}.",
        PRELIMINARY: f"Preliminary, from fewer than {VERDICT_PAIRS} pairs in a cell: {outside}.",
        POINTS: f"Fewer than {INTERVAL_PAIRS} pairs in a cell: there is no interval, and nothing is excluded.",
        NO_VARIANCE: "The pairs do not differ among each other: there is no interval, and nothing is excluded.",
        NOT_TESTED: "No run exists.",
    }[word]


def _too_little(low: float, high: float, pairs: int) -> str | None:
    """The word where the pairs allow no verdict."""
    if pairs < INTERVAL_PAIRS:
        return POINTS if pairs else NOT_TESTED
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_VARIANCE
    return PRELIMINARY if pairs < VERDICT_PAIRS else None
