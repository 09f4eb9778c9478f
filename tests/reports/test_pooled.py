"""Over cells, against formulas worked out and by simulation of the A/A verdict."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import TAU, arm

from reports import compare
from reports.pooled import null_test, pool, satterthwaite

TARGET = 100 / 0.6


def cell(speedup, seed, n=6, sigma=0.1):
    rng = np.random.default_rng(seed)
    return compare(arm(list(range(n)), 1.0, rng, sigma), arm(list(range(n)), speedup, rng, sigma), TARGET, TAU)


def test_one_cell_pools_to_itself():
    one = cell(1.3, 0)
    mean, low, high, p = satterthwaite([one])
    assert (math.exp(mean), math.exp(low), math.exp(high), p) == pytest.approx((one.speedup, one.low, one.high, one.p))


def test_equal_variances_give_the_pooled_degrees_of_freedom():
    """Two copies of one cell: variance s^2 / (2 n), df = 2 (n - 1)."""
    one = cell(1.3, 0)
    mean, low, high, _ = satterthwaite([one, one])
    half = stats.t.ppf(0.975, 10) * one.sd / math.sqrt(12)
    assert (low, high) == pytest.approx((one.mean - half, one.mean + half))


def test_holm_over_the_arms():
    arms = {"a": {"d/u": cell(1.4, 1)}, "b": {"d/u": cell(1.05, 2)}, "c": {"d/u": cell(1.0, 3)}}
    found = pool(arms)
    p = sorted(found[k].p for k in arms)
    assert sorted(found[k].p_holm for k in arms) == pytest.approx([min(3 * p[0], 1), max(3 * p[0], min(2 * p[1], 1)), max(3 * p[0], 2 * p[1], p[2])])
    assert found["a"].word == "faster"


def test_leaving_a_dataset_out():
    cells = {"a/u": cell(1.1, 1), "b/u": cell(1.4, 2)}
    low, high = pool({"m": cells})["m"].leave_one_out
    assert (low, high) == pytest.approx((cells["a/u"].speedup, cells["b/u"].speedup))
    assert pool({"m": {"a/u": cells["a/u"], "a/v": cells["b/u"]}})["m"].leave_one_out is None


def test_nothing_to_pool():
    found = pool({"m": {"a/u": cell(1.2, 1, n=2)}})["m"]
    assert found.word == "no headline" and found.left_out == ["a/u"] and null_test({}).failed is False


def test_the_null_test_fails_on_a_difference_and_passes_on_none():
    assert null_test({"a/u": cell(1.5, 1), "a/v": cell(1.5, 2)}).failed
    same = null_test({"a/u": cell(1.0, 1), "a/v": cell(1.0, 2)})
    assert not same.failed and same.expected == pytest.approx(0.1)


def test_false_verdicts_over_null_suites_are_at_most_five_percent():
    verdicts = [pool({"m": {f"d/{j}": cell(1.0, 1000 + 2 * i + j) for j in range(2)}})["m"].word for i in range(200)]
    assert sum(word in ("faster", "slower") for word in verdicts) <= 0.05 * 200 + 2 * math.sqrt(200 * 0.05 * 0.95)
