"""The statistics of the measurement protocol on plain arrays. Pairs lie along the last axis; axes before it are repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.words import ALPHA, CLEAR, INTERVAL_SEEDS, SAME, VERDICT_SEEDS

SAME_NUMBER = 1e-12  # log ratios closer than this differ by rounding only
EXACT_PAIRS = 13  # up to here all 2^n flips are tried
DRAWN_FLIPS = 99_999  # beyond
LARGEST = 700.0  # exp of more overflows


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; nan where there is none."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def exp(self) -> Interval:
        """Of a log ratio, the ratio."""
        return Interval(*(math.exp(min(x, LARGEST)) for x in (self.value, self.low, self.high)))


def moments(values: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and standard deviation (ddof 1) of `values` (..., n), n >= 2; numbers that differ by rounding only have deviation 0."""
    sd = values.std(axis=-1, ddof=1)
    return values.mean(axis=-1), np.where(np.ptp(values, axis=-1) <= SAME_NUMBER, 0.0, sd)


def t_half(sd: NDArray, n: int, level: float = ALPHA) -> NDArray:
    """Half the width of Student's t interval for a mean of n values with standard deviation sd (...)."""
    return float(stats.t.ppf(1 - level / 2, n - 1)) * sd / math.sqrt(n)


def t_p(mean: NDArray, sd: NDArray, n: int) -> NDArray:
    """Two-sided p of mean = 0 by Student's t; nan without variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(mean) * math.sqrt(n) / sd, n - 1)
    return np.where(sd > 0, p, math.nan)


def paired(d: Sequence[float] | NDArray) -> tuple[Interval, float]:
    """Mean of d (n,) with Student's t interval, and its p. No interval below three values or without variance."""
    d = np.asarray(d, dtype=float)
    if len(d) < INTERVAL_SEEDS:
        return Interval(float(d.mean()) if len(d) else math.nan), math.nan
    mean, sd = (float(value) for value in moments(d))
    if sd == 0:
        return Interval(mean), math.nan
    half = float(t_half(np.float64(sd), len(d)))
    return Interval(mean, mean - half, mean + half), float(t_p(np.float64(mean), np.float64(sd), len(d)))


def restricted_mean(baseline: NDArray, arm: NDArray) -> tuple[NDArray, NDArray]:
    """Log ratio (...) of mean min(T, tau), baseline over arm, and half its jackknife t interval; times (..., n), n >= 2.

    Jackknife of a ratio: Miller 1974, Biometrika 61. The pseudo-values' standard error, Student's t with n - 1.
    """
    n = baseline.shape[-1]
    whole = np.log(baseline.sum(-1) / arm.sum(-1))
    without = np.log((baseline.sum(-1, keepdims=True) - baseline) / (arm.sum(-1, keepdims=True) - arm))
    _, sd = moments(n * whole[..., None] - (n - 1) * without)
    return whole, t_half(sd, n)


def restricted_ratio(baseline: NDArray, arm: NDArray) -> Interval:
    """The ratio of restricted means of one comparison (n,), with an interval from three pairs on."""
    if not len(baseline):
        return Interval()
    if len(baseline) < INTERVAL_SEEDS:
        return Interval(float(baseline.sum() / arm.sum()))
    value, half = (float(x) for x in restricted_mean(baseline, arm))
    return Interval(value, value - half, value + half).exp() if half > 0 else Interval(math.exp(value))


def wilson(k: int, n: int) -> Interval:
    """A rate k / n with Wilson's interval."""
    if not n:
        return Interval()
    interval = stats.binomtest(k, n).proportion_ci(1 - ALPHA, method="wilson")
    return Interval(k / n, float(interval.low), float(interval.high))


def sign_flip(d: NDArray) -> float:
    """Two-sided p of the mean of d (n,) over all 2^n flips of signs; beyond 13 pairs over flips drawn with a fixed seed.

    Those are drawn here: scipy takes a second for 50 pairs, a matrix of signs a hundredth of it.
    """
    if len(d) < 2:
        return math.nan
    if len(d) <= EXACT_PAIRS:
        return float(stats.permutation_test((d,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf).pvalue)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWN_FLIPS, len(d)))
    as_far = abs(signs @ d) >= abs(d.sum()) * (1 - 1e-12)
    return float((1 + as_far.sum()) / (1 + DRAWN_FLIPS))


def chance(baseline: NDArray, arm: NDArray) -> float:
    """How often the arm (n,) is faster on the same seed, ties one half."""
    ties = np.isclose(baseline, arm, rtol=SAME_NUMBER, atol=0)
    return float(np.mean(np.where(ties, 0.5, arm < baseline))) if len(arm) else math.nan


def correlation(baseline: NDArray, arm: NDArray) -> float:
    """Pearson's correlation of log times within pairs (n,); nan below three pairs or where one side does not vary."""
    logs = np.log(np.array([baseline, arm]))
    if len(arm) < INTERVAL_SEEDS or np.ptp(logs, axis=1).min() <= SAME_NUMBER:
        return math.nan
    return float(stats.pearsonr(*logs).statistic)


@dataclass(frozen=True)
class Mean:
    """A mean over cells with its standard error and Satterthwaite's degrees of freedom."""

    value: float
    error: float
    df: float

    def interval(self, level: float = ALPHA) -> Interval:
        """t interval at 1 - level; none without variance."""
        if not self.error > 0:
            return Interval(self.value)
        half = float(stats.t.ppf(1 - level / 2, self.df)) * self.error
        return Interval(self.value, self.value - half, self.value + half)

    def p(self) -> float:
        """Two-sided p of mean = 0."""
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.df)) if self.error > 0 else math.nan


def satterthwaite(means: Sequence[float], sds: Sequence[float], ns: Sequence[int]) -> Mean:
    """The mean of C independent cell means, equal weights.

    v_c = s_c^2 / n_c; variance = sum v_c / C^2; df = (sum v_c)^2 / sum v_c^2 / (n_c - 1). Satterthwaite 1946.
    """
    v = np.array(sds) ** 2 / np.array(ns)
    df = v.sum() ** 2 / (v**2 / (np.array(ns) - 1)).sum() if v.sum() > 0 else math.nan
    return Mean(float(np.mean(means)), math.sqrt(v.sum()) / len(v), float(df))


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's correction over all keys; one without a p value stays in the family, as if its p were 1, and gets nan."""
    from statsmodels.stats.multitest import multipletests

    tested = [value if math.isfinite(value) else 1.0 for value in p.values()]
    corrected = multipletests(tested, method="holm")[1].tolist() if tested else []
    return {key: c if math.isfinite(value) else math.nan for (key, value), c in zip(p.items(), corrected, strict=True)}


def seeds_needed(mean: float, sd: float, have: int = 0, level: float = ALPHA, spread: float = 1.0, most: int = 1000) -> int | None:
    """About how many pairs a cell would decide, if log ratios go on with this mean and standard deviation.

    Decided: the 95 % interval beyond 1.02 or 1/1.02 and the test at `level`, or the interval within [1/1.1, 1.1].
    have: pairs there are already, which did not decide. spread: degrees of freedom over those of one cell.
    None beyond `most`, or without variance.
    """
    if not sd > 0:
        return None
    n = np.arange(max(VERDICT_SEEDS, have + 1), most + 1)
    error, df = sd / np.sqrt(n), (n - 1) * spread
    half = stats.t.ppf(1 - ALPHA / 2, df) * error
    beyond = (abs(mean) - half > math.log(CLEAR)) & (abs(mean) > stats.t.ppf(1 - level / 2, df) * error)
    decided = np.flatnonzero(beyond | (abs(mean) + half <= math.log(SAME)))
    return int(n[decided[0]]) if len(decided) else None
