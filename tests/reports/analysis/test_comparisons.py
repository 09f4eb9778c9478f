"""One arm in one cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from power_law import BAND, IMAGES, TAU, arms, curve, level
from scipy import stats

from reports.analysis.comparisons import compare
from reports.analysis.curves import Curve

TIMES = (0.9, 1.0, 1.05, 1.1, 0.95, 1.0)


def test_the_speedup_is_the_geometric_mean_and_its_interval_student_s_t() -> None:
    arm = np.array(TIMES) / [1.2, 1.3, 1.4, 1.3, 1.25, 1.5]
    found = compare(*arms(TIMES, arm.tolist()), BAND, TAU)
    d = np.log(np.array(TIMES) / arm)
    half = stats.t.ppf(0.975, 5) * d.std(ddof=1) / math.sqrt(6)
    assert found.d == pytest.approx(d, abs=1e-9)
    assert (found.speedup, found.low, found.high) == pytest.approx(np.exp([d.mean(), d.mean() - half, d.mean() + half]))
    assert (found.verdict, found.n, found.censored, found.reached) == ("faster", 6, (0.0, 0.0), (6, 6))
    assert found.smallest == pytest.approx(d.min()) and found.sd.value == pytest.approx(d.std(ddof=1))
    assert found.sd.low < found.sd.value < found.sd.high
    assert (found.sign_flip, found.sign_flip_method) == (2 / 64, "exact")
    assert found.correlation == pytest.approx(np.corrcoef(np.log(TIMES), np.log(arm))[0, 1])
    assert [one.speedup.value for one in found.levels] == pytest.approx([found.speedup] * 9)
    assert found.final.ratio.value == pytest.approx(found.speedup**-0.5) and found.final.n == 6


@pytest.mark.parametrize("arm", [(0.8,) * 5 + (0.9,), (2.0, 1.3, 1.0, 0.9, 3.0, 1.4), (0.1, 0.2, 0.3, 0.2, 0.1, 0.4)])
def test_swapping_the_sides_inverts_ratio_and_interval(arm: tuple[float, ...]) -> None:
    one, other = compare(*arms(TIMES, arm), BAND, TAU), compare(*arms(arm, TIMES), BAND, TAU)
    assert [one.speedup * other.speedup, one.low * other.high, one.high * other.low] == pytest.approx(
        [1] * 3, abs=1e-12
    )
    assert one.censored == other.censored[::-1] and one.below == other.below[::-1]


def test_images_in_thousands_change_nothing() -> None:
    base, arm = arms(TIMES, TIMES[::-1])
    small = [[Curve(c.seed, c.points[0] / 1000, c.fid) for c in side] for side in (base, arm)]
    one, other = compare(base, arm, BAND, TAU), compare(small[0], small[1], BAND, TAU / 1000)
    assert (one.speedup, one.low, one.high) == pytest.approx((other.speedup, other.low, other.high), rel=1e-12)


def test_an_arm_that_never_arrives_is_as_slow_as_the_budget_allows() -> None:
    found = compare(*arms(TIMES, [9.0] * 6), BAND, TAU)
    assert found.speedup == pytest.approx(math.sqrt(0.4 * 0.8), rel=0.03) and found.verdict == "slower"
    assert found.censored[1] == 1.0 and found.reached == (6, 0)
    assert [one.censored[1] for one in found.levels] == [6] * 9


def test_below_the_band_at_the_first_evaluation_counts_from_there() -> None:
    found = compare(*arms([1.0] * 6, [0.01, 0.02, 0.01, 0.02, 0.01, 0.015]), BAND, TAU)
    assert found.d == pytest.approx([math.log(math.sqrt(0.4 * 0.8) / 0.1)] * 6)
    assert found.below == (0.0, 1.0) and found.censored == (0.0, 0.0) and found.verdict == "no variance"


def test_the_first_planned_evaluation_bounds_an_arm_that_was_evaluated_earlier() -> None:
    base, arm = arms([1.0] * 6, [0.3] * 6)
    later = compare(base, arm, BAND, TAU, first=0.2 * TAU)
    assert later.below[1] == 0 and later.d[0] < compare(base, arm, BAND, TAU).d[0]


def test_a_run_that_diverges_after_crossing_has_reached_nothing() -> None:
    base, arm = arms(TIMES, TIMES)
    found = compare(base, [curve(0, 0.9, "diverged"), *arm[1:]], BAND, TAU)
    assert found.diverged == ((), (0,)) and found.n == 6 and found.final.n == 5
    assert found.censored == (0.0, pytest.approx(1 / 6))
    assert found.d[0] == pytest.approx(math.log(0.9 * math.sqrt(0.4 * 0.8)))


def test_identical_pairs_have_no_variance_and_no_p() -> None:
    found = compare(*arms(TIMES, TIMES), BAND, TAU)
    assert (found.speedup, found.verdict, found.sd.value, found.sign_flip_method) == (
        1.0,
        "no variance",
        0.0,
        "no variance",
    )
    assert all(math.isnan(x) for x in (found.low, found.high, found.sign_flip, found.detectable))
    assert found.pairs_to_settle is None


@pytest.mark.parametrize(
    ("pairs", "word"),
    [(0, "not tested"), (1, "points only"), (2, "points only"), (3, "preliminary"), (5, "preliminary")],
)
def test_few_pairs(pairs: int, word: str) -> None:
    found = compare(*arms(TIMES[:pairs], [t / (1.3 + 0.1 * i) for i, t in enumerate(TIMES[:pairs])]), BAND, TAU)
    assert (found.verdict, found.n, math.isnan(found.low)) == (word, pairs, pairs < 3)
    assert math.isnan(found.speedup) == (pairs == 0)


def test_a_missing_run_takes_its_pair_out_and_is_named() -> None:
    base, arm = arms(TIMES, TIMES)
    lost = Curve(3, IMAGES[:2], [300.0, 290.0], "missing")
    found = compare(base, [*arm[:3], lost, arm[4]], BAND, TAU)
    assert (found.missing, found.n) == ((3, 5), 4)


def test_one_number_is_a_band_of_one_level() -> None:
    found = compare(*arms(TIMES, [t / 1.25 for t in TIMES]), level(0.6), TAU)
    assert found.speedup == pytest.approx(1.25) and len(found.levels) == 1


def test_beyond_thirteen_pairs_the_flips_are_drawn() -> None:
    times = np.linspace(0.8, 1.2, 14)
    found = compare(*arms(times.tolist(), (times / 1.2 * times[::-1] ** 0.1).tolist()), BAND, TAU)
    assert found.sign_flip_method == "sampled" and found.sign_flip < 0.001


def test_a_seed_given_twice_and_numbers_that_are_none() -> None:
    base, arm = arms(TIMES, TIMES)
    with pytest.raises(ValueError, match="arm: seed 0 is given twice"):
        compare(base, [*arm, arm[0]], BAND, TAU)
    with pytest.raises(ValueError, match="budget: nan"):
        compare(base, arm, BAND, math.nan)
    with pytest.raises(ValueError, match="levels: "):
        compare(base, arm, [1.0, -1.0], TAU)
