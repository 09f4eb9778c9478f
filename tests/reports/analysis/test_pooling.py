"""Over cells: nothing is dropped, one interval decides, and the null arm's test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from power_law import BAND, TAU, arms, curve, with_interval
from scipy import stats

from reports.analysis.comparisons import Comparison, compare
from reports.analysis.pooling import null_test, pool, pool_cells

ONES = [1.0] * 6


def cell(*times: float) -> Comparison:
    """A cell in which the baseline needs time 1."""
    return compare(*arms([1.0] * len(times), list(times)), BAND, TAU)


GOOD = cell(0.70, 0.75, 0.80, 0.72, 0.78, 0.74)
EVEN = cell(1.0, 1.05, 0.95, 1.02, 0.97, 1.01)


def test_an_arm_that_never_arrives_in_one_cell_makes_the_pooled_number_smaller() -> None:
    lost = compare([curve(s, 1 + 0.02 * s) for s in range(6)], [curve(s, 5.0) for s in range(6)], BAND, TAU)
    alone, both = pool({"x": {"a/u": GOOD}})["x"], pool({"x": {"a/u": GOOD, "b/u": lost}})["x"]
    assert lost.reached[1] == 0 and alone.verdict == "faster"
    assert both.cells == ("a/u", "b/u") and both.verdict != "faster"
    assert both.speedup == pytest.approx(math.sqrt(GOOD.speedup * lost.speedup)) and both.speedup < 1 < alone.speedup


def test_one_cell_at_one_level_is_its_own_comparison() -> None:
    found = pool({"x": {"a/u": GOOD}})["x"]
    assert (found.speedup, found.low, found.high) == pytest.approx((GOOD.speedup, GOOD.low, GOOD.high))
    assert found.detectable == pytest.approx(GOOD.detectable) and found.pairs_to_settle == GOOD.pairs_to_settle
    assert found.welch is None and found.leave_one_out is None


def test_the_number_of_arms_sets_the_level() -> None:
    cells = {"a/u": GOOD, "b/u": EVEN}
    found = pool({"x": cells, "y": cells, "z": cells})["x"]
    v = np.array([GOOD.sd.value, EVEN.sd.value]) ** 2 / 6
    freedom = v.sum() ** 2 / (v**2 / 5).sum()
    half = stats.t.ppf(1 - 0.05 / 6, freedom) * math.sqrt(v.sum()) / 2
    mean = (GOOD.mean + EVEN.mean) / 2
    assert found.level == pytest.approx(1 - 0.05 / 3)
    assert (found.low, found.high) == pytest.approx((math.exp(mean - half), math.exp(mean + half)))
    assert found.low < found.descriptive.low < found.descriptive.high < found.high
    assert found.leave_one_out == pytest.approx((EVEN.speedup, GOOD.speedup))
    assert found.welch and found.welch.p < 0.001 and found.freedom == pytest.approx(freedom)


def test_welch_is_what_two_unequal_samples_give() -> None:
    found = pool_cells({"a/u": GOOD, "b/u": EVEN}, 0.05).welch
    assert found and found.p == pytest.approx(stats.ttest_ind(GOOD.d, EVEN.d, equal_var=False).pvalue)


def test_an_unusable_cell_is_named_and_not_pooled() -> None:
    found = pool({"x": {"a/u": GOOD, "b/u": EVEN}}, unusable={"b/u"})["x"]
    assert (found.cells, found.unusable) == (("a/u",), ("b/u",)) and found.speedup == pytest.approx(GOOD.speedup)
    nothing = pool({"x": {"b/u": EVEN}}, unusable={"b/u"})["x"]
    assert nothing.verdict == "not tested" and math.isnan(nothing.speedup)


@pytest.mark.parametrize(("pairs", "word"), [(1, "points only"), (3, "preliminary")])
def test_the_cell_with_the_fewest_pairs_limits_what_is_said(pairs: int, word: str) -> None:
    found = pool({"x": {"a/u": GOOD, "b/u": cell(*(0.70, 0.75, 0.80)[:pairs])}})["x"]
    assert (found.verdict, found.n, found.welch) == (word, pairs, None)
    assert math.isnan(found.low) == (pairs < 3) and (found.speedup > 1.2 if pairs else math.isnan(found.speedup))


def test_a_cell_without_a_pair_leaves_no_number_and_is_named() -> None:
    found = pool({"x": {"a/u": GOOD, "b/v": cell()}})["x"]
    assert (found.verdict, found.n, found.cells, found.welch) == ("points only", 0, ("a/u", "b/v"), None)
    assert all(math.isnan(x) for x in (found.speedup, found.low, found.high, found.mean, found.detectable))
    assert found.leave_one_out is None and found.sentence == "No number: no pair in b/v, and no cell is left out."
    assert pool({"x": {"a/u": cell(), "b/v": cell()}})["x"].verdict == "not tested"


def test_cells_without_variance_have_no_interval() -> None:
    same = cell(*ONES)
    assert pool({"x": {"a/u": same}})["x"].verdict == "no variance"
    assert pool({"x": {"a/u": same, "b/u": GOOD}})["x"].high > GOOD.speedup**0.5


def test_censoring_in_one_cell_guards_what_is_said_to_be_absent() -> None:
    tight = compare(*with_interval(0.99, 1.03), BAND, TAU)
    short = compare([curve(s, 1.8) for s in range(6)], [curve(s, 1.8 - 0.01 * s) for s in range(6)], BAND, TAU)
    assert pool({"x": {"a/u": tight}})["x"].verdict == "equivalent"
    found = pool({"x": {"a/u": tight, "b/u": short}})["x"]
    assert found.censored[0] > 0.2 and found.verdict == "inconclusive: budget too short"


def test_the_null_arm_fails_beyond_its_interval_and_says_what_it_would_catch() -> None:
    calm, off = null_test({"a/u": EVEN}), null_test({"a/u": GOOD, "b/u": GOOD})
    assert not calm.failed and calm.low < 1 < calm.high and calm.smallest_bias > 1.05
    assert off.failed and off.low > 1
    assert not null_test({}).failed and not null_test({"a/u": cell(*ONES)}).failed


def test_the_smallest_bias_is_caught_four_times_of_five() -> None:
    """Two cells and six pairs with a standard deviation of .15: about 1.3x."""
    z = np.array([-1.5, -0.9, -0.3, 0.3, 0.9, 1.5])
    wide = cell(*np.exp(0.15 * z / z.std(ddof=1)))
    assert null_test({"a/u": wide, "b/u": wide}).smallest_bias == pytest.approx(1.3, abs=0.05)
