"""Comparisons: an example worked by hand, the rules of censoring, invariances, and coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import TAU, arm

from reports import Curve, compare
from reports.comparison import restricted_mean, sign_flip
from reports.words import claim, seeds_needed, word

TARGET = 100 / 0.6


def line(seed, at, status="complete"):
    """A curve that crosses the distance 10 exactly at `at` images: 10 at / images, on a grid that has `at` in its middle."""
    images = np.array([at / 4, at / 2, at, at * 2, at * 4])
    return Curve(seed, images, 10 * at / images, status)


def test_three_seeds_worked_by_hand():
    """T_none = 400, 800, 1600 and T_arm = 200, 800, 400: d = log 2, log 1, log 4 = L (1, 0, 2), L = log 2.

    mean d = L; sd = L; standard error = L / sqrt 3; t(.975, 2) = 4.302653.
    speedup = 2; interval = 2^(1 -+ 4.302653 / sqrt 3) = 2^(1 -+ 2.484138).
    t = sqrt 3 = 1.7320508, two degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(3 / 5).
    restricted mean: (400 + 800 + 1600) / (200 + 800 + 400) = 2.
    chance: faster, equal, faster = (1 + 1/2 + 1) / 3 = 5/6.
    sign flips: |sum| >= 3 L for (+, either, +) and (-, either, -): 4 of 8.
    """
    base = [line(0, 400), line(1, 800), line(2, 1600)]
    other = [line(0, 200), line(1, 800), line(2, 400)]
    found = compare(base, other, 10.0, 10_000)
    assert found.speedup == pytest.approx(2, rel=1e-12)
    assert found.low == pytest.approx(2 ** (1 - 4.302652729911275 / math.sqrt(3)), rel=1e-9)
    assert found.high == pytest.approx(2 ** (1 + 4.302652729911275 / math.sqrt(3)), rel=1e-9)
    assert found.p == pytest.approx(1 - math.sqrt(3 / 5), rel=1e-9)
    assert (found.n, found.word, found.bound, found.reached) == (3, "preliminary", "", (3, 3))
    assert found.restricted.value == pytest.approx(2, rel=1e-12)
    assert found.chance == pytest.approx(5 / 6)
    assert found.sign_flip == pytest.approx(4 / 8)
    assert found.correlation == pytest.approx(np.corrcoef(np.log([400, 800, 1600]), np.log([200, 800, 400]))[0, 1])
    # T on a grid point: the bracket is [T/2, T] and the first evaluation below is T itself, in both arms
    for reading in found.sensitivity.values():
        assert reading.value == pytest.approx(2, rel=1e-12)
    # Wilson for 3 of 3: low = 1 / (1 + z^2 / 3)
    assert found.reach_rates[0].low == pytest.approx(1 / (1 + stats.norm.ppf(0.975) ** 2 / 3), rel=1e-9)


def test_swapping_the_arms_inverts_everything():
    rng = np.random.default_rng(3)
    a, b = arm(list(range(6)), 1.0, rng), arm(list(range(6)), 1.3, rng)
    one, other = compare(a, b, TARGET, TAU), compare(b, a, TARGET, TAU)
    assert one.speedup * other.speedup == pytest.approx(1, rel=1e-12)
    assert one.low * other.high == pytest.approx(1, rel=1e-12)
    assert one.sign_flip == other.sign_flip and one.p == pytest.approx(other.p, rel=1e-12)
    assert one.chance + other.chance == pytest.approx(1)


def test_thousands_of_images_change_nothing_and_order_neither():
    rng = np.random.default_rng(4)
    a, b = arm(list(range(6)), 1.0, rng), arm(list(range(6)), 1.3, rng)
    thousands = [[Curve(c.seed, c.images / 1000, c.fid) for c in curves] for curves in (a, b)]
    one, other = compare(a, b, TARGET, TAU), compare(*thousands, TARGET, TAU / 1000)
    assert (one.speedup, one.low, one.p) == pytest.approx((other.speedup, other.low, other.p), rel=1e-12)
    shuffled = compare(a[::-1], b[3:] + b[:3], TARGET, TAU)
    assert (one.speedup, one.low) == (shuffled.speedup, shuffled.low)


@pytest.mark.parametrize(("n", "expected"), [(1, "points only"), (2, "points only"), (3, "preliminary"), (5, "preliminary"), (6, "faster")])
def test_words_need_seeds(n, expected):
    rng = np.random.default_rng(5)
    found = compare(arm(list(range(n)), 1.0, rng), arm(list(range(n)), 1.5, rng), TARGET, TAU)
    assert found.word == expected and math.isfinite(found.low) == (n >= 3) and math.isfinite(found.speedup)


def test_identical_pairs_print_identical_and_no_interval():
    curves = [line(s, 400 + s) for s in range(6)]
    found = compare(curves, curves, 10.0, 10_000)
    assert (found.word, found.speedup) == ("identical", 1.0) and math.isnan(found.low) and math.isnan(found.high)


def late(seed):
    """Never comes down to 10 within 10,000 images."""
    return Curve(seed, [100, 1000, 10_000], [90.0, 50.0, 20.0])


@pytest.mark.parametrize(("base", "other", "bound", "shown"), [
    ([], [], "", True), ([0], [], ">=", True), ([], [0], "<=", True), ([0], [1], "", False), ([0, 1], [], "", False), ([], [0, 1, 2], "<=", True),
])
def test_censoring(base, other, bound, shown):
    """>= if only baselines are censored, <= if only the arm is; both, or over 20 % of the baselines: no headline."""
    seeds = range(6)
    found = compare([late(s) if s in base else line(s, 800 + 10 * s) for s in seeds],
                    [late(s) if s in other else line(s, 400 + 3 * s) for s in seeds], 10.0, 10_000)
    assert (found.bound, math.isfinite(found.speedup)) == (bound, shown)
    assert (found.word == "no headline") is not shown
    assert math.isfinite(found.restricted.value) and found.reached == (6 - len(base), 6 - len(other))


def test_below_at_the_first_evaluation_is_a_bound():
    early = [Curve(s, [1000, 2000], [5.0, 4.0 + 0.1 * s]) for s in range(3)]
    normal = [line(s, 1600 + s) for s in range(3)]
    assert compare(normal, early, 10.0, 10_000).bound == ">="
    assert compare(early, normal, 10.0, 10_000).bound == "<="
    assert math.isnan(compare(normal, early, 10.0, 10_000).sensitivity["low"].value)  # left out of the t_lo line


def test_a_missing_run_leaves_its_pair_out_and_is_named():
    base = [line(s, 800 + s) for s in range(4)]
    other = [line(0, 400), Curve(1, [], [], "missing"), line(2, 402)]
    found = compare(base, other, 10.0, 10_000)
    assert found.n == 2 and found.missing == [1, 3] and found.word == "points only"


def test_a_diverged_run_is_censored_at_the_budget_and_not_missing():
    found = compare([line(s, 800 + s) for s in range(6)], [line(s, 400, "diverged") if s == 0 else line(s, 400 + s) for s in range(6)], 10.0, 10_000)
    assert found.n == 6 and found.bound == "<=" and found.reached == (6, 5)
    assert found.pairs[0].d == pytest.approx(math.log(800 / 10_000))


def test_a_seed_twice_is_refused():
    with pytest.raises(ValueError, match="arm: seed 1 is given twice"):
        compare([line(1, 100)], [line(1, 100), line(1, 100)], 10.0, 1000)


def test_no_pair_at_all():
    found = compare([], [], 10.0, 1000)
    assert found.n == 0 and math.isnan(found.speedup) and found.word == "points only"


def test_sign_flip_reaches_its_floor():
    assert sign_flip(np.arange(1.0, 7)) == pytest.approx(2 / 64)
    assert sign_flip(np.arange(1.0, 6)) == pytest.approx(2 / 32)


def test_the_restricted_mean_interval_is_the_jackknifes():
    """Three pairs: pseudo-values n log R - (n-1) log R without pair i."""
    times = np.array([[400.0, 200.0], [800.0, 800.0], [1600.0, 400.0]])
    pseudo = [3 * math.log(2) - 2 * math.log(r) for r in (2400 / 1200, 2000 / 600, 1200 / 1000)]
    half = stats.t.ppf(0.975, 2) * np.std(pseudo, ddof=1) / math.sqrt(3)
    found = restricted_mean(times)
    assert (found.value, found.low, found.high) == pytest.approx((2, math.exp(np.mean(pseudo) - half), math.exp(np.mean(pseudo) + half)))


@pytest.mark.parametrize(("arguments", "expected"), [
    ((1.1, 1.3, 0.01, 6), "faster"), ((1.1, 1.3, 0.06, 6), "inconclusive"), ((0.7, 0.9, 0.01, 6), "slower"), ((1.01, 1.3, 0.01, 6), "inconclusive"),
    ((0.95, 1.05, 0.9, 6), "no detectable difference"), ((0.95, 1.05, 0.9, 6, ">="), "inconclusive"), ((1.1, 1.3, 0.01, 6, "<="), "inconclusive"),
    ((1.1, 1.3, 0.01, 6, ">="), "faster"), ((0.7, 0.9, 0.01, 6, ">="), "inconclusive"), ((0.7, 0.9, 0.01, 6, "<="), "slower"),
    ((1.03, 1.09, 0.01, 6), "faster"), ((math.nan, math.nan, math.nan, 6), "inconclusive"),
])
def test_words(arguments, expected):
    assert word(*arguments) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [
    (1.3, 1.7, "supported"), (1.6, 1.9, "stronger"), (1.1, 1.3, "weaker"), (0.8, 1.01, "contradicted"), (0.9, 1.6, "inconclusive"),
    (math.nan, math.nan, "inconclusive"),
])
def test_claims(low, high, expected):
    assert claim(low, high, 1.5) == expected


def test_the_number_of_seeds_that_would_decide_does_decide():
    n = seeds_needed(math.log(1.1), 0.1)
    half = stats.t.ppf(0.975, n - 1) * 0.1 / math.sqrt(n)
    assert math.log(1.1) - half > math.log(1.02)
    half = stats.t.ppf(0.975, n - 2) * 0.1 / math.sqrt(n - 1)
    assert math.log(1.1) - half <= math.log(1.02)
    assert seeds_needed(math.log(1.06), 10.0) is None


@pytest.mark.parametrize(("truth", "n"), [(1.0, 3), (1.2, 6), (1.0, 8)])
def test_the_interval_covers_as_often_as_it_says(truth, n):
    """1,000 simulated comparisons through crossing and all: 95 % coverage within four standard errors of the simulation."""
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(1000):
        found = compare(arm(list(range(n)), 1.0, rng, 0.1), arm(list(range(n)), truth, rng, 0.1), 100 / 0.5, TAU)
        hits += found.low <= truth <= found.high
    assert abs(hits / 1000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)
