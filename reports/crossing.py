"""When a curve crosses its target: isotonic regression of log distance on log images, then log-log interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

STATUSES = ("complete", "diverged", "missing")
TINY = 1e-12  # a distance of zero has no logarithm


@dataclass(frozen=True)
class Curve:
    """One run's evaluations. seed is the pair's key (a null curve carries its partner's); images and fid are 1-D, equally long.

    status: complete; diverged (counts as censored even if it crossed before); missing (the pair is left out).
    ValueError, one line, for shapes, images that do not increase, or an unknown status.
    """

    seed: int
    images: ArrayLike
    fid: ArrayLike
    status: str = "complete"

    def __post_init__(self) -> None:
        images, fid = np.asarray(self.images, dtype=float), np.asarray(self.fid, dtype=float)
        if images.ndim != 1 or images.shape != fid.shape:
            raise ValueError(f"curve of seed {self.seed}: images {images.shape} and fid {fid.shape} must be 1-D and equally long")
        if self.status not in STATUSES:
            raise ValueError(f"curve of seed {self.seed}: status {self.status!r} is unknown; choose from {', '.join(STATUSES)}")
        if not (np.all(images > 0) and np.all(np.isfinite(images)) and np.all(np.diff(images) > 0)):
            raise ValueError(f"curve of seed {self.seed}: images must be positive, finite and increasing")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "fid", fid)

    def crossing(self, target: float) -> Crossing:
        """Where this curve crosses; a diverged one is censored."""
        if self.status == "diverged":
            return censored(self.images)
        return crossing(self.images, self.fid, target)

    def first_below(self, target: float) -> float:
        """The first evaluation at or below the target, inf if there is none or the run diverged."""
        below = np.flatnonzero(self.fid <= target)
        return float(self.images[below[0]]) if len(below) and self.status == "complete" else math.inf


@dataclass(frozen=True)
class Crossing:
    """images: where the target is crossed, inf if it is not. [low, high]: the evaluations around it. status: reached | censored.

    at_first: already below at the first evaluation (then images is that evaluation and low 0: T is an upper bound).
    """

    images: float
    low: float
    high: float
    status: str
    at_first: bool = False


def censored(images: NDArray) -> Crossing:
    """Not crossed up to the last evaluation."""
    return Crossing(math.inf, float(images[-1]) if len(images) else 0.0, math.inf, "censored")


def fit(images: ArrayLike, fid: ArrayLike) -> tuple[NDArray, NDArray]:
    """log images (n,) and the decreasing isotonic fit of log distance (n,), over the evaluations with a finite distance."""
    images, fid = np.asarray(images, dtype=float), np.asarray(fid, dtype=float)
    usable = np.isfinite(fid) & (fid >= 0)
    x = np.log(images[usable])
    if not len(x):
        return x, x
    return x, isotonic_regression(np.log(np.maximum(fid[usable], TINY)), increasing=False).x


def crossing(images: ArrayLike, fid: ArrayLike, target: float) -> Crossing:
    """Where the distances `fid` (n,) at `images` (n,) first come down to `target`.

    Evaluations without a finite distance are left out. ValueError if the target is not a positive number.
    """
    if not (math.isfinite(target) and target > 0):
        raise ValueError(f"target: {target!r} is no positive number")
    images = np.asarray(images, dtype=float)
    x, y = fit(images, fid)
    goal = math.log(target)
    reached = np.flatnonzero(y <= goal)
    if not len(reached):
        return censored(images)
    at, grid = int(reached[0]), np.exp(x)
    if at == 0:
        return Crossing(float(grid[0]), 0.0, float(grid[0]), "reached", at_first=True)
    # y falls from above the goal to at or below it: the fraction of this step, in log images.
    part = (y[at - 1] - goal) / (y[at - 1] - y[at])
    images_at = math.exp(x[at - 1] + part * (x[at] - x[at - 1]))
    return Crossing(images_at, float(grid[at - 1]), float(grid[at]), "reached")


def mean_log(curves: Sequence[Curve]) -> tuple[NDArray, NDArray]:
    """Images at which all curves have a finite distance (n,), and exp of their mean log distance there (n,)."""
    common = set.intersection(*(set(c.images[np.isfinite(c.fid)].tolist()) for c in curves)) if curves else set()
    images = np.array(sorted(common))
    values = [[np.log(max(float(c.fid[np.searchsorted(c.images, i)]), TINY)) for i in images] for c in curves]
    return images, np.exp(np.mean(values, axis=0)) if len(images) else images
