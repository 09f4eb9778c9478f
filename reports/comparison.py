"""One arm against the baseline in one cell: paired log ratios of the images to target, and all that stands beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.crossing import Crossing, Curve
from reports.words import ALPHA, INTERVAL_SEEDS, seeds_needed, word

SUPPRESS = 0.2  # more censored baselines than this: no headline


@dataclass(frozen=True)
class Pair:
    """One seed: both crossings, and d = log min(T_none, tau) - log min(T_arm, tau)."""

    seed: int
    baseline: Crossing
    arm: Crossing
    d: float


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; nan where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """The result for one arm in one cell. All ratios are baseline over arm: above 1, the arm is faster."""

    speedup: float  # exp(mean d), nan where there is no headline
    low: float  # Student's t on d, 95 %; nan where not shown
    high: float
    word: str
    n: int  # pairs used
    bound: str  # "", ">=" or "<=": what censoring makes of the headline
    p: float  # two-sided t test of mean d = 0
    mean: float  # of d
    sd: float  # of d
    pairs: list[Pair]
    missing: list[int]  # seeds left out for want of a run
    reached: tuple[int, int]  # of the baseline and of the arm
    reach_rates: tuple[Interval, Interval]  # Wilson
    restricted: Interval  # ratio of mean min(T, tau), jackknife t
    chance: float  # that the arm is faster on the same seed, ties one half
    sign_flip: float  # exact two-sided p
    correlation: float  # of log T within pairs
    final: Interval  # ratio of distances at the full budget, arm over baseline, paired t on logs
    sensitivity: dict[str, Interval]  # T read as low, as high, as first evaluation below
    flips: list[str] = field(default_factory=list)  # readings under which the conclusion is another
    seeds_needed: int | None = None


def compare(baseline: Sequence[Curve], arm: Sequence[Curve], target: float, budget: float) -> Comparison:
    """Compare `arm` with `baseline` (lists of Curve, paired by seed) on the images they need to `target` within `budget`.

    A seed that is missing on one side is left out and named. ValueError, one line, for a seed given twice.
    """
    both = _paired(baseline, arm)
    usable = {seed: (b, a) for seed, (b, a) in both.items() if b and a and "missing" not in (b.status, a.status)}
    pairs = []
    for seed, (b, a) in usable.items():
        tb, ta = b.crossing(target), a.crossing(target)
        pairs.append(Pair(seed, tb, ta, math.log(min(tb.images, budget) / min(ta.images, budget))))
    d = np.array([pair.d for pair in pairs])
    headline, p = t_interval(d)
    bound, suppressed = _censoring(pairs)
    mean, sd = _moments(d)
    identical = len(d) > 1 and sd == 0
    shown = Interval(math.nan) if suppressed or not len(d) else headline
    rates = tuple(_wilson(sum(getattr(pair, side).status == "reached" for pair in pairs), len(pairs)) for side in ("baseline", "arm"))
    said = ("points only" if len(d) < INTERVAL_SEEDS else "no headline" if suppressed else "identical" if identical
            else word(shown.low, shown.high, p, len(d), bound))
    times = np.array([[min(pair.baseline.images, budget), min(pair.arm.images, budget)] for pair in pairs]).reshape(-1, 2)
    readings = _sensitivity(pairs, usable, target, budget)
    return Comparison(
        speedup=shown.value, low=shown.low, high=shown.high, word=said, n=len(pairs), bound="" if suppressed else bound, p=p,
        mean=mean, sd=sd, pairs=pairs, missing=sorted(set(both) - set(usable)),
        reached=tuple(sum(getattr(pair, side).status == "reached" for pair in pairs) for side in ("baseline", "arm")),
        reach_rates=rates, restricted=restricted_mean(times), chance=_chance(times), sign_flip=sign_flip(d),
        correlation=_correlation(times), final=_final(usable), sensitivity=readings,
        flips=[name for name, r in readings.items() if not suppressed and _side(r) != _side(shown)] if len(d) >= INTERVAL_SEEDS else [],
        seeds_needed=seeds_needed(mean, sd) if said in ("inconclusive", "preliminary") and sd > 0 else None)


def _paired(baseline: Sequence[Curve], arm: Sequence[Curve]) -> dict[int, tuple[Curve | None, Curve | None]]:
    sides = []
    for name, curves in (("baseline", baseline), ("arm", arm)):
        by_seed = {curve.seed: curve for curve in curves}
        if len(by_seed) < len(curves):
            twice = next(c.seed for c in curves if sum(o.seed == c.seed for o in curves) > 1)
            raise ValueError(f"{name}: seed {twice} is given twice")
        sides.append(by_seed)
    return {seed: (sides[0].get(seed), sides[1].get(seed)) for seed in sorted(sides[0].keys() | sides[1].keys())}


def _moments(d: NDArray) -> tuple[float, float]:
    """Mean and standard deviation; the deviation of equal numbers is exactly zero."""
    if not len(d):
        return math.nan, math.nan
    return float(d.mean()), math.nan if len(d) < 2 else 0.0 if np.ptp(d) == 0 else float(d.std(ddof=1))


def t_interval(d: NDArray) -> tuple[Interval, float]:
    """exp of mean d with Student's t interval, and the p value of mean d = 0. No interval below three pairs or without variance."""
    mean, sd = _moments(d)
    if len(d) < INTERVAL_SEEDS or sd == 0:
        return Interval(math.exp(mean) if len(d) else math.nan), math.nan
    error = sd / math.sqrt(len(d))
    half = float(stats.t.ppf(1 - ALPHA / 2, len(d) - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, len(d) - 1))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half)), p


def _censoring(pairs: Sequence[Pair]) -> tuple[str, bool]:
    """What the headline is (">=", "<=" or ""), and whether there is one at all.

    A censored baseline, or an arm below at its first evaluation, makes the true ratio larger; the other way round, smaller.
    """
    base = [pair.baseline.status == "censored" for pair in pairs]
    arm = [pair.arm.status == "censored" for pair in pairs]
    if any(base) and any(arm) or (pairs and sum(base) > SUPPRESS * len(pairs)):
        return "", True
    larger = any(base) or any(pair.arm.at_first and not pair.baseline.at_first for pair in pairs)
    smaller = any(arm) or any(pair.baseline.at_first and not pair.arm.at_first for pair in pairs)
    return ("", True) if larger and smaller else (">=" if larger else "<=" if smaller else "", False)


def _wilson(k: int, n: int) -> Interval:
    if not n:
        return Interval(math.nan)
    interval = stats.binomtest(k, n).proportion_ci(1 - ALPHA, method="wilson")
    return Interval(k / n, float(interval.low), float(interval.high))


def restricted_mean(times: NDArray) -> Interval:
    """Ratio of mean min(T_none, tau) to mean min(T_arm, tau); times (n, 2). Interval: jackknife t on the log ratio."""
    n = len(times)
    if not n:
        return Interval(math.nan)
    whole = math.log(times[:, 0].mean() / times[:, 1].mean())
    if n < INTERVAL_SEEDS:
        return Interval(math.exp(whole))
    left_out = (times.sum(0) - times) / (n - 1)
    pseudo = n * whole - (n - 1) * np.log(left_out[:, 0] / left_out[:, 1])
    if np.ptp(pseudo) < 1e-12:
        return Interval(math.exp(whole))
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * float(pseudo.std(ddof=1)) / math.sqrt(n)
    return Interval(math.exp(whole), math.exp(float(pseudo.mean()) - half), math.exp(float(pseudo.mean()) + half))


def _chance(times: NDArray) -> float:
    if not len(times):
        return math.nan
    return float(np.mean((times[:, 1] < times[:, 0]) + 0.5 * (times[:, 1] == times[:, 0])))


def sign_flip(d: NDArray) -> float:
    """Exact two-sided p of the mean over all 2^n flips of signs (beyond 20 pairs: 100,000 flips drawn with a fixed seed)."""
    if len(d) < 2:
        return math.nan
    resamples = np.inf if len(d) <= 20 else 99_999
    test = stats.permutation_test((d,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples,
                                  batch=2**14, rng=np.random.default_rng(0))
    return float(test.pvalue)


def _correlation(times: NDArray) -> float:
    if len(times) < 3 or np.ptp(times[:, 0]) == 0 or np.ptp(times[:, 1]) == 0:
        return math.nan
    return float(np.corrcoef(np.log(times.T))[0, 1])


def _final(usable: dict[int, tuple[Curve, Curve]]) -> Interval:
    """exp of the mean log ratio of last distances, arm over baseline, of the pairs that both came to the end."""
    logs = [math.log(a.fid[-1] / b.fid[-1]) for b, a in usable.values()
            if a.status == b.status == "complete" and len(a.fid) and len(b.fid) and min(a.fid[-1], b.fid[-1]) > 0
            and math.isfinite(a.fid[-1]) and math.isfinite(b.fid[-1])]
    return t_interval(np.array(logs))[0]


def _sensitivity(pairs: Sequence[Pair], usable: dict[int, tuple[Curve, Curve]], target: float, budget: float) -> dict[str, Interval]:
    """The headline with T read as the low end of its bracket, the high end, and the first evaluation below."""
    def low(c: Crossing) -> float:
        return c.low if c.status == "reached" else budget

    lows = [(low(p.baseline), low(p.arm)) for p in pairs if not (p.baseline.at_first or p.arm.at_first)]
    highs = [(p.baseline.high, p.arm.high) for p in pairs]
    firsts = [(b.first_below(target), a.first_below(target)) for b, a in usable.values()]
    return {name: t_interval(np.array([math.log(min(b, budget) / min(a, budget)) for b, a in times]))[0]
            for name, times in (("low", lows), ("high", highs), ("first", firsts))}


def _side(interval: Interval) -> int:
    """+1 if the interval lies above 1, -1 below, 0 otherwise."""
    return int(interval.low > 1) - int(interval.high < 1)
