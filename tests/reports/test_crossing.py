"""Crossing times: exact where the answer is known, unbiased where it is noisy."""

import math

import numpy as np
import pytest
from synthetic import IMAGES, TAU, distances

from reports import Curve, crossing


def test_a_power_law_is_crossed_exactly():
    found = crossing([100, 200, 400], [8.0, 4.0, 2.0], math.sqrt(8.0))  # fid = 800 / images: sqrt 8 at 800 / sqrt 8
    assert found.images == pytest.approx(800 / math.sqrt(8.0), rel=1e-12)
    assert (found.low, found.high, found.status, found.at_first) == (pytest.approx(200), pytest.approx(400), "reached", False)


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
    ([4.0, 2.0, 2.0], 2.0, (20, 10, 20, "reached")),
    ([math.nan] * 3, 1.0, (math.inf, 40, math.inf, "censored")),
    ([4.0, 4.0, 0.0], 4.0, (10, 0, 10, "reached")),
])
def test_edges(fid, target, expected):
    found = crossing([10, 20, 40], fid, target)
    assert (found.images, found.low, found.high, found.status) == pytest.approx(expected)


def test_evaluations_that_are_not_finite_are_left_out():
    assert crossing([10, 20, 40, 80], [8.0, math.nan, math.inf, 1.0], 2.0) == crossing([10, 80], [8.0, 1.0], 2.0)


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


@pytest.mark.parametrize(("curve", "message"), [
    ((0, [1, 2], [1.0]), "must be 1-D and equally long"), ((0, [2, 1], [1.0, 2.0]), "increasing"), ((0, [0, 1], [1.0, 2.0]), "positive"),
    ((0, [1, 1], [1.0, 2.0]), "increasing"), ((0, [1], [1.0], "done"), "status 'done' is unknown; choose from complete, diverged, missing"),
])
def test_bad_curves_are_refused(curve, message):
    with pytest.raises(ValueError, match=message):
        Curve(*curve)


@pytest.mark.parametrize(("points", "noise"), [(12, 0.005), (12, 0.03), (30, 0.01), (100, 0.03)])
def test_bias_is_under_one_percent(points, noise):
    rng = np.random.default_rng(1)
    images = np.geomspace(0.1 * TAU, TAU, points)
    found = [math.log(crossing(images, distances(1.0, rng, noise, images), 100 / 0.6).images / (0.6 * TAU)) for _ in range(2000)]
    assert abs(np.mean(found)) < 0.01


def test_the_unit_of_images_changes_nothing():
    fid = distances(1.0, np.random.default_rng(2), 0.02)
    assert crossing(IMAGES / 1000, fid, 150.0).images * 1000 == pytest.approx(crossing(IMAGES, fid, 150.0).images, rel=1e-12)
