"""The instrument's own noise, and a slowdown that must be found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from power_law import BAND, IMAGES, TAU, arms, curve
from scipy import stats

from reports.analysis.bands import derive_band
from reports.analysis.comparisons import compare
from reports.analysis.controls import FACTORS, positive_control, slowed, spread
from reports.analysis.curves import crossing
from reports.analysis.pooling import pool_cells


def test_the_standard_deviation_is_pooled_by_degrees_of_freedom() -> None:
    one = compare(*arms([1.0] * 6, [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]), BAND, TAU)
    two = compare(*arms([1.0] * 3, [1.0, 1.02, 0.98]), BAND, TAU)
    found = spread([one, two])
    assert found.value == pytest.approx(math.sqrt((5 * one.d.var(ddof=1) + 2 * two.d.var(ddof=1)) / 7))
    assert found.low == pytest.approx(found.value * math.sqrt(7 / stats.chi2.ppf(0.975, 7)))
    assert math.isnan(spread([]).value)


def test_a_slowed_curve_crosses_later_by_its_factor_and_ends_at_the_budget() -> None:
    slow = slowed(curve(0), 1.5, TAU)
    assert slow.points[0][-1] == TAU and slow.points[1][-1] == pytest.approx(100 * math.sqrt(1.5))
    assert crossing(slow.images, slow.fid, BAND[0]).images == pytest.approx(1.5 * 0.4 * TAU)
    assert slowed(curve(0), 1.0, 2 * TAU).points[0] == pytest.approx(IMAGES)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_positive_control_finds_its_factor(factor: float) -> None:
    rng = np.random.default_rng(1)
    pilots, baseline, null = (
        [curve(s, math.exp(0.05 * rng.standard_normal()), noise=0.005 * rng.standard_normal(30)) for s in range(n)]
        for n in (3, 6, 6)
    )
    found = positive_control(pilots, baseline, null, TAU, 0.005, factor)
    assert found and derive_band([slowed(one, factor, TAU) for one in pilots], TAU, 0.005).usable
    pooled = pool_cells({"a/u": found}, 0.05)
    assert pooled.verdict == "faster" and pooled.low < factor < pooled.high


def test_pilots_without_a_curve_give_no_control() -> None:
    assert positive_control([], [curve(0)], [curve(0)], TAU, math.nan, 1.2) is None
