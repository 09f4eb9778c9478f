"""One arm against the baseline in one cell: paired log ratios of the images to target, and all that stands beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reports import stats, words
from reports.crossing import Crossing, Curve
from reports.stats import Interval

SUPPRESS = 0.2  # more censored baselines than this: no headline
READINGS = ("low", "high", "first")  # other ways to read T

Pairs = dict[int, tuple[Curve, Curve]]  # baseline and arm by seed


@dataclass(frozen=True)
class Pair:
    """One seed: both crossings, and d = log min(T_none, tau) - log min(T_arm, tau)."""

    seed: int
    baseline: Crossing
    arm: Crossing
    d: float


@dataclass(frozen=True)
class Final:
    """Distances at the full budget, of the n pairs that both came to the end."""

    n: int = 0
    baseline: float = math.nan  # mean over seeds
    arm: float = math.nan
    difference: Interval = Interval()  # arm - baseline, paired t
    ratio: Interval = Interval()  # arm / baseline, paired t on logs
    mean: float = math.nan  # of the log ratios
    sd: float = math.nan

    @property
    def discussed(self) -> bool:
        """Gaps under 1.3 % are not discussed as differences."""
        return math.isfinite(self.ratio.value) and abs(math.log(self.ratio.value)) >= math.log1p(words.NOTABLE)


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
    diverged: tuple[list[int], list[int]]  # seeds of the baseline and of the arm that count as censored although they may have crossed
    reached: tuple[int, int]  # of the baseline and of the arm
    reach_rates: tuple[Interval, Interval]  # Wilson
    restricted: Interval  # ratio of mean min(T, tau), jackknife t
    chance: float  # that the arm is faster on the same seed, ties one half
    sign_flip: float  # exact two-sided p
    correlation: float  # of log T within pairs
    final: Final
    sensitivity: dict[str, Interval]  # T read as low, as high, as first evaluation below
    flips: list[str] = field(default_factory=list)  # readings under which the conclusion is another
    seeds_needed: int | None = None


def compare(baseline: Sequence[Curve], arm: Sequence[Curve], target: float, budget: float) -> Comparison:
    """Compare `arm` with `baseline` (lists of Curve, paired by seed) on the images they need to `target` within `budget`.

    A seed that is missing on one side is left out and named. ValueError, one line, for a seed given twice, and for a
    target or budget that is no positive number.
    """
    _positive(target=target, budget=budget)
    usable, missing = match(baseline, arm)
    pairs = [pair(seed, b.crossing(target, budget), a.crossing(target, budget), budget) for seed, (b, a) in usable.items()]
    d = np.array([one.d for one in pairs])
    mean, sd = spread(d)
    interval, p = stats.paired(d)
    bound, suppressed = censoring([one.baseline for one in pairs], [one.arm for one in pairs])
    shown = Interval() if suppressed or not pairs else interval.exp()
    said = _word(shown, p, len(d), bound, sd, suppressed)
    readings = _sensitivity(pairs, usable, target, budget)
    times = restricted(pairs, budget)
    reached = tuple(sum(getattr(one, side).status == "reached" for one in pairs) for side in ("baseline", "arm"))
    return Comparison(
        speedup=shown.value, low=shown.low, high=shown.high, word=said, n=len(pairs), bound=bound, p=p, mean=mean, sd=sd,
        pairs=pairs, missing=missing, diverged=tuple([s for s in usable if usable[s][i].status == "diverged"] for i in (0, 1)),
        reached=reached, reach_rates=tuple(stats.wilson(k, len(pairs)) for k in reached),
        restricted=stats.restricted_ratio(*times), chance=stats.chance(*times), sign_flip=stats.sign_flip(d),
        correlation=stats.correlation(*times), final=final(usable), sensitivity={name: r.exp() for name, (r, _, _) in readings.items()},
        flips=[] if said in (words.POINTS, words.NO_HEADLINE) else _flips(interval, p, bound, readings),
        seeds_needed=stats.seeds_needed(mean, sd, len(d)) if said in words.OPEN else None)


def match(baseline: Sequence[Curve], arm: Sequence[Curve]) -> tuple[Pairs, list[int]]:
    """The usable pairs by seed, and the seeds left out because a side is missing. ValueError for a seed given twice."""
    sides = [_by_seed("baseline", baseline), _by_seed("arm", arm)]
    seeds = sorted(sides[0].keys() | sides[1].keys())
    usable = {s: (sides[0][s], sides[1][s]) for s in seeds
              if all(s in side and side[s].status != "missing" for side in sides)}
    return usable, [s for s in seeds if s not in usable]


def pair(seed: int, baseline: Crossing, arm: Crossing, budget: float) -> Pair:
    """One pair, its d restricted to the budget."""
    return Pair(seed, baseline, arm, math.log(min(baseline.images, budget)) - math.log(min(arm.images, budget)))


def spread(values: NDArray) -> tuple[float, float]:
    """Mean and standard deviation of (n,), nan where there are too few."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, math.nan
    mean, sd = stats.moments(values)
    return float(mean), float(sd)


def restricted(pairs: Sequence[Pair], budget: float) -> NDArray:
    """min(T, tau) of baseline and arm, (2, n)."""
    return np.array([[min(getattr(one, side).images, budget) for one in pairs] for side in ("baseline", "arm")])


def censoring(baseline: Sequence[Crossing], arm: Sequence[Crossing]) -> tuple[str, bool]:
    """What the headline is (">=", "<=" or ""), and whether there is none at all, from the crossings of both sides."""
    censored = [sum(c.status == "censored" for c in side) for side in (baseline, arm)]
    return bounds(*censored, sum(c.at_first for c in baseline), sum(c.at_first for c in arm), len(baseline))


def bounds(base_censored: int, arm_censored: int, base_first: int, arm_first: int, n: int) -> tuple[str, bool]:
    """The same from counts: runs censored, and runs below at their first evaluation, of n pairs.

    A censored baseline, or an arm that is below at its first evaluation, makes the true ratio larger; the other way
    round, smaller. Both at once, or more than 20 % of the baselines censored: nothing can be said of a mean ratio.
    """
    larger, smaller = base_censored + arm_first > 0, arm_censored + base_first > 0
    if (larger and smaller) or base_censored > SUPPRESS * n:
        return "", True
    return ">=" if larger else "<=" if smaller else "", False


def final(usable: Pairs) -> Final:
    """Last distances of the pairs whose runs both came to the same end with a positive, finite distance."""
    ends = [(b.fid[-1], a.fid[-1]) for b, a in usable.values()
            if a.status == b.status == "complete" and len(a.fid) and len(b.fid) and a.images[-1] == b.images[-1]]
    values = np.array([end for end in ends if all(math.isfinite(x) and x > 0 for x in end)]).reshape(-1, 2)
    if not len(values):
        return Final()
    base, arm = values.T
    logs = np.log(arm) - np.log(base)
    return Final(len(values), float(base.mean()), float(arm.mean()), stats.paired(arm - base)[0], stats.paired(logs)[0].exp(), *spread(logs))


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {value!r} is no positive number")


def _by_seed(name: str, curves: Sequence[Curve]) -> dict[int, Curve]:
    found: dict[int, Curve] = {}
    for curve in curves:
        if curve.seed in found:
            raise ValueError(f"{name}: seed {curve.seed} is given twice")
        found[curve.seed] = curve
    return found


def _word(shown: Interval, p: float, n: int, bound: str, sd: float, suppressed: bool) -> str:
    if n < words.INTERVAL_SEEDS:
        return words.POINTS
    if suppressed:
        return words.NO_HEADLINE
    return words.IDENTICAL if sd == 0 else words.word(shown.low, shown.high, p, n, bound)


def _sensitivity(pairs: Sequence[Pair], usable: Pairs, target: float, budget: float) -> dict[str, tuple[Interval, float, int]]:
    """Mean log ratio, its p and its pairs, with T read as the low end of its bracket, the high end, the first evaluation below.

    Pairs that are below at their first evaluation have no low end and are left out of that line.
    """
    def low(c: Crossing) -> float:
        return c.low if c.status == "reached" else budget

    times = {"low": [(low(one.baseline), low(one.arm)) for one in pairs if not (one.baseline.at_first or one.arm.at_first)],
             "high": [(one.baseline.high, one.arm.high) for one in pairs],
             "first": [(b.first_below(target), a.first_below(target)) for b, a in usable.values()]}
    logs = {name: [math.log(min(b, budget)) - math.log(min(a, budget)) for b, a in both] for name, both in times.items()}
    return {name: (*stats.paired(values), len(values)) for name, values in logs.items()}


def _flips(headline: Interval, p: float, bound: str, readings: dict[str, tuple[Interval, float, int]]) -> list[str]:
    """The readings whose conclusion is not the headline's; one without enough pairs concludes nothing."""
    n = max(count for _, _, count in readings.values())
    shown = _conclusion(headline, p, n, bound)
    return [name for name, (interval, q, count) in readings.items()
            if count >= words.INTERVAL_SEEDS and _conclusion(interval, q, n, bound) != shown]


def _conclusion(log: Interval, p: float, n: int, bound: str) -> str:
    """The word of an interval of log ratios; below six pairs, which side of 1 it lies on. Without variance, the number itself."""
    low, high = (log.low, log.high) if math.isfinite(log.low) else (log.value, log.value)
    p = p if math.isfinite(p) else 0.0
    if n >= words.VERDICT_SEEDS:
        return words.word(math.exp(low), math.exp(high), p, n, bound)
    return words.FASTER if low > 0 else words.SLOWER if high < 0 else words.INCONCLUSIVE
