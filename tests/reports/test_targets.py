"""Targets from pilots."""

import numpy as np
import pytest
from synthetic import IMAGES, TAU, config, distances, events

from reports.reading import summarize
from reports.targets import derive


def pilots(curves, status="complete"):
    return [summarize(c := config("pilot", "none", 100 + i, None), events(c, fid, status if i == 0 else "complete")) for i, fid in enumerate(curves)]


def test_the_target_is_what_the_pilots_reach_at_three_fifths():
    rng = np.random.default_rng(0)
    cell = derive(pilots([distances(1.0, rng, 0.0)] * 3))["cells"]["digits/uvit-xs"]
    assert cell["target"] == pytest.approx(100 / 0.6) and cell["label"] == "" and not cell["flat"]
    assert [r["target"] for r in cell["ladder"]] == pytest.approx([100 / f for f in (0.2, 0.4, 0.6, 0.8)])
    assert cell["crossings"] == pytest.approx([0.6 * TAU] * 3) and cell["tau"] == TAU


def test_pilots_are_averaged_in_logs():
    cell = derive(pilots([distances(s, np.random.default_rng(0), 0.0) for s in (0.9, 1.0, 1 / 0.9)]))["cells"]["digits/uvit-xs"]
    assert cell["target"] == pytest.approx(100 / 0.6)


def test_a_pilot_that_does_not_reach_it_makes_the_budget_too_small():
    rng = np.random.default_rng(0)
    cell = derive(pilots([distances(s, rng, 0.0) for s in (1.5, 1.5, 0.5)]))["cells"]["digits/uvit-xs"]
    assert cell["label"] == "budget too small" and None in cell["crossings"]
    diverged = derive(pilots([distances(1.0, rng, 0.0)] * 3, "diverged"))["cells"]["digits/uvit-xs"]
    assert diverged["label"] == "budget too small"


def test_a_flat_fit_is_flat_here():
    """Falls by 2 % per doubling: under 5 % within a factor 1.25."""
    fid = 100 * (IMAGES / TAU) ** -0.03
    assert derive(pilots([fid] * 3))["cells"]["digits/uvit-xs"]["label"] == "flat here"
    steep_then_flat = np.maximum(100 * (IMAGES / TAU) ** -1.0, 200.0)
    cell = derive(pilots([steep_then_flat] * 3))["cells"]["digits/uvit-xs"]
    assert [r["flat"] for r in cell["ladder"]] == [False, False, True, True]  # at 40 % it still falls, to 50 %


def test_a_target_holds_no_clock_and_no_host():
    text = str(derive(pilots([distances(1.0, np.random.default_rng(0), 0.0)] * 3)))
    assert "time" not in text and "host" not in text
