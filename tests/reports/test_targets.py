"""Targets from pilots."""

import numpy as np
import pytest
from synthetic import IMAGES, TAU, config, distances, events

from reports.records.reading import summarize
from reports.targets import derive


def pilots(curves, status="complete"):
    configs = [config("pilot", "none", 100 + i, None) for i in range(len(curves))]
    return [summarize(c, events(c, fid, "complete" if i else status)) for i, (c, fid) in enumerate(zip(configs, curves, strict=True))]


def cell_of(curves, status="complete"):
    return derive(pilots(curves, status))["cells"]["digits/uvit-xs"]


def test_the_target_is_what_the_pilots_reach_at_three_fifths():
    cell = cell_of([distances(1.0, np.random.default_rng(0), 0.0)] * 3)
    assert cell["target"] == pytest.approx(100 / 0.6) and cell["label"] == "" and not cell["flat"]
    assert [r["target"] for r in cell["ladder"]] == pytest.approx([100 / f for f in (0.2, 0.4, 0.6, 0.8)])
    assert cell["crossings"] == pytest.approx([0.6 * TAU] * 3) and cell["tau"] == TAU
    assert cell["fit"]["images"] == IMAGES.tolist() and cell["fit"]["fid"] == pytest.approx((100 * TAU / IMAGES).tolist())


def test_pilots_are_averaged_in_logs():
    curves = [distances(s, np.random.default_rng(0), 0.0) for s in (0.9, 1.0, 1 / 0.9)]
    assert cell_of(curves)["target"] == pytest.approx(100 / 0.6)


def test_a_pilot_that_does_not_reach_it_makes_the_budget_too_small():
    rng = np.random.default_rng(0)
    cell = cell_of([distances(s, rng, 0.0) for s in (1.5, 1.5, 0.5)])
    assert cell["label"] == "budget too small" and None in cell["crossings"] and cell["target"] > 0
    assert cell_of([distances(1.0, rng, 0.0)] * 3, "diverged")["label"] == "budget too small"


def test_pilots_that_measured_nothing_give_no_target():
    cell = cell_of([np.full(len(IMAGES), np.nan)] * 3)
    assert (cell["target"], cell["label"], cell["ladder"]) == (None, "budget too small", [])


def test_a_flat_fit_is_flat_here():
    """A distance as images^-b falls by 1 - 1.25^-b within a factor 1.25: 5 % at b = .2299."""
    assert cell_of([100 * (IMAGES / TAU) ** -0.03] * 3)["label"] == "flat here"
    assert cell_of([100 * (IMAGES / TAU) ** -0.22] * 3)["flat"] and not cell_of([100 * (IMAGES / TAU) ** -0.24] * 3)["flat"]
    steep_then_flat = np.maximum(100 * (IMAGES / TAU) ** -1.0, 200.0)
    ladder = cell_of([steep_then_flat] * 3)["ladder"]
    assert [r["flat"] for r in ladder] == [False, False, True, True]  # at 40 % it still falls, to 50 %


def test_a_distance_that_rises_before_it_falls_has_flat_rungs():
    hump = np.where(IMAGES < 0.3 * TAU, 300.0 * (IMAGES / TAU) ** 0.2, 70 * (IMAGES / TAU) ** -1.0)
    ladder = cell_of([hump] * 3)["ladder"]
    assert ladder[0]["flat"] and not ladder[2]["flat"]


def test_noisy_pilots_reach_their_own_target_almost_always():
    """Speeds log-normal with sigma 0.2, 1 % noise: at most a few in a hundred cells fail by chance."""
    rng = np.random.default_rng(1)
    speeds = np.exp(0.2 * rng.standard_normal((150, 3)))
    labels = [cell_of([distances(speed, rng) for speed in row])["label"] for row in speeds]
    assert sum(label != "" for label in labels) <= 3


def test_a_target_holds_no_clock_and_no_host():
    text = str(derive(pilots([distances(1.0, np.random.default_rng(0), 0.0)] * 3)))
    assert "time" not in text and "host" not in text


def test_no_pilots_is_one_line():
    with pytest.raises(ValueError, match="pilots: none given"):
        derive([])
