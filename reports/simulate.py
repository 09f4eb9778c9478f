"""Simulated suites, many at once: log-normal times to target, power-law curves, noisy evaluations, through the real crossing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.crossing import crossing

SIGMA = 0.2  # standard deviation of the log time to target over seeds
TARGET = 1.0  # distance
SLOPE = 0.5  # distance falls as images^-SLOPE
FIRST = 0.1  # the first evaluation, as a part of the budget
DRAWS = 1_000_000  # for the estimand


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


def estimand(setting: Setting, draws: int = DRAWS) -> tuple[float, float]:
    """E[log min(T_none, tau) - log min(T_arm, tau)] and log(E min(T_none, tau) / E min(T_arm, tau)), from `draws` draws."""
    restricted = np.minimum(log_times(setting, (draws,), np.random.default_rng(20_250)), math.log(setting.budget))
    none, arm = restricted
    return float((none - arm).mean()), float(np.log(np.exp(none).mean() / np.exp(arm).mean()))


@dataclass(frozen=True)
class Observed:
    """What the pipeline sees of simulated pairs, each array (2, repetitions, pairs): baseline and arm."""

    images: NDArray  # inf where not reached
    at_first: NDArray  # below from the first evaluation on
    final: NDArray  # distance at the full budget
    truth: NDArray  # true log times


def observe(setting: Setting, repetitions: int, pairs: int, rng: np.random.Generator) -> Observed:
    """Simulate curves, evaluate them with noise and find their crossings, as a report does."""
    grid = np.geomspace(FIRST * setting.budget, setting.budget, setting.evaluations)
    truth = log_times(setting, (repetitions, pairs), rng)
    clean = TARGET * np.exp(SLOPE * (truth[..., None] - np.log(grid)))
    curves = clean * np.exp(setting.noise * rng.standard_normal(clean.shape))
    found = [crossing(grid, fid, TARGET) for fid in curves.reshape(-1, setting.evaluations)]
    images, at_first = np.array([(c.images, c.at_first) for c in found]).T
    return Observed(images.reshape(truth.shape), at_first.reshape(truth.shape).astype(bool), curves[..., -1], truth)
