"""The calibration study in its smaller form: the intervals that are printed hold what they say."""

import pytest

from reports import calibrate
from reports.simulate import Setting

REPETITIONS = 400  # a coverage of 95 % then has a standard error of 1.1 points


@pytest.mark.parametrize("speedup", [1.0, 1.5])
@pytest.mark.parametrize("censored", [0.0, 0.13])
def test_the_headline_covers_and_is_not_biased(speedup, censored):
    for found in calibrate.study(Setting(speedup, censored, 0.01, 30), REPETITIONS, seed=1, seeds=(3, 6)):
        assert 0.91 <= found.coverage["headline, all"] <= 0.985, found
        assert abs(found.bias["headline, all"]) < 0.02 and abs(found.bias["crossing"]) < 0.01, found


def test_every_printed_interval_and_estimate_is_studied():
    """In a sound setting all of them cover and none is off; the readings of T share their bias between baseline and arm."""
    (found,) = calibrate.study(Setting(1.2, 0.0, 0.01, 30), REPETITIONS, seed=6, seeds=(6,))
    assert set(found.coverage) == {*calibrate.COVERAGE, *calibrate.BESIDE} and set(calibrate.BIAS) <= set(found.bias)
    assert all(0.91 <= share <= 1 for share in found.coverage.values()), found.coverage
    assert all(abs(found.bias[name]) < 0.04 for name in calibrate.BIAS), found.bias


def test_an_interval_that_is_too_narrow_is_seen(monkeypatch):
    """The normal quantile instead of Student's: at three seeds it holds the truth in about 80 %."""
    monkeypatch.setattr(calibrate.stats, "t_half", lambda sd, n, level=0.05: 1.96 * sd / n**0.5)
    (found,) = calibrate.study(Setting(1.0, 0.0, 0.01, 30), REPETITIONS, seed=1, seeds=(3,))
    assert found.coverage["headline, all"] < 0.88
    assert not all(one.holds for one in calibrate.expectations([found], calibrate.SuiteRates(1, 0, 0, 0, 0, 0, 0)))


def test_with_much_censoring_the_restricted_mean_still_covers():
    (found,) = calibrate.study(Setting(1.2, 0.4, 0.01, 30), REPETITIONS, seed=2, seeds=(6,))
    assert found.coverage["restricted mean"] >= 0.91 and found.shown < 0.9  # most headlines are withheld there


def test_nothing_is_called_faster_where_nothing_differs():
    (found,) = calibrate.study(Setting(1.0, 0.0, 0.01, 30), REPETITIONS, seed=3, seeds=(6,))
    assert found.faster + found.slower <= 0.07
    whole = calibrate.suites(60, seed=4)
    assert whole.any_arm <= 0.12 and whole.banner <= 0.02
    assert whole.swapped <= 1e-12 and whole.thousands <= 1e-12


def test_a_real_speedup_is_found():
    (found,) = calibrate.study(Setting(1.5, 0.0, 0.01, 30), REPETITIONS, seed=5, seeds=(8,))
    assert found.faster > 0.8 and found.slower == 0
