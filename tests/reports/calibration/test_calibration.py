"""The arrays of the study are the statistics of the report, and the study could fail."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.analysis.bands import derive_band
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.curves import Array, Curve
from reports.analysis.findings import FAILING, FINDINGS, SHORT, SPREAD, resembles
from reports.analysis.pooling import pool
from reports.calibration import simulate
from reports.calibration.page import expectations, write
from reports.calibration.simulate import decided, is_false, power, sequential, settings, study

TAU, PAIRS, ARMS = 20480.0, 6, 2


def runs(setting: simulate.Setting, logs: Array) -> list[Curve]:
    return [Curve(seed, TAU * np.exp(setting.grid), np.exp(row)) for seed, row in enumerate(logs)]


@pytest.mark.parametrize("setting", [one for one in settings() if one.speedup == 1.5], ids=lambda one: one.name)
def test_the_arrays_are_what_the_report_computes(setting: simulate.Setting) -> None:
    rng = np.random.default_rng(0)
    exact = replace(setting, noise=0.0)  # of the bands: the simulated measurement of the noise is left out
    times = setting.sd * setting.standard((simulate.CELLS, 1, simulate.PILOTS), rng)
    pilots = simulate.curves(setting, times, rng)
    levels, usable = zip(*(simulate.bands(exact, one, rng) for one in pilots), strict=True)
    logs = [simulate.pairs(setting, c, (1, PAIRS), ARMS, rng) for c in range(simulate.CELLS)]
    arms: dict[str, dict[str, Comparison]] = {str(arm): {} for arm in range(ARMS)}
    d = np.empty((simulate.CELLS, ARMS, 1, PAIRS))
    for c, sides in enumerate(logs):
        band = derive_band(runs(setting, pilots[c][0]), TAU, 0.0)
        assert band.usable == usable[c][0] and np.log(band.levels) == pytest.approx(levels[c][0], abs=1e-12)
        found = [simulate.restricted(simulate.isotonic(side), setting.grid, levels[c]) for side in sides]
        d[c] = [found[0][0].mean(axis=-1) - values.mean(axis=-1) for values, _ in found[1:]]
        for arm in range(ARMS):
            one = compare(runs(setting, sides[0][0]), runs(setting, sides[1 + arm][0]), band.levels, TAU)
            assert one.censored == pytest.approx((found[0][1].mean(), found[1 + arm][1].mean()))
            arms[str(arm)][f"d/{c}"] = one
    pooled = pool(arms, [f"d/{c}" for c in range(simulate.CELLS) if not usable[c][0]])
    mean, half = simulate.intervals(d, np.array(usable), 0.05 / ARMS)
    for arm in range(ARMS) if np.any(usable) else ():
        ends = [mean[arm, 0], mean[arm, 0] - half[arm, 0], mean[arm, 0] + half[arm, 0]]
        shown = pooled[str(arm)]
        assert np.log([shown.speedup, shown.low, shown.high]) == pytest.approx(ends, abs=1e-9)


def test_a_small_study_holds_and_a_wrong_interval_would_not(tmp_path: Path) -> None:
    chosen = [one for one in settings() if one.name == "reference" or one.finding]
    kept = {one.finding: one for one in chosen}
    rows = pd.DataFrame([row for one in kept.values() for row in study(one, 150, 1, 1000)])
    powers = pd.DataFrame([power(1, 0.05, 0.1, 2000, 0)])
    looks = pd.DataFrame([row for one in sequential()[:2] for row in decided(one, 150, 0)])
    assert rows.cell.between(0.75, 1).all() and rows.pairs.tolist() == [3, 6, 12] * len(kept)
    write(tmp_path / "page.md", rows.assign(cell=0.95, pooled=0.95, unusable=0.0), powers, looks, 150)
    text = (tmp_path / "page.md").read_text()
    assert "| NO |" not in text and text.count("| yes |") == 17
    assert (tmp_path / "page.svg").stat().st_size and len(pd.read_csv(tmp_path / "page.csv")) == len(rows)
    assert not write(tmp_path / "page.md", rows.assign(cell=0.90), powers, looks, 150)
    assert not expectations(rows.assign(false_1=0.2), powers, looks, 150).holds.all()
    assert not expectations(rows, powers, looks.assign(right=0.9), 150).holds.iloc[-1]


def test_suites_that_end_where_they_are_decided_are_right_and_need_fewer_pairs() -> None:
    small, large = (pd.DataFrame(decided(one, 400, 1)) for one in (sequential()[0], sequential()[4]))
    assert small.arms.tolist() == [1, 2, 3, 4] and large.speedup.eq(1.5).all()
    for rows in (small, large):
        assert rows.false.max() <= 0.03 and rows.right.min() >= 0.95 and rows.verdicts.min() > 0.99
    assert (small.pairs < small.fixed).all() and small.pairs.is_monotonic_increasing and large.pairs.max() < 6.1


def test_the_same_seed_gives_the_same_numbers() -> None:
    one = settings()[0]
    assert study(one, 20, 3, 500) == study(one, 20, 3, 500) != study(one, 20, 4, 500)


@pytest.mark.parametrize(
    ("word", "wrong", "right"),
    [
        ("faster", 1.01, 1.03),
        ("slower", 0.99, 0.9),
        ("equivalent", 1.11, 1.05),
        ("stronger", 1.5, 1.6),
        ("weaker", 1.5, 1.2),
        ("weaker", 1.0, 1.2),
        ("supported", 1.0, 1.5),
        ("contradicted", 1.05, 1.0),
        ("excluded", 1.6, 1.4),
    ],
)
def test_what_a_false_word_is(word: str, wrong: float, right: float) -> None:
    assert is_false(word, math.log(wrong)) and not is_false(word, math.log(right))
    assert not is_false("inconclusive", 0.0)


def comparison(arm: list[float], baseline: list[float]) -> Comparison:
    images = np.geomspace(0.1 * TAU, TAU, 30)
    sides = [[Curve(s, images, (images / TAU / t) ** -0.5) for s, t in enumerate(times)] for times in (baseline, arm)]
    return compare(sides[0], sides[1], np.geomspace(0.4**-0.5, 0.8**-0.5, 9), TAU)


def test_a_comparison_that_looks_like_a_finding_is_told_so() -> None:
    usual = [0.9, 0.95, 1.0, 1.05, 1.1, 1.0]
    assert resembles(comparison(usual[::-1], usual)) == []
    assert resembles(comparison([*usual[:5], 9.0], usual)) == [FAILING, SPREAD]
    assert resembles(comparison(usual, [t * 1.9 for t in usual])) == [SHORT]
    assert resembles(comparison([t**4 for t in usual], usual)) == [SPREAD]
    assert resembles(comparison([1.0], [1.0])) == resembles(comparison([], [])) == []
    assert all(f"{100 * one.coverage[0]:.0f} to" in one.sentence for one in FINDINGS)
    assert {one.finding for one in settings()} == {"", *(one.key for one in FINDINGS)}
