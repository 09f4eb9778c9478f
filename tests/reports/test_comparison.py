"""Comparisons: an example worked by hand, the rules of censoring, and invariances."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import TAU, arm

from reports import Curve, compare

TARGET = 100 / 0.6


def line(seed, at, status="complete"):
    """A curve that crosses the distance 10 exactly at `at` images: 10 at / images, on a grid that has `at` in its middle."""
    images = np.array([at / 4, at / 2, at, at * 2, at * 4])
    return Curve(seed, images, 10 * at / images, status)


def ending(seed, distance):
    """A curve that comes down from 20 to a distance."""
    return Curve(seed, [100, 1000], [20.0, distance])


def test_three_seeds_worked_by_hand():
    """T_none = 400, 800, 1600 and T_arm = 200, 800, 400: d = log 2, log 1, log 4 = L (1, 0, 2), L = log 2.

    mean d = L; sd = L; standard error = L / sqrt 3; t(.975, 2) = 4.302653.
    speedup = 2; interval = 2^(1 -+ 4.302653 / sqrt 3) = 2^(1 -+ 2.484138) = [0.357462, 11.189997].
    t = sqrt 3 = 1.7320508, two degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(3 / 5) = 0.225403.
    restricted mean: (400 + 800 + 1600) / (200 + 800 + 400) = 2.
    chance: faster, equal, faster = (1 + 1/2 + 1) / 3 = 5/6.
    sign flips: |sum| >= 3 L for (+, either, +) and (-, either, -): 4 of 8.
    correlation of log2 T: (-1, 0, 1) with (-1, 1, 0) = 1 / 2.
    """
    base = [line(0, 400), line(1, 800), line(2, 1600)]
    other = [line(0, 200), line(1, 800), line(2, 400)]
    found = compare(base, other, 10.0, 10_000)
    assert (found.speedup, found.low, found.high) == pytest.approx((2, 0.357462, 11.189997), rel=1e-6)
    assert found.p == pytest.approx(1 - math.sqrt(3 / 5), rel=1e-9)
    assert (found.n, found.word, found.bound, found.reached) == (3, "preliminary", "", (3, 3))
    assert found.restricted.value == pytest.approx(2, rel=1e-12)
    assert found.chance == pytest.approx(5 / 6)
    assert found.sign_flip == pytest.approx(4 / 8)
    assert found.correlation == pytest.approx(1 / 2)
    # T on a grid point: the bracket is [T/2, T] and the first evaluation below is T itself, in both arms
    for reading in found.sensitivity.values():
        assert reading.value == pytest.approx(2, rel=1e-12)
    # Wilson for 3 of 3: low = 1 / (1 + z^2 / 3)
    assert found.reach_rates[0].low == pytest.approx(1 / (1 + stats.norm.ppf(0.975) ** 2 / 3), rel=1e-9)
    # the curves end at 4 T, so only the pair with equal T ends at an equal budget
    assert found.final.n == 1 and found.final.ratio.value == 1


def test_the_final_distance_worked_by_hand():
    """Baselines end at 4, 4, 4 and the arm at 2, 4, 1: differences -2, 0, -3; ratios 1/2, 1, 1/4, geometric mean 1/2."""
    found = compare([ending(s, 4.0) for s in range(3)], [ending(s, e) for s, e in enumerate((2.0, 4.0, 1.0))], 10.0, 1000).final
    assert (found.n, found.baseline, found.arm) == (3, 4, pytest.approx(7 / 3))
    assert found.difference.value == pytest.approx(-5 / 3) and found.ratio.value == pytest.approx(1 / 2)
    half = 4.302652729911275 * np.std([-2, 0, -3], ddof=1) / math.sqrt(3)
    assert found.difference.high == pytest.approx(-5 / 3 + half) and found.discussed


@pytest.mark.parametrize(("gap", "discussed"), [(1.012, False), (1.014, True), (1 / 1.012, False), (1 / 1.014, True)])
def test_gaps_under_13_permille_are_not_discussed(gap, discussed):
    found = compare([ending(s, 4.0) for s in range(3)], [ending(s, 4 * gap * (1 + 1e-6 * s)) for s in range(3)], 10.0, 1000)
    assert found.final.discussed is discussed


def test_swapping_the_arms_inverts_everything():
    rng = np.random.default_rng(3)
    a, b = arm(range(6), 1.0, rng), arm(range(6), 1.3, rng)
    one, other = compare(a, b, TARGET, TAU), compare(b, a, TARGET, TAU)
    assert one.speedup * other.speedup == pytest.approx(1, rel=1e-12)
    assert one.low * other.high == pytest.approx(1, rel=1e-12)
    assert one.restricted.low * other.restricted.high == pytest.approx(1, rel=1e-12)
    assert one.sign_flip == other.sign_flip and one.p == pytest.approx(other.p, rel=1e-12)
    assert one.chance + other.chance == pytest.approx(1)


def test_thousands_of_images_change_nothing_and_order_neither():
    rng = np.random.default_rng(4)
    a, b = arm(range(6), 1.0, rng), arm(range(6), 1.3, rng)
    thousands = [[Curve(c.seed, c.images / 1000, c.fid) for c in curves] for curves in (a, b)]
    one, other = compare(a, b, TARGET, TAU), compare(*thousands, TARGET, TAU / 1000)
    assert (one.speedup, one.low, one.p) == pytest.approx((other.speedup, other.low, other.p), rel=1e-12)
    shuffled = compare(a[::-1], b[3:] + b[:3], TARGET, TAU)
    assert (one.speedup, one.low) == (shuffled.speedup, shuffled.low)


@pytest.mark.parametrize(("n", "expected"), [
    (1, "points only"), (2, "points only"), (3, "preliminary"), (5, "preliminary"), (6, "faster")])
def test_words_need_seeds(n, expected):
    rng = np.random.default_rng(5)
    found = compare(arm(range(n), 1.0, rng), arm(range(n), 1.5, rng), TARGET, TAU)
    assert found.word == expected and math.isfinite(found.low) == (n >= 3) and math.isfinite(found.speedup)


def test_identical_pairs_print_identical_and_no_interval():
    curves = [line(s, 400 + s) for s in range(6)]
    found = compare(curves, curves, 10.0, 10_000)
    assert (found.word, found.speedup) == ("identical", 1.0) and math.isnan(found.low) and math.isnan(found.high)
    assert found.flips == [] and found.seeds_needed is None


def test_pairs_that_differ_by_one_factor_have_no_variance_either():
    """Twice as fast in every pair, up to rounding: no interval of width 1e-16."""
    base, other = [line(s, 401.7 + s) for s in range(6)], [line(s, (401.7 + s) / 2) for s in range(6)]
    found = compare(base, other, 10.0, 10_000)
    assert found.word == "identical" and found.speedup == pytest.approx(2) and math.isnan(found.low)


def late(seed):
    """Never comes down to 10 within 10,000 images."""
    return Curve(seed, [100, 1000, 10_000], [90.0, 50.0, 20.0])


@pytest.mark.parametrize(("base", "other", "bound", "shown"), [
    ([], [], "", True), ([0], [], ">=", True), ([], [0], "<=", True), ([0], [1], "", False), ([0], [0], "", False),
    ([0, 1], [], "", False), ([], [0, 1, 2], "<=", True),
])
def test_censoring(base, other, bound, shown):
    """>= if only baselines are censored, <= if only the arm is; both, or over 20 % of the baselines: no headline."""
    found = compare([late(s) if s in base else line(s, 800 + 10 * s) for s in range(6)],
                    [late(s) if s in other else line(s, 400 + 3 * s) for s in range(6)], 10.0, 10_000)
    assert (found.bound, math.isfinite(found.speedup)) == (bound, shown)
    assert (found.word == "no headline") is not shown
    assert math.isfinite(found.restricted.value) and found.reached == (6 - len(base), 6 - len(other))


def test_a_fifth_of_the_baselines_is_not_more_than_a_fifth():
    base = [late(s) if s == 0 else line(s, 800 + 10 * s) for s in range(5)]
    found = compare(base, [line(s, 400 + 3 * s) for s in range(5)], 10.0, 10_000)
    assert found.bound == ">=" and math.isfinite(found.speedup)


def test_what_is_reached_beyond_the_budget_is_censored():
    other = [line(s, 400 + s) if s else line(0, 1500) for s in range(6)]
    found = compare([line(s, 800 + 10 * s) for s in range(6)], other, 10.0, 1000)
    assert found.reached == (6, 5) and found.bound == "<=" and found.pairs[0].d == pytest.approx(math.log(800 / 1000))


def test_below_at_the_first_evaluation_is_a_bound():
    early = [Curve(s, [1000, 2000], [5.0, 4.0 + 0.1 * s]) for s in range(3)]
    normal = [line(s, 1600 + s) for s in range(3)]
    assert compare(normal, early, 10.0, 10_000).bound == ">="
    assert compare(early, normal, 10.0, 10_000).bound == "<="
    assert math.isnan(compare(normal, early, 10.0, 10_000).sensitivity["low"].value)  # left out of the t_lo line
    both = compare(early, early, 10.0, 10_000)
    assert both.word == "no headline" and math.isnan(both.speedup)  # neither says when


def test_a_missing_run_leaves_its_pair_out_and_is_named():
    base = [line(s, 800 + s) for s in range(4)]
    other = [line(0, 400), Curve(1, [], [], "missing"), line(2, 402)]
    found = compare(base, other, 10.0, 10_000)
    assert found.n == 2 and found.missing == [1, 3] and found.word == "points only"


def test_a_diverged_run_is_censored_at_the_budget_and_listed_apart():
    other = [line(s, 400, "diverged") if s == 0 else line(s, 400 + s) for s in range(6)]
    found = compare([line(s, 800 + s) for s in range(6)], other, 10.0, 10_000)
    assert found.n == 6 and found.bound == "<=" and found.reached == (6, 5) and found.diverged == ([], [0])
    assert found.pairs[0].d == pytest.approx(math.log(800 / 10_000))


@pytest.mark.parametrize(("arguments", "message"), [
    (([line(1, 100)], [line(1, 100), line(1, 100)], 10.0, 1000), "arm: seed 1 is given twice"),
    (([line(1, 100)], [line(1, 100)], -1.0, 1000), "target: -1.0 is no positive number"),
    (([line(1, 100)], [line(1, 100)], 10.0, math.nan), "budget: nan is no positive number"),
])
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        compare(*arguments)
    assert "\n" not in str(caught.value)


def test_no_pair_at_all():
    found = compare([], [], 10.0, 1000)
    assert found.n == 0 and math.isnan(found.speedup) and found.word == "points only"


def test_curves_of_nan_are_censored():
    nothing = [Curve(s, [100, 1000], [math.nan] * 2) for s in range(6)]
    found = compare([line(s, 800 + s) for s in range(6)], nothing, 10.0, 1000)
    assert found.reached == (6, 0) and found.bound == "<=" and math.isnan(found.final.ratio.value)


def test_a_conclusion_that_depends_on_the_reading_says_so():
    """True crossings differ by 5 %, but brackets of a factor four hold both: read by its ends, nothing differs."""
    def coarse(seed, at):
        images = np.array([1.0, 4.0, 16.0, 64.0]) * 100
        return Curve(seed, images, 10 * at / images)

    base = [coarse(s, 840 * (1 + 0.002 * s)) for s in range(6)]
    other = [coarse(s, 800 * (1 - 0.002 * s)) for s in range(6)]
    found = compare(base, other, 10.0, 6400)
    assert found.word == "faster" and found.flips == ["low", "high", "first"]
    assert [found.sensitivity[name].value for name in found.sensitivity] == [1, 1, 1]


def test_a_dip_is_seen_by_the_first_evaluation_only():
    noisy = [Curve(s, [100, 200, 400, 800], [40.0, 9.0, 20.0, 5.0 - 0.01 * s]) for s in range(3)]
    found = compare([line(s, 800 + s) for s in range(3)], noisy, 10.0, 10_000)
    assert found.sensitivity["first"].value == pytest.approx(801 / 200, rel=0.01) and found.speedup < 3
