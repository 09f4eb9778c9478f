"""The calibration study in its smaller form: the intervals that are printed hold what they say."""

import pytest

from reports import calibrate
from reports.simulate import Setting

REPETITIONS = 400  # a coverage of 95 % then has a standard error of 1.1 points


@pytest.mark.parametrize("speedup", [1.0, 1.5])
@pytest.mark.parametrize("censored", [0.0, 0.13])
def test_the_headline_covers_and_is_not_biased(speedup, censored):
    for found in calibrate.study(Setting(speedup, censored, 0.01, 30), REPETITIONS, seed=1, seeds=(3, 6)):
        assert 0.91 <= found.covered_all <= 0.985, found
        assert abs(found.bias_all) < 0.02 and abs(found.bias_crossing) < 0.01, found


def test_with_much_censoring_the_restricted_mean_still_covers():
    (found,) = calibrate.study(Setting(1.2, 0.4, 0.01, 30), REPETITIONS, seed=2, seeds=(6,))
    assert found.restricted >= 0.91 and found.shown < 0.9  # most headlines are withheld there


def test_nothing_is_called_faster_where_nothing_differs():
    (found,) = calibrate.study(Setting(1.0, 0.0, 0.01, 30), REPETITIONS, seed=3, seeds=(6,))
    assert found.faster + found.slower <= 0.07
    whole = calibrate.suites(60, seed=4)
    assert whole.any_arm <= 0.12 and whole.banner <= 0.02


def test_a_real_speedup_is_found():
    (found,) = calibrate.study(Setting(1.5, 0.0, 0.01, 30), REPETITIONS, seed=5, seeds=(8,))
    assert found.faster > 0.8 and found.slower == 0
