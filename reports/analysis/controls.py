"""What the instrument itself does: three standard deviations side by side, and a slowdown that must be found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reports.analysis.bands import Cell, derive_cell
from reports.analysis.comparisons import Comparison, Interval, compare
from reports.analysis.curves import Curve
from reports.analysis.planning import deviation_interval

FACTORS = (1.2, 1.5)  # of the positive control


@dataclass(frozen=True)
class Control:
    """One cell of the positive control: baseline and pilots slowed down by `factor`, against the unchanged null arm.

    band: derived anew from the slowed pilots. comparison: None where that band has no levels.
    """

    factor: float
    band: Cell
    comparison: Comparison | None


def spread(comparisons: Iterable[Comparison]) -> Interval:
    """Standard deviation of d pooled over cells, weighted by degrees of freedom, with its 95 % chi-square interval.

    Of the noise floor, of an arm's pairs, of the null arm: three numbers that stand side by side. nan below two pairs.
    """
    used = [(one.n - 1, one.sd.value) for one in comparisons if one.n > 1]
    freedom = sum(n for n, _ in used)
    if not freedom:
        return Interval()
    sd = math.sqrt(sum(n * value**2 for n, value in used) / freedom)
    return Interval(sd, *deviation_interval(sd, freedom))


def slowed(curve: Curve, factor: float, budget: float) -> Curve:
    """The curve of a run that needs `factor` times the images: its images multiplied, cut at the budget.

    The distance at the budget is interpolated, in log images; where a neighbour there is not finite, so is it.
    """
    images, fid = curve.points
    images = images * factor
    inside = images < budget
    if not len(images) or images[-1] < budget:
        return Curve(curve.seed, images, fid, curve.status)
    last = np.exp(np.interp(math.log(budget), np.log(images), np.log(np.maximum(fid, np.finfo(float).tiny))))
    return Curve(curve.seed, np.append(images[inside], budget), np.append(fid[inside], last), curve.status)


def positive_control(
    pilots: Sequence[Curve],
    baseline: Sequence[Curve],
    null: Sequence[Curve],
    budget: float,
    noise_sd: float,
    factor: float,
) -> Control:
    """One cell of the positive control; `noise_sd` as for `derive_cell`. Pool the comparisons with `pool_cells`."""
    band = derive_cell([slowed(one, factor, budget) for one in pilots], budget, noise_sd)
    if not band["levels"]:
        return Control(factor, band, None)
    return Control(
        factor, band, compare([slowed(one, factor, budget) for one in baseline], null, band["levels"], budget)
    )
