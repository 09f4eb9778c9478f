"""When a curve crosses its target: isotonic regression of log distance on log images, then log-log interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATUSES = ("complete", "diverged", "missing")
TIE = 1e-12  # a plateau at the target is a crossing, whatever rounding does to the mean of its logs


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's evaluations. seed is the pair's key (a null curve carries its partner's); images and fid are (n,) arrays.

    status: complete; diverged (counts as censored even if it crossed before); missing (the pair is left out).
    ValueError, one line, for shapes, images that do not increase, or an unknown status.
    """

    seed: int
    images: ArrayLike
    fid: ArrayLike
    status: str = "complete"

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"curve of seed {self.seed}: status {self.status!r} is unknown; choose from {', '.join(STATUSES)}")
        images, fid = _arrays(self.images, self.fid, f"curve of seed {self.seed}: ")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "fid", fid)

    def crossing(self, target: float, budget: float = math.inf) -> Crossing:
        """Where this curve crosses; one that diverged, or that crosses beyond the budget, is censored."""
        found = crossing(self.images, self.fid, target)
        late = found.status == "reached" and found.images > budget * (1 + TIE)
        return _censored(self.images) if late or self.status == "diverged" else found

    def first_below(self, target: float) -> float:
        """The first evaluation at or below the target, inf if there is none or the run diverged."""
        below = np.flatnonzero(self.fid <= target)
        return float(self.images[below[0]]) if len(below) and self.status == "complete" else math.inf


@dataclass(frozen=True)
class Crossing:
    """images: where the target is crossed, inf if it is not. [low, high]: the evaluations around it. status: reached | censored.

    at_first: already below at the first evaluation (then images is that evaluation and low is 0: T is an upper bound).
    """

    images: float
    low: float
    high: float
    status: str
    at_first: bool = False


def crossing(images: ArrayLike, fid: ArrayLike, target: float) -> Crossing:
    """Where the distances `fid` (n,) at increasing `images` (n,) first come down to `target`.

    Evaluations without a finite distance are left out. ValueError, one line, for arrays that are no curve and for a
    target that is no positive number.
    """
    if not (math.isfinite(target) and target > 0):
        raise ValueError(f"target: {target!r} is no positive number")
    images, fid = _arrays(images, fid)
    grid, fitted = fit(images, fid, target)
    goal = math.log(target)
    reached = np.flatnonzero(fitted <= goal + TIE)
    if not len(reached):
        return _censored(images)
    at = int(reached[0])
    if at == 0:
        return Crossing(float(grid[0]), 0.0, float(grid[0]), "reached", at_first=True)
    # The fit falls from above the goal to at or below it: the fraction of this step, in log images.
    part = min((fitted[at - 1] - goal) / (fitted[at - 1] - fitted[at]), 1.0)
    low, high = float(grid[at - 1]), float(grid[at])
    return Crossing(low * (high / low) ** part, low, high, "reached")


def fit(images: NDArray, fid: NDArray, target: float = math.inf) -> tuple[NDArray, NDArray]:
    """Images (m,) of the evaluations with a finite distance, and the decreasing isotonic fit of their log distance (m,).

    A distance of zero, or below by rounding, has no logarithm: it counts as half of the smallest number in sight, so that
    it is below everything else and drags no neighbour down with it.
    """
    from scipy.optimize import isotonic_regression

    usable = np.isfinite(fid)
    grid, values = images[usable], fid[usable]
    if not len(grid):
        return grid, values
    positive = values > 0
    if not positive.all():
        least = min([target, *values[positive]])
        values = np.where(positive, values, least / 2 if math.isfinite(least) else 1.0)
    logs = np.log(values)
    return grid, isotonic_regression(logs, increasing=False).x


def mean_log(curves: Sequence[Curve]) -> tuple[NDArray, NDArray]:
    """Images at which all curves have a positive, finite distance (n,), and exp of their mean log distance there (n,)."""
    good = [dict(zip(c.images.tolist(), c.fid.tolist(), strict=True)) for c in curves]
    good = [{i: f for i, f in values.items() if math.isfinite(f) and f > 0} for values in good]
    common = sorted(set.intersection(*map(set, good))) if good else []
    means = [math.exp(sum(math.log(values[i]) for values in good) / len(good)) for i in common]
    return np.array(common, dtype=float), np.array(means, dtype=float)


def _arrays(images: ArrayLike, fid: ArrayLike, what: str = "") -> tuple[NDArray, NDArray]:
    images, fid = np.asarray(images, dtype=float), np.asarray(fid, dtype=float)
    if images.ndim != 1 or images.shape != fid.shape:
        raise ValueError(f"{what}images {images.shape} and fid {fid.shape} must be 1-D and equally long")
    if not (np.all(np.isfinite(images)) and np.all(images > 0) and np.all(np.diff(images) > 0)):
        raise ValueError(f"{what}images must be positive, finite and increasing")
    return images, fid


def _censored(images: NDArray) -> Crossing:
    return Crossing(math.inf, float(images[-1]) if len(images) else 0.0, math.inf, "censored")
