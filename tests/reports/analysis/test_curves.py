"""Crossings: exact where the answer is known; restricted log times at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from power_law import BAND, IMAGES, TAU, curve, level

from reports.analysis.curves import Curve, crossing, log_times


def test_a_power_law_is_crossed_exactly() -> None:
    found = crossing([100, 200, 400], [8.0, 4.0, 2.0], math.sqrt(8.0))  # fid = 800 / images
    assert found.images == pytest.approx(800 / math.sqrt(8.0), rel=1e-12)
    assert (found.low, found.high, found.status) == (200, 400, "reached")


def test_a_bump_is_pooled() -> None:
    """log 4, 5, 3: 4 and 5 pool to sqrt 20; the target 4 lies between sqrt 20 at 20 and 3 at 40."""
    part = (math.log(20) / 2 - math.log(4)) / (math.log(20) / 2 - math.log(3))
    assert crossing([10, 20, 40], [4.0, 5.0, 3.0], 4.0).images == pytest.approx(20 * 2**part, rel=1e-12)


@pytest.mark.parametrize(
    ("fid", "target", "expected"),
    [
        ([4.0, 3.0, 2.0], 1.0, (math.inf, 40, math.inf, "censored")),
        ([4.0, 3.0, 2.0], 5.0, (10, 0, 10, "reached")),
        ([4.0, 3.0, 2.0], 3.0, (20, 10, 20, "reached")),
        ([4.0, 3.0, 2.0], 2.0, (40, 20, 40, "reached")),
        ([4.0, 2.0, 2.0], 2.0, (20, 10, 20, "reached")),
        ([math.nan] * 3, 1.0, (math.inf, 40, math.inf, "censored")),
        ([4.0, 2.0, 0.0], 1.0, (40 / math.sqrt(2), 20, 40, "reached")),
        ([4.0, 3.0, -1e-9], 2.0, (20 * 2 ** (math.log(1.5) / math.log(3)), 20, 40, "reached")),
    ],
)
def test_edges(fid: list[float], target: float, expected: tuple[float, float, float, str]) -> None:
    found = crossing([10, 20, 40], fid, target)
    assert (found.images, found.low, found.high) == pytest.approx(expected[:3])
    assert found.status == expected[3]


@pytest.mark.parametrize("target", [0.1, 1 / 3, 1.7, 157.3])
def test_a_pooled_plateau_at_the_target_is_a_crossing_whatever_rounding_does(target: float) -> None:
    fid = [8 * target, target / 3, 3 * target, target / 2, 2 * target, target]
    assert crossing([1, 2, 3, 4, 5, 6], fid, target).images == pytest.approx(2)


def test_evaluations_that_are_not_finite_are_left_out() -> None:
    assert crossing([10, 20, 40, 80], [8.0, math.nan, math.inf, 1.0], 2.0) == crossing([10, 80], [8.0, 1.0], 2.0)


def test_a_curve_without_evaluations_reaches_nothing() -> None:
    assert crossing([], [], 1.0).status == "censored"
    assert log_times([Curve(0, [], [])], BAND, 10.0, TAU).values[0] == pytest.approx(np.log([TAU] * 9))


def test_log_times_are_those_of_each_level() -> None:
    found = log_times([curve(0, 1.1)], BAND, IMAGES[0], TAU)
    assert found.mean[0] == pytest.approx(
        np.mean([math.log(crossing(IMAGES, curve(0, 1.1).fid, x).images) for x in BAND])
    )
    assert not found.censored.any() and not found.below.any()


def test_three_levels_reached_of_nine() -> None:
    slow = 1 / np.sqrt(0.4 * 2 ** (2 / 8) * 0.4 * 2 ** (3 / 8))  # the budget lies between its third and fourth level
    found = log_times([curve(0, slow)], BAND, IMAGES[0], TAU)
    assert found.censored.tolist() == [[False] * 3 + [True] * 6]
    expected = [math.log(min(slow * 0.4 * 2 ** (k / 8), 1.0) * TAU) for k in range(9)]
    assert found.values[0] == pytest.approx(expected, abs=1e-12)


def test_below_at_the_first_evaluation_is_that_evaluation() -> None:
    found = log_times([curve(0, 0.2)], BAND, IMAGES[0], TAU)  # reaches the band between .08 and .16 of the budget
    assert found.below[0].tolist() == [0.08 * 2 ** (k / 8) < 0.1 for k in range(9)]
    assert found.values[0, 0] == pytest.approx(math.log(0.1 * TAU)) and not found.censored.any()


def test_a_crossing_beyond_the_budget_is_censored() -> None:
    assert log_times([curve(0)], level(0.6), IMAGES[0], 0.5 * TAU).censored.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, [1, 2], [1.0]), "curve of seed 3: images"),
        ((3, [2, 1], [1.0, 2.0]), "increasing"),
        ((3, [0, 1], [1.0, 2.0]), "positive"),
        ((3, [1], [1.0], "done"), "status 'done' is unknown; choose from complete, diverged, missing"),
    ],
)
def test_what_is_no_curve_is_one_line(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Curve(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_must_be_a_positive_number(target: float) -> None:
    with pytest.raises(ValueError, match="target: "):
        crossing([10, 20], [2.0, 1.0], target)
