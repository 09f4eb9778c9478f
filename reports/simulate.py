"""Simulated suites, many at once: log-normal times to target, power-law curves, noisy evaluations, through the real crossing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.crossing import crossing

SIGMA = 0.2  # standard deviation of the log time to target over seeds
TARGET = 1.0  # distance
SLOPE = 0.5  # distance falls as images^-SLOPE
FIRST = 0.1  # the first evaluation, as a part of the budget
DRAWS = 1_000_000  # for the estimand
CHUNK = 2_000  # repetitions at a time, so that the memory stays small


@dataclass(frozen=True)
class Setting:
    """One kind of suite. The baseline's median time is 1; the budget is where `censored` of the baselines are not done yet."""

    speedup: float  # true ratio of median times
    censored: float  # share of baselines beyond the budget
    noise: float  # standard deviation of the log distance at one evaluation
    evaluations: int  # log-spaced in the last decade of the budget
    correlation: float = 0.0  # of log times within a pair

    @property
    def budget(self) -> float:
        """tau; without censoring four standard deviations out, where 3 in 100,000 baselines are still not done."""
        return math.exp(SIGMA * float(stats.norm.isf(self.censored or stats.norm.sf(4))))


def log_times(setting: Setting, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """True log times to target, (2, *shape): baseline and arm of each pair."""
    shared, own = rng.standard_normal(shape), rng.standard_normal((2, *shape))
    rho = setting.correlation
    times = SIGMA * (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)
    times[1] -= math.log(setting.speedup)
    return times


@dataclass(frozen=True)
class Truths:
    """What the numbers of a report estimate, in one setting. Ratios are logs."""

    headline: float  # E[log min(T_none, tau) - log min(T_arm, tau)]
    restricted: float  # log(E min(T_none, tau) / E min(T_arm, tau))
    chance: float  # that the arm is done first, both beyond the budget counting one half
    reach: tuple[float, float]  # P(T < tau) of baseline and arm
    final_ratio: float  # log of arm over baseline at the full budget
    final_difference: float  # arm - baseline there


def estimand(setting: Setting, draws: int = DRAWS) -> Truths:
    """The truths from `draws` draws, those that need none by their formula."""
    log_tau = math.log(setting.budget)
    times = log_times(setting, (draws,), np.random.default_rng(20_250))
    none, arm = np.minimum(times, log_tau)
    ends = TARGET * np.exp(SLOPE * (times - log_tau)).mean(axis=1) * math.exp(setting.noise**2 / 2)
    reach = stats.norm.cdf([log_tau / SIGMA, (log_tau + math.log(setting.speedup)) / SIGMA])
    return Truths(float((none - arm).mean()), float(np.log(np.exp(none).mean() / np.exp(arm).mean())),
                  float((arm < none).mean() + (arm == none).mean() / 2), tuple(reach.tolist()), -SLOPE * math.log(setting.speedup),
                  float(ends[1] - ends[0]))


@dataclass(frozen=True)
class Observed:
    """What the pipeline sees of simulated pairs, each array (2, repetitions, pairs): baseline and arm."""

    images: NDArray  # inf where not reached
    low: NDArray  # the evaluation before; the budget where not reached
    high: NDArray  # the evaluation after; inf where not reached
    first: NDArray  # first evaluation that lies below by itself; inf if none does
    at_first: NDArray  # below from the first evaluation on
    final: NDArray  # distance at the full budget
    truth: NDArray  # true log times

    def pairs(self, n: int) -> Observed:
        """The first n pairs of each repetition."""
        return Observed(*(getattr(self, one.name)[..., :n] for one in fields(self)))


def observe(setting: Setting, repetitions: int, pairs: int, rng: np.random.Generator) -> Observed:
    """Simulate curves, evaluate them with noise and find their crossings, as a report does; CHUNK repetitions at a time."""
    parts = [_observe(setting, min(CHUNK, repetitions - done), pairs, rng) for done in range(0, repetitions, CHUNK)]
    return Observed(*(np.concatenate([getattr(part, one.name) for part in parts], axis=1) for one in fields(Observed)))


def _observe(setting: Setting, repetitions: int, pairs: int, rng: np.random.Generator) -> Observed:
    grid = np.geomspace(FIRST * setting.budget, setting.budget, setting.evaluations)
    truth = log_times(setting, (repetitions, pairs), rng)
    clean = TARGET * np.exp(SLOPE * (truth[..., None] - np.log(grid)))
    curves = clean * np.exp(setting.noise * rng.standard_normal(clean.shape))
    found = [crossing(grid, fid, TARGET) for fid in curves.reshape(-1, setting.evaluations)]
    images, low, high, at_first = (values.reshape(truth.shape) for values in np.array([(c.images, c.low, c.high, c.at_first) for c in found]).T)
    below = curves <= TARGET
    first = np.where(below.any(axis=-1), grid[below.argmax(axis=-1)], math.inf)
    return Observed(images, low, high, first, at_first.astype(bool), curves[..., -1], truth)
