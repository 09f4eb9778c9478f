"""Simulated suites, thousands at a time: curves of known speedups, and array versions of the estimator.

Distances and images are logs. R repetitions, S runs of one side, E evaluations, K levels of the band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from reports.analysis.bands import BOTTOM, LEVELS, NARROWEST, TOP
from reports.analysis.curves import TIE, Array

SLOPE = 0.5  # the distance falls as images^-SLOPE and is 1 at the budget for a run of log time 0
MEMORY = 0.3  # log images over which a run's own fluctuation is correlated
PILOTS, CELLS, ARMS = 3, 2, 4
REPEATS = 4  # evaluations of a pilot's last weights
NEVER = 50.0  # log time of a run that fails

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """One kind of suite: two cells, up to four arms of one true speedup. finding: what is known to go wrong in it."""

    name: str
    speedup: float = 1.0
    skewed: bool = False  # log times: chi-square with four degrees of freedom, skewness 1.4; else normal
    sd: float = 0.15  # of the baseline's log times over seeds
    arm_sd: float = 0.15
    correlation: float = 0.3  # of log times within pairs
    drift: float = 0.03  # sd of a run's own fluctuation of log distance, which neighbouring evaluations share
    noise: float = 0.02  # sd of one evaluation's log distance
    evaluations: int = 30
    late: float = 1.0  # images that the pairs of a cell need, over those of its pilots
    late_cells: int = CELLS  # cells in which pairs are late
    failing: float = 0.0  # share of an arm's runs that never come down
    finding: str = ""

    @property
    def grid(self) -> Array:
        """Log images of the evaluations (E,), from a tenth of the budget to 0, the budget."""
        return np.linspace(math.log(0.1), 0.0, self.evaluations)

    def standard(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Numbers of mean 0 and variance 1, distributed as log times over seeds."""
        return (rng.chisquare(4, shape) - 4) / math.sqrt(8) if self.skewed else rng.standard_normal(shape)


def curves(setting: Setting, times: Array, rng: np.random.Generator) -> Array:
    """Log distances (..., E) of runs with log times (...), with fluctuation and noise."""
    grid = setting.grid
    keep = math.exp((grid[0] - grid[1]) / MEMORY)
    drift, noise = rng.standard_normal((2, *times.shape, len(grid)))
    for k in range(1, len(grid)):
        drift[..., k] = keep * drift[..., k - 1] + math.sqrt(1 - keep**2) * drift[..., k]
    logs: Array = SLOPE * (times[..., None] - grid) + setting.drift * drift + setting.noise * noise
    return logs


def pairs(setting: Setting, cell: int, shape: tuple[int, int], arms: int, rng: np.random.Generator) -> Array:
    """Log distances (1 + arms, R, S, E) of the baseline and of the arms of a cell, paired."""
    shared, own = setting.standard(shape, rng), setting.standard((1 + arms, *shape), rng)
    times: Array = math.sqrt(setting.correlation) * shared + math.sqrt(1 - setting.correlation) * own
    times[0] *= setting.sd
    times[1:] = setting.arm_sd * times[1:] - math.log(setting.speedup)
    times += math.log(setting.late) * (cell < setting.late_cells)
    times[1:][rng.random((arms, *shape)) < setting.failing] = NEVER
    return curves(setting, times, rng)


def bands(setting: Setting, pilots: Array, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Log levels (R, K) and whether they are usable (R,), from pilots (R, PILOTS, E): `derive_cell` on arrays."""
    fitted, freedom = isotonic(pilots.mean(axis=1)), PILOTS * (REPEATS - 1)
    top, bottom = (np.array([np.interp(math.log(x), setting.grid, row) for row in fitted]) for x in (TOP, BOTTOM))
    late = (isotonic(pilots)[..., -1] > bottom[:, None] + TIE).sum(axis=1)
    noise_sd = setting.noise * np.sqrt(rng.chisquare(freedom, len(pilots)) / freedom)
    usable = (late < 2) & (top - bottom >= np.maximum(3 * noise_sd, math.log(NARROWEST)))
    return np.linspace(top, bottom, LEVELS, axis=-1), usable


def isotonic(logs: Array) -> Array:
    """Decreasing isotonic fits of log distances (..., E)."""
    rows = [isotonic_regression(row, increasing=False).x for row in logs.reshape(-1, logs.shape[-1])]
    return np.stack(rows).reshape(logs.shape)


def restricted(fitted: Array, grid: Array, levels: Array) -> tuple[Array, Mask]:
    """log T_k and whether it is censored, (R, S, K), of fits (R, S, E) at levels (R, K): `log_times` on arrays."""
    at = (fitted[..., None, :] > levels[:, None, :, None] + TIE).sum(axis=-1)
    high = np.minimum(at, len(grid) - 1)
    low = np.maximum(high - 1, 0)
    above, below = (np.take_along_axis(fitted, index, axis=-1) for index in (low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.minimum((above - levels[:, None]) / (above - below), 1.0)
        times = np.where(at == 0, grid[0], grid[low] + part * (grid[high] - grid[low]))
    return np.where(at == len(grid), 0.0, times), at == len(grid)


def intervals(d: Array, usable: Mask, alpha: float) -> tuple[Array, Array]:
    """Mean and half width (ARMS, R) of d (CELLS, ARMS, R, S) over usable cells (CELLS, R): `pool_cells` on arrays."""
    n, weight = d.shape[-1], usable[:, None].astype(float)
    v = weight * np.where(np.ptp(d, axis=-1) > TIE, d.var(axis=-1, ddof=1), 0.0) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (n - 1) * v.sum(axis=0) ** 2 / (v**2).sum(axis=0)
        half = stats.t.ppf(1 - alpha / 2, freedom) * np.sqrt(v.sum(axis=0)) / weight.sum(axis=0)
        return (weight * d.mean(axis=-1)).sum(axis=0) / weight.sum(axis=0), half


def estimand(setting: Setting, cell: int, levels: Array, runs: int, rng: np.random.Generator) -> tuple[Array, float]:
    """E[d | band] (R,) for bands of log levels (R, K), from `runs` pairs; and the baseline's share of censored levels.

    The mean restricted log time is a smooth function of the level: it is computed on a grid of levels, and read there.
    """
    fine = np.linspace(levels.min(), levels.max(), 100)
    blocks = isotonic(pairs(setting, cell, (1, runs), 1, rng)).reshape(2, -1, 1, 500, setting.evaluations)
    base, arm = ([restricted(block, setting.grid, fine[None]) for block in side] for side in blocks)
    d = np.mean([b[0] for b in base], axis=(0, 1, 2)) - np.mean([a[0] for a in arm], axis=(0, 1, 2))
    missed = np.mean([b[1] for b in base], axis=(0, 1, 2))
    return np.interp(levels, fine, d).mean(axis=-1), float(np.interp(levels, fine, missed).mean())
