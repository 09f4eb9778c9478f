"""Curves whose crossings are known: the distance falls as images^-.5 and is 100 at the budget for a run of time 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from reports.analysis.curves import Array, Curve

TAU = 20480.0
IMAGES = np.geomspace(0.1 * TAU, TAU, 30)


def level(part: float) -> float:
    """The distance that a run of time 1 reaches at `part` of the budget."""
    return float(100 * part**-0.5)


BAND = np.geomspace(level(0.4), level(0.8), 9)


def curve(seed: int, time: float = 1.0, status: str = "complete", noise: Array | float = 0.0) -> Curve:
    """A run that needs `time` times the images of the reference; `noise` is added to its log distances."""
    return Curve(seed, IMAGES, level(1.0) * (IMAGES / TAU / time) ** -0.5 * np.exp(noise), status)


def arms(baseline: Sequence[float], arm: Sequence[float]) -> tuple[list[Curve], list[Curve]]:
    """Both sides from their times, paired by position."""
    return [curve(s, t) for s, t in enumerate(baseline)], [curve(s, t) for s, t in enumerate(arm)]


def with_interval(low: float, high: float, pairs: int = 6) -> tuple[list[Curve], list[Curve]]:
    """Pairs whose 95 % interval of the speedup is [low, high]; no level is censored where the arm is not too slow."""
    z = np.arange(pairs) - (pairs - 1) / 2
    half = (np.log(high) - np.log(low)) / 2
    sd = half * np.sqrt(pairs) / stats.t.ppf(0.975, pairs - 1)
    d = (np.log(high) + np.log(low)) / 2 + sd * z / z.std(ddof=1)
    return arms([1.0] * pairs, np.exp(-d).tolist())
