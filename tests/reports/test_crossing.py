"""Crossing times: exact where the answer is known, unbiased where it is noisy."""

import math

import numpy as np
import pytest
from synthetic import IMAGES, TAU, distances

from reports import Curve, crossing


def test_a_power_law_is_crossed_exactly():
    found = crossing([100, 200, 400], [8.0, 4.0, 2.0], math.sqrt(8.0))  # fid = 800 / images: sqrt 8 at 800 / sqrt 8
    assert found.images == pytest.approx(800 / math.sqrt(8.0), rel=1e-12)
    assert (found.low, found.high, found.status, found.at_first) == (200, 400, "reached", False)


def test_a_bump_is_pooled():
    """log 4, 5, 3 -> isotonic: (4, 5) pool to sqrt 20; the target 4 lies between sqrt 20 at 20 and 3 at 40."""
    found = crossing([10, 20, 40], [4.0, 5.0, 3.0], 4.0)
    part = (math.log(20) / 2 - math.log(4)) / (math.log(20) / 2 - math.log(3))
    assert found.images == pytest.approx(20 * 2**part, rel=1e-12)


@pytest.mark.parametrize(("fid", "target", "expected"), [
    ([4.0, 3.0, 2.0], 1.0, (math.inf, 40, math.inf, "censored")),
    ([4.0, 3.0, 2.0], 5.0, (10, 0, 10, "reached")),
    ([4.0, 3.0, 2.0], 4.0, (10, 0, 10, "reached")),
    ([4.0, 3.0, 2.0], 3.0, (20, 10, 20, "reached")),
    ([4.0, 3.0, 2.0], 2.0, (40, 20, 40, "reached")),
    ([4.0, 2.0, 2.0], 2.0, (20, 10, 20, "reached")),
    ([math.nan] * 3, 1.0, (math.inf, 40, math.inf, "censored")),
    ([4.0, 4.0, 0.0], 4.0, (10, 0, 10, "reached")),
])
def test_edges(fid, target, expected):
    found = crossing([10, 20, 40], fid, target)
    assert (found.images, found.low, found.high, found.status) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.1, 1 / 3, 1.7, 157.3])
def test_a_pooled_plateau_at_the_target_is_a_crossing_whatever_rounding_does(level):
    """(1/3, 3) and (1/2, 2) times the target pool to the target, up to the last bit of their logs."""
    fid = [8 * level, level / 3, 3 * level, level / 2, 2 * level, level]
    found = crossing([1, 2, 3, 4, 5, 6], fid, level)
    assert (found.images, found.low, found.high) == pytest.approx((2, 1, 2))


def test_a_curve_that_only_rises_is_one_plateau():
    rising = [1.0, 2.0, 4.0]  # pools to its geometric mean, 2
    assert crossing([10, 20, 40], rising, 1.9).status == "censored"
    assert crossing([10, 20, 40], rising, 2.1).at_first


def test_evaluations_that_are_not_finite_are_left_out():
    assert crossing([10, 20, 40, 80], [8.0, math.nan, math.inf, 1.0], 2.0) == crossing([10, 80], [8.0, 1.0], 2.0)


def test_a_distance_of_zero_drags_nothing_down():
    """Zero counts as half of the smallest in sight, 1: (1, 4, 3) pool to 12^(1/3) = 2.29, above the target 2."""
    assert crossing([10, 20, 40, 80], [8.0, 0.0, 4.0, 3.0], 2.0).status == "censored"
    found = crossing([10, 20, 40], [4.0, 2.0, 0.0], 1.0)
    assert found.low == 20 and found.images == pytest.approx(40 / math.sqrt(2))
    assert crossing([10, 20], [0.0, 0.0], 1.0).at_first
    assert crossing([10, 20], [3.0, -1e-9], 1.0).status == "reached"


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_must_be_a_positive_number(target):
    with pytest.raises(ValueError, match="target: "):
        crossing([10, 20], [2.0, 1.0], target)


def test_no_evaluation_and_one():
    assert crossing([], [], 1.0).status == "censored"
    assert crossing([10], [2.0], 1.0).low == 10
    assert crossing([10], [2.0], 3.0).at_first


def test_a_diverged_curve_is_censored_even_if_it_crossed():
    assert Curve(0, [10, 20], [4.0, 1.0], "diverged").crossing(2.0).status == "censored"
    assert Curve(0, [10, 20], [4.0, 1.0]).crossing(2.0).status == "reached"


def test_a_crossing_beyond_the_budget_is_censored():
    assert Curve(0, [10, 40], [4.0, 1.0]).crossing(2.0, 20).images == pytest.approx(20)
    assert Curve(0, [10, 40], [4.0, 1.0]).crossing(2.0, 19.9).status == "censored"


@pytest.mark.parametrize(("curve", "message"), [
    ((0, [1, 2], [1.0]), "must be 1-D and equally long"), ((0, [2, 1], [1.0, 2.0]), "increasing"),
    ((0, [0, 1], [1.0, 2.0]), "positive"), ((0, [1, 1], [1.0, 2.0]), "increasing"),
    ((0, [1], [1.0], "done"), "status 'done' is unknown; choose from complete, diverged, missing"),
])
def test_bad_curves_are_refused(curve, message):
    with pytest.raises(ValueError, match=message) as caught:
        Curve(*curve)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("points", "noise"), [(12, 0.005), (12, 0.03), (30, 0.01), (100, 0.03)])
def test_bias_is_under_one_percent(points, noise):
    rng = np.random.default_rng(1)
    images = np.geomspace(0.1 * TAU, TAU, points)
    found = [crossing(images, distances(1.0, rng, noise, images), 100 / 0.6).images for _ in range(1000)]
    assert abs(np.log(np.array(found) / (0.6 * TAU)).mean()) < 0.01


def test_the_first_evaluation_below_is_biased_as_the_protocol_says():
    """Late on a coarse grid, early on a fine noisy one; that is why it is not used."""
    rng = np.random.default_rng(1)

    def bias(points, noise):
        images = np.geomspace(0.1 * TAU, TAU, points)
        curves = [Curve(0, images, distances(np.exp(0.1 * z), rng, noise, images)) for z in rng.standard_normal(500)]
        return np.mean([np.log(c.first_below(200.0) / c.crossing(200.0).images) for c in curves])

    assert bias(12, 0.01) > 0.06 and bias(200, 0.05) < -0.02


def test_units_change_nothing():
    fid = distances(1.0, np.random.default_rng(2), 0.02)
    plain = crossing(IMAGES, fid, 150.0).images
    assert crossing(IMAGES / 1000, fid, 150.0).images * 1000 == pytest.approx(plain, rel=1e-12)
    assert crossing(IMAGES, fid * 7, 1050.0).images == pytest.approx(plain, rel=1e-12)
