"""Over cells, against formulas worked out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import TAU, arm

from reports import Curve, compare
from reports.pooled import mean, null_test, pool

TARGET = 100 / 0.6


def cell(speedup, seed, n=6, sigma=0.1):
    rng = np.random.default_rng(seed)
    return compare(arm(range(n), 1.0, rng, sigma), arm(range(n), speedup, rng, sigma), TARGET, TAU)


def test_one_cell_pools_to_itself():
    one = cell(1.3, 0)
    found = pool({"m": {"a/u": one}})["m"]
    assert (found.speedup, found.low, found.high, found.p, found.p_holm) == pytest.approx(
        (one.speedup, one.low, one.high, one.p, one.p))


def test_equal_variances_give_the_pooled_degrees_of_freedom():
    """Two copies of one cell: variance s^2 / (2 n), df = 2 (n - 1)."""
    one = cell(1.3, 0)
    found = mean({"a/u": one, "a/v": one}).interval()
    half = stats.t.ppf(0.975, 10) * one.sd / math.sqrt(12)
    assert (found.low, found.high) == pytest.approx((one.mean - half, one.mean + half))


def test_holm_over_the_arms():
    arms = {"a": {"d/u": cell(1.4, 1)}, "b": {"d/u": cell(1.05, 2)}, "c": {"d/u": cell(1.0, 3)}}
    found = pool(arms)
    p = sorted(found[k].p for k in arms)
    corrected = [min(3 * p[0], 1), max(3 * p[0], min(2 * p[1], 1)), max(3 * p[0], 2 * p[1], p[2])]
    assert sorted(found[k].p_holm for k in arms) == pytest.approx(corrected)
    assert found["a"].word == "faster"


def test_an_arm_without_runs_stays_in_the_family():
    one = {"d/u": cell(1.4, 1)}
    assert pool({"a": one, "b": {}, "c": {}})["a"].p_holm == pytest.approx(3 * pool({"a": one})["a"].p)


def test_leaving_a_dataset_out():
    cells = {"a/u": cell(1.1, 1), "b/u": cell(1.4, 2)}
    low, high = pool({"m": cells})["m"].leave_one_out
    assert (low, high) == pytest.approx((cells["a/u"].speedup, cells["b/u"].speedup))
    assert pool({"m": {"a/u": cells["a/u"], "a/v": cells["b/u"]}})["m"].leave_one_out is None


def test_the_smallest_cell_decides_what_may_be_said():
    assert pool({"m": {"a/u": cell(1.4, 1), "a/v": cell(1.4, 2, n=3)}})["m"].word == "preliminary"


def test_identical_cells_pool_to_identical():
    curves = arm(range(6), 1.0, np.random.default_rng(0))
    same = compare(curves, curves, TARGET, TAU)
    found = pool({"m": {"a/u": same, "a/v": same}})["m"]
    assert found.word == "identical" and found.speedup == 1 and math.isnan(found.low) and math.isnan(found.p_holm)


def censored(seed, side):
    """A comparison with one censored run: of the baseline (side 0) or of the arm (side 1)."""
    rng = np.random.default_rng(seed)
    sides = [arm(range(6), 1.0, rng), arm(range(6), 1.3, rng)]
    sides[side][0] = Curve(0, sides[side][0].images, sides[side][0].fid + 1000)
    return compare(*sides, TARGET, TAU)


def test_bounds_of_cells():
    """A bound on one cell bounds the mean; bounds in both directions leave nothing to say."""
    assert pool({"m": {"a/u": cell(1.4, 1), "a/v": censored(2, 0)}})["m"].bound == ">="
    mixed = pool({"m": {"a/u": censored(3, 1), "a/v": censored(2, 0)}})["m"]
    assert (mixed.bound, mixed.word) == ("mixed", "inconclusive")


def test_nothing_to_pool():
    found = pool({"m": {"a/u": cell(1.2, 1, n=2)}})["m"]
    assert found.word == "points only" and found.left_out == ["a/u"] and null_test({}).failed is False
    silent = replace(cell(1.2, 1), speedup=math.nan)
    assert pool({"m": {"a/u": silent}})["m"].word == pool({"m": {}})["m"].word == "no headline"


def test_the_null_test_fails_on_a_difference_and_passes_on_none():
    failed = null_test({"a/u": cell(1.5, 1), "a/v": cell(1.5, 2)})
    assert failed.failed and failed.missing_one == ["a/u", "a/v"]
    same = null_test({"a/u": cell(1.0, 1), "a/v": cell(1.0, 2)})
    assert not same.failed and same.expected == pytest.approx(0.1) and same.low < 1 < same.high
    assert not null_test({"a/u": cell(1.1, 1, sigma=0.3)}).failed


def test_planning_counts_pairs_per_cell():
    found = pool({"m": {"a/u": cell(1.05, 4, sigma=0.2), "a/v": cell(1.05, 5, sigma=0.2)}})["m"]
    assert found.word == "inconclusive" and found.seeds_needed > 6
