"""The statistics against their definitions, and against libraries where they are written for many repetitions at once."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from reports import stats


def test_many_repetitions_give_what_one_gives():
    d = np.random.default_rng(0).standard_normal((5, 6))
    mean, sd = stats.moments(d)
    half, p = stats.t_half(sd, 6), stats.t_p(mean, sd, 6)
    for i, row in enumerate(d):
        one, own_p = stats.paired(row)
        test = scipy_stats.ttest_1samp(row, 0)
        assert (one.value, one.low, own_p) == pytest.approx((mean[i], mean[i] - half[i], p[i]))
        assert (one.low, one.high, own_p) == pytest.approx((*test.confidence_interval(), test.pvalue))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_no_interval_from_fewer_than_three(n):
    one, p = stats.paired(np.ones(n))
    assert math.isnan(one.low) and math.isnan(p) and math.isnan(one.value) is (n == 0)


def test_numbers_that_differ_by_rounding_have_no_variance():
    one, p = stats.paired(np.log([2.0, 2.0 * (1 + 1e-15), 2.0]))
    assert math.isnan(one.low) and math.isnan(p) and one.value == pytest.approx(math.log(2))


def test_the_restricted_mean_interval_is_the_jackknifes():
    """Three pairs: pseudo-values n log R - (n - 1) log R without pair i."""
    base, arm = np.array([400.0, 800.0, 1600.0]), np.array([200.0, 800.0, 400.0])
    pseudo = [3 * math.log(2) - 2 * math.log(r) for r in (2400 / 1200, 2000 / 600, 1200 / 1000)]
    half = scipy_stats.t.ppf(0.975, 2) * np.std(pseudo, ddof=1) / math.sqrt(3)
    found = stats.restricted_ratio(base, arm)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 * math.exp(-half), 2 * math.exp(half)))


def test_restricted_means_of_few_and_of_equal_pairs():
    one = np.array([3.0])
    assert stats.restricted_ratio(one, one / 2).value == 2 and math.isnan(stats.restricted_ratio(one, one).low)
    assert math.isnan(stats.restricted_ratio(one[:0], one[:0]).value)
    equal = stats.restricted_ratio(np.array([4.0, 6, 8]), np.array([2.0, 3, 4]))
    assert equal.value == pytest.approx(2) and math.isnan(equal.low)


def test_wilson_by_its_formula():
    """3 of 3: low = 1 / (1 + z^2 / 3). 4 of 6: centre (p + z^2 / 2n) / (1 + z^2 / n)."""
    z2 = scipy_stats.norm.ppf(0.975) ** 2
    assert (stats.wilson(3, 3).low, stats.wilson(3, 3).high) == pytest.approx((1 / (1 + z2 / 3), 1))
    found = stats.wilson(4, 6)
    assert (found.low + found.high) / 2 == pytest.approx((4 / 6 + z2 / 12) / (1 + z2 / 6))
    assert math.isnan(stats.wilson(0, 0).value)


def test_sign_flip_reaches_its_floor_and_no_deeper():
    assert stats.sign_flip(np.arange(1.0, 7)) == pytest.approx(2 / 64)  # .031 at six pairs
    assert stats.sign_flip(np.arange(1.0, 6)) == pytest.approx(2 / 32)  # .0625 at five
    assert stats.sign_flip(np.zeros(4)) == 1 and math.isnan(stats.sign_flip(np.ones(1)))


def test_sign_flip_of_many_pairs_is_drawn_and_repeatable():
    d = np.random.default_rng(0).standard_normal(24) + 0.3
    assert stats.sign_flip(d) == stats.sign_flip(d) == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue, abs=0.02)


def test_ties_count_one_half():
    assert stats.chance(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)
    assert math.isnan(stats.chance(np.array([]), np.array([])))


def test_correlation_needs_variance_on_both_sides():
    base = np.array([1.0, 2.0, 4.0])
    assert stats.correlation(base, base**2) == pytest.approx(1) and math.isnan(stats.correlation(base, np.ones(3)))


def test_satterthwaite_of_equal_variances_has_all_degrees_of_freedom():
    """Two cells, sd 1, n = 6: variance 2/6 / 4, df = (2/6)^2 / (2 (1/6)^2 / 5) = 10."""
    found = stats.satterthwaite([0.1, 0.3], [1, 1], [6, 6])
    assert (found.value, found.error, found.df) == pytest.approx((0.2, math.sqrt(1 / 12), 10))


def test_satterthwaite_of_two_cells_is_welchs_test():
    a, b = np.random.default_rng(0).standard_normal((2, 7))
    b = 3 * b[:4]
    found = stats.satterthwaite([a.mean(), -b.mean()], [a.std(ddof=1), b.std(ddof=1)], [7, 4])
    assert found.p() == pytest.approx(scipy_stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_a_cell_without_variance_adds_none():
    found = stats.satterthwaite([0.1, 0.3], [0, 1], [6, 6])
    assert found.df == pytest.approx(5) and found.error == pytest.approx(math.sqrt(1 / 6) / 2)
    alone = stats.satterthwaite([0.1], [0], [6])
    assert math.isnan(alone.p()) and math.isnan(alone.interval().low)


def test_holm_keeps_the_whole_family():
    """Three arms, one without a p value: it still counts."""
    found = stats.holm({"a": 0.01, "b": math.nan, "c": 0.03})
    assert found == pytest.approx({"a": 0.03, "b": math.nan, "c": 0.06}, nan_ok=True) and stats.holm({}) == {}


def test_the_number_of_seeds_that_would_decide_does_decide():
    n = stats.seeds_needed(math.log(1.1), 0.1)
    for count, enough in ((n, True), (n - 1, False)):
        half = scipy_stats.t.ppf(0.975, count - 1) * 0.1 / math.sqrt(count)
        assert bool(math.log(1.1) - half > math.log(1.02)) is enough
    assert stats.seeds_needed(math.log(1.06), 10.0) is None and stats.seeds_needed(0.1, 0.0) is None
    assert stats.seeds_needed(math.log(1.3), 0.01, have=6) == 7  # what six did not decide takes more than six
    assert stats.seeds_needed(math.log(1.3), 0.3, level=0.01) > stats.seeds_needed(math.log(1.3), 0.3)
