"""One arm against the baseline in one cell: paired differences of the log images to the band."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.analysis import verdicts
from reports.analysis.curves import TIE, Array, Curve, as_levels, log_times
from reports.analysis.planning import ALPHA, Plan, Planned, plan
from reports.analysis.verdicts import Shares

EXACT_PAIRS = 13  # sign flips: up to here all 2^n are tried
DRAWN_FLIPS = 9_999  # beyond


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided interval; nan where there is none."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Pair:
    """One seed: L, the log images to the band, of baseline and arm, and d = L_baseline - L_arm."""

    seed: int
    baseline: float
    arm: float
    d: float


@dataclass(frozen=True)
class BandLevel:
    """One distance of the band: the speedup to it alone with its 95 % interval, and how many runs did not reach it."""

    distance: float
    speedup: Interval
    censored: tuple[int, int]  # runs of baseline and arm


@dataclass(frozen=True)
class Final:
    """Distances at the full budget, of the n pairs that both finished there."""

    n: int
    baseline: float  # mean over seeds
    arm: float
    ratio: Interval  # arm / baseline, geometric mean, 95 %


@dataclass(frozen=True)
class Comparison(Planned):
    """One arm in one cell. Ratios are baseline over arm: above 1 the arm is faster. Intervals are 95 % and descriptive.

    Shares and counts are of baseline and arm. Without pairs, numbers are nan.
    """

    speedup: float  # exp of the mean of d
    low: float  # Student's t on d; nan below three pairs or without variance
    high: float
    verdict: str  # of this cell alone
    n: int  # pairs used
    mean: float  # of d
    sd: Interval  # of d, with its chi-square interval; nan below two pairs, 0 where they differ by rounding only
    plan: Plan
    censored: Shares  # share of levels not reached
    below: Shares  # share of levels that the first evaluation is below already
    reached: tuple[int, int]  # runs that reached the band's bottom
    pairs: tuple[Pair, ...]
    levels: tuple[BandLevel, ...]
    final: Final
    correlation: float  # of L within pairs; nan below three pairs or where one side does not vary
    sign_flip: float  # two-sided p of the mean of d; nan below two pairs or without variance
    sign_flip_method: str  # exact | sampled | no variance | points only
    missing: tuple[int, ...]  # seeds left out because a run is missing
    diverged: tuple[tuple[int, ...], tuple[int, ...]]  # seeds whose runs count as not reached at every level

    @property
    def d(self) -> Array:
        """The log ratios (n,), in the order of seeds."""
        return np.array([pair.d for pair in self.pairs], dtype=float)

    @property
    def smallest(self) -> float:
        """The smallest d: where an arm fails in some seeds, the interval flatters it."""
        return float(self.d.min()) if self.n else math.nan


def compare(
    baseline: Sequence[Curve], arm: Sequence[Curve], levels: ArrayLike, budget: float, first: float | None = None
) -> Comparison:
    """Compare two lists of curves, paired by seed, on the images they need to the band within `budget` images.

    levels: distances of the band (K,), or one number for a single target. first: the first planned evaluation; by
    default the earliest of any curve. ValueError for a seed given twice, or a number that is not positive and finite.
    """
    goals = as_levels(levels)
    for name, value in (("budget", budget), ("first", first)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: {value!r} must be a positive, finite number of images")
    used, missing = _match(baseline, arm)
    sides = [[both[side] for both in used] for side in (0, 1)]
    starts = [curve.points[0][0] for curves in sides for curve in curves if len(curve.points[0])]
    start = min(first or min(starts, default=budget), budget)
    base, other = (log_times(curves, goals, start, budget) for curves in sides)
    d, seeds = base.mean - other.mean, [curve.seed for curve in sides[0]]
    interval, sd, censored = ratio(d), deviation(d), _shares(base.censored, other.censored)
    p, method = sign_flip(d)
    late = [times.censored.sum(axis=0).tolist() for times in (base, other)]
    by_level = zip(goals.tolist(), (base.values - other.values).T, *late, strict=True)
    diverged = [tuple(curve.seed for curve in curves if curve.status == "diverged") for curves in sides]
    return Comparison(
        interval.value,
        interval.low,
        interval.high,
        verdict=verdicts.verdict(interval.low, interval.high, len(d), censored),
        n=len(d),
        mean=float(d.mean()) if len(d) else math.nan,
        sd=sd,
        plan=plan([sd.value], [len(d)]),
        censored=censored,
        below=_shares(base.below, other.below),
        reached=(len(d) - late[0][-1], len(d) - late[1][-1]),
        pairs=tuple(map(Pair, seeds, base.mean.tolist(), other.mean.tolist(), d.tolist())),
        levels=tuple(BandLevel(goal, ratio(logs), (b, a)) for goal, logs, b, a in by_level),
        final=_final(used),
        correlation=_correlation(base.mean, other.mean),
        sign_flip=p,
        sign_flip_method=method,
        missing=missing,
        diverged=(diverged[0], diverged[1]),
    )


def ratio(logs: Array, level: float = 1 - ALPHA) -> Interval:
    """exp of the mean of log ratios (n,); Student's t interval from three on, unless they differ by rounding only."""
    if len(logs) < verdicts.INTERVAL_PAIRS or np.ptp(logs) <= TIE:
        return Interval(math.exp(logs.mean())) if len(logs) else Interval()
    interval = stats.ttest_1samp(logs, 0.0).confidence_interval(level)
    return Interval(math.exp(logs.mean()), float(np.exp(interval.low)), float(np.exp(interval.high)))


def sign_flip(d: Array) -> tuple[float, str]:
    """Two-sided p of the mean of d (n,) under flips of signs, and how it was computed; nan without variance."""
    if len(d) < 2:
        return math.nan, verdicts.POINTS
    if np.ptp(d) <= TIE:
        return math.nan, verdicts.NO_VARIANCE
    exact = len(d) <= EXACT_PAIRS
    draws = math.inf if exact else DRAWN_FLIPS
    test = stats.permutation_test((d,), np.mean, permutation_type="samples", vectorized=True, n_resamples=draws, rng=0)
    return float(test.pvalue), "exact" if exact else "sampled"


def deviation(d: Array) -> Interval:
    """Standard deviation of d (n,) with its 95 % chi-square interval; nan below two values."""
    if len(d) < 2:
        return Interval()
    return around_deviation(0.0 if np.ptp(d) <= TIE else float(d.std(ddof=1)), len(d) - 1)


def around_deviation(sd: float, freedom: float) -> Interval:
    """A standard deviation with its 95 % chi-square interval."""
    low, high = np.sqrt(freedom / stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], freedom)).tolist()
    return Interval(sd, sd * low, sd * high)


def _match(baseline: Sequence[Curve], arm: Sequence[Curve]) -> tuple[list[tuple[Curve, Curve]], tuple[int, ...]]:
    """The pairs in the order of seeds, and the seeds that a missing run leaves out."""
    for name, curves in (("baseline", baseline), ("arm", arm)):
        seed, times = Counter(curve.seed for curve in curves).most_common(1)[0] if curves else (0, 1)
        if times > 1:
            raise ValueError(f"{name}: seed {seed} is given twice; each pair has a seed of its own")
    base, other = ({curve.seed: curve for curve in curves if curve.status != "missing"} for curves in (baseline, arm))
    both = sorted(base.keys() & other.keys())
    left = {curve.seed for curve in (*baseline, *arm)} - set(both)
    return [(base[seed], other[seed]) for seed in both], tuple(sorted(left))


def _shares(baseline: NDArray[np.bool_], arm: NDArray[np.bool_]) -> Shares:
    return (float(baseline.mean()), float(arm.mean())) if baseline.size else (math.nan, math.nan)


def _final(pairs: Sequence[tuple[Curve, Curve]]) -> Final:
    """Of the pairs whose runs both came to the same last evaluation with a positive, finite distance."""
    ends = [(b.points, a.points) for b, a in pairs if b.status == a.status == "complete"]
    last = [(y[-1], v[-1]) for (x, y), (u, v) in ends if len(x) and len(u) and x[-1] == u[-1]]
    good = np.array([both for both in last if 0 < min(both) <= max(both) < math.inf]).reshape(-1, 2)
    if not len(good):
        return Final(0, math.nan, math.nan, Interval())
    base, arm = good.T
    return Final(len(good), float(base.mean()), float(arm.mean()), ratio(np.log(arm) - np.log(base)))


def _correlation(baseline: Array, arm: Array) -> float:
    if len(arm) < verdicts.INTERVAL_PAIRS or min(np.ptp(baseline), np.ptp(arm)) <= TIE:
        return math.nan
    return float(stats.pearsonr(baseline, arm).statistic)
