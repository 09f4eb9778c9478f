"""One run's curve and where it crosses a level: isotonic regression of log distance, then log-log interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

Array = NDArray[np.float64]

STATUSES = ("complete", "diverged", "missing")
TIE = 1e-12  # logs closer than this differ by rounding: a plateau at a level is a crossing


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's evaluations: the distances `fid` (n,) at increasing `images` (n,).

    seed: the pair's key; a run of the null arm carries its partner's. status: complete; diverged (a loss was
    not finite: no level counts as reached, even one crossed before); missing (lost to infrastructure: its pair is left
    out). A distance that is not finite says nothing about where the curve crosses: the fit leaves that evaluation out.
    ValueError for shapes, images that do not increase, or an unknown status.
    """

    seed: int
    images: ArrayLike
    fid: ArrayLike
    status: str = "complete"

    def __post_init__(self) -> None:
        what = f"curve of seed {self.seed}: "
        if self.status not in STATUSES:
            raise ValueError(f"{what}status {self.status!r} is unknown; choose from {', '.join(STATUSES)}")
        _arrays(self.images, self.fid, what)

    @property
    def points(self) -> tuple[Array, Array]:
        """Images and distances as arrays (n,)."""
        return np.asarray(self.images, dtype=float), np.asarray(self.fid, dtype=float)


@dataclass(frozen=True)
class Crossing:
    """images: where the curve comes down to the target. [low, high]: the evaluations around it.

    status: reached; or censored (images and high are inf, low is the last evaluation). Below at the first evaluation
    already: images and high are that evaluation, low is 0.
    """

    images: float
    low: float
    high: float
    status: str


@dataclass(frozen=True)
class LogTimes:
    """log T_k of runs at levels (S, K), restricted to [first evaluation, budget].

    censored (S, K): not reached within the budget. below (S, K): already below at the first evaluation.
    """

    values: Array
    censored: NDArray[np.bool_]
    below: NDArray[np.bool_]

    @property
    def mean(self) -> Array:
        """L (S,), each run's log images to the band."""
        means: Array = self.values.mean(axis=-1)
        return means


def crossing(images: ArrayLike, fid: ArrayLike, target: float) -> Crossing:
    """Where the distances `fid` (n,) at increasing `images` (n,) come down to `target`.

    ValueError for arrays that are no curve and for a target that is no positive number.
    """
    levels = as_levels(target, "target")
    x, y = _arrays(images, fid)
    grid, fitted = fit(x, y, target)
    at, times = (float(one[0]) for one in cross(grid, fitted, np.log(levels)))
    if math.isinf(times):
        return Crossing(math.inf, float(x[-1]) if len(x) else 0.0, math.inf, "censored")
    low, high = [0.0, *grid.tolist()][int(at) : int(at) + 2]
    return Crossing(times, low, high, "reached")


def log_times(curves: Sequence[Curve], levels: ArrayLike, first: float, budget: float) -> LogTimes:
    """The restricted log T_k of S runs at `levels` (K,); `first` planned evaluation and `budget` in images."""
    goals = np.atleast_1d(np.asarray(levels, dtype=float))
    found = [cross(*fit(*curve.points, float(goals.min())), np.log(goals)) for curve in curves]
    at, times = np.array(found, dtype=float).reshape(len(curves), 2, len(goals)).swapaxes(0, 1)
    censored = times > budget * (1 + TIE)
    censored[[curve.status == "diverged" for curve in curves]] = True
    return LogTimes(np.log(np.where(censored, budget, np.clip(times, first, budget))), censored, (at == 0) & ~censored)


def fit(images: Array, fid: Array, least: float = math.inf) -> tuple[Array, Array]:
    """Images (m,) of the evaluations with a finite distance, and the decreasing isotonic fit of log distance (m,).

    A distance of zero, or below by rounding, has no logarithm: it counts as half of the smallest distance, `least`
    included, so that it lies below all others and drags no neighbour down with it.
    """
    usable = np.isfinite(fid)
    grid, values = images[usable], fid[usable]
    positive = values > 0
    floor = min([least, *values[positive]]) / 2
    logs = np.log(np.where(positive, values, floor if math.isfinite(floor) else 1.0))
    return grid, np.asarray(isotonic_regression(logs, increasing=False).x) if len(logs) else logs


def as_levels(levels: ArrayLike, name: str = "levels") -> Array:
    """Distances (K,), largest first; one number is a band of one level. ValueError unless all are positive numbers."""
    values = np.sort(np.atleast_1d(np.asarray(levels, dtype=float)))[::-1]
    if values.ndim != 1 or not len(values) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{name}: {levels!r} must be positive, finite distances")
    return values


def cross(grid: Array, fitted: Array, levels: Array) -> tuple[NDArray[np.intp], Array]:
    """Of the first evaluation at or below each level the index (..., K), and the interpolated images (..., K), or inf.

    grid: images (E,). fitted: decreasing log distances (..., E). levels: log distances (..., K). Leading axes agree.
    """
    at = (fitted[..., None, :] > levels[..., None] + TIE).sum(axis=-1)
    if not len(grid):
        return at, np.full(at.shape, math.inf)
    high = np.minimum(at, len(grid) - 1)
    low = np.maximum(high - 1, 0)
    above, below = (np.take_along_axis(fitted, index, axis=-1) for index in (low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.minimum((above - levels) / (above - below), 1.0)
        between = np.exp(np.log(grid[low]) + part * np.log(grid[high] / grid[low]))
    return at, np.where(at == len(grid), math.inf, np.where(at == 0, grid[0], between))


def _arrays(images: ArrayLike, fid: ArrayLike, what: str = "") -> tuple[Array, Array]:
    x, y = np.asarray(images, dtype=float), np.asarray(fid, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{what}images {x.shape} and fid {y.shape} must be 1-D and equally long")
    if not (np.isfinite(x).all() and (x > 0).all() and (np.diff(x) > 0).all()):
        raise ValueError(f"{what}images must be positive, finite and increasing")
    return x, y
