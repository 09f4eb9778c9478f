"""What the instrument itself does: three standard deviations side by side, and a slowdown that must be found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from reports.analysis.bands import derive_band
from reports.analysis.comparisons import Comparison, Interval, around_deviation, compare
from reports.analysis.curves import Curve

FACTORS = (1.2, 1.5)  # of the positive control


def spread(comparisons: Iterable[Comparison]) -> Interval:
    """Standard deviation of d pooled over cells, weighted by degrees of freedom, with its 95 % chi-square interval.

    Of the noise floor, of an arm's pairs, of the null arm: three numbers that stand side by side. nan below two pairs.
    """
    used = [(one.n - 1, one.sd.value) for one in comparisons if one.n > 1]
    freedom = sum(n for n, _ in used)
    if not freedom:
        return Interval()
    sd = math.sqrt(sum(n * value**2 for n, value in used) / freedom)
    return around_deviation(sd, freedom)


def slowed(curve: Curve, factor: float, budget: float) -> Curve:
    """The curve of a run that needs `factor` times the images: its images multiplied, cut at the budget.

    The distance at the budget is interpolated, in log images; where a neighbour there is not finite, so is it.
    """
    images, fid = curve.points
    images = images * factor
    if len(images) and images[-1] >= budget:
        last = np.exp(np.interp(math.log(budget), np.log(images), np.log(np.maximum(fid, np.finfo(float).tiny))))
        fid, images = np.append(fid[images < budget], last), np.append(images[images < budget], budget)
    return replace(curve, images=images, fid=fid)


def positive_control(
    pilots: Sequence[Curve],
    baseline: Sequence[Curve],
    null: Sequence[Curve],
    budget: float,
    noise_sd: float,
    factor: float,
) -> Comparison | None:
    """One cell of the positive control: baseline and pilots slowed down by `factor`, against the unchanged null arm.

    noise_sd: as for `derive_band`. None where the band, derived anew, has no levels. Pool with `pool_cells`.
    """
    band = derive_band([slowed(one, factor, budget) for one in pilots], budget, noise_sd)
    slow = [slowed(one, factor, budget) for one in baseline]
    return compare(slow, null, band.levels, budget) if band.levels else None
