"""Plans have the power they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reports.analysis.planning import equivalence_power, noncentrality, pairs_to_settle, plan, upper


@pytest.mark.parametrize(("freedom", "expected"), [(5, 3.51), (10, 3.11), (22, 2.93)])
def test_the_noncentrality_of_eighty_percent(freedom: int, expected: float) -> None:
    assert noncentrality(freedom) == pytest.approx(expected, abs=0.005)


def test_the_upper_limit_of_a_standard_deviation() -> None:
    assert (upper(5), upper(10)) == pytest.approx((1.46, 1.27), abs=0.005)


def intervals(mean: float, sd: float, pairs: int, cells: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Deciding intervals of log speedups, simulated."""
    d = mean + sd * np.random.default_rng(0).standard_normal((20_000, cells, pairs))
    v = d.var(axis=-1, ddof=1) / pairs
    half = stats.t.ppf(1 - alpha / 2, v.sum(-1) ** 2 / (v**2).sum(-1) * (pairs - 1)) * np.sqrt(v.sum(-1)) / cells
    centre = d.mean(axis=(-1, -2))
    return centre - half, centre + half


@pytest.mark.parametrize(("sd", "cells", "alpha"), [(0.1, 1, 0.05), (0.1, 2, 0.05), (0.2, 2, 0.05 / 3)])
def test_both_plans_have_their_power_with_the_deviation_known(sd: float, cells: int, alpha: float) -> None:
    found = plan([sd] * cells, [6] * cells, alpha)
    low, _ = intervals(math.log(found.detectable), sd, 6, cells, alpha)
    assert np.mean(low > math.log(1.02)) == pytest.approx(
        0.8, abs=0.035
    )  # cells of few pairs have fewer degrees of freedom
    assert found.pairs_to_settle is not None
    low, high = intervals(0.0, sd, found.pairs_to_settle, cells, alpha)
    power = np.mean((low >= -math.log(1.1)) & (high <= math.log(1.1)))
    assert power == pytest.approx(equivalence_power([sd] * cells, found.pairs_to_settle, alpha), abs=0.015)
    assert 0.79 < power < 0.86


def test_the_number_of_pairs_is_the_smallest_from_six_on() -> None:
    found, more = pairs_to_settle([0.15]), pairs_to_settle([0.3])
    assert found and more and found < more
    assert equivalence_power([0.15], found) >= 0.8 > equivalence_power([0.15], found - 1)
    assert pairs_to_settle([0.01]) == 6
    assert pairs_to_settle([0.0]) is None and pairs_to_settle([9.0]) is None


def test_the_upper_limit_asks_for_more() -> None:
    found = plan([0.1], [6])
    assert found.detectable_upper > found.detectable
    assert found.pairs_to_settle and found.pairs_to_settle_upper == pairs_to_settle([0.1 * upper(5)])
    assert found.pairs_to_settle_upper > found.pairs_to_settle
