"""The band from pilots: where it lies, when it is unusable, and that nothing in a pilot's result stops it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from power_law import BAND, IMAGES, TAU, curve

from reports.analysis.bands import derive
from reports.analysis.curves import Array


def result(
    seed: int, fid: Sequence[Any] | Array, status: str = "complete", noise: Sequence[float] = ()
) -> dict[str, Any]:
    evaluations = [{"images": int(i), "fid": f, "seconds": 1.0} for i, f in zip(IMAGES, fid, strict=False)]
    those = {"run": f"pilot-{seed}", "dataset": "digits", "backbone": "unet-xs", "budget": int(TAU), "seed": seed}
    return those | {"status": status, "evaluations": evaluations, "noise": list(noise)}


def cell(*times: float, status: str = "complete", noise: Sequence[float] = ()) -> dict[str, Any]:
    runs = [result(100 + i, curve(0, t).points[1], status if not i else "complete", noise) for i, t in enumerate(times)]
    found: dict[str, Any] = derive(runs)["cells"]["digits/unet-xs"]
    return found


def test_the_band_reaches_from_two_fifths_to_four_fifths_of_the_budget() -> None:
    found = cell(0.9, 1.0, 1 / 0.9)  # their mean log distance is that of time 1
    assert found["levels"] == pytest.approx(BAND, rel=1e-4)  # the recorded images are whole numbers
    assert found["images"] == pytest.approx(TAU * np.geomspace(0.4, 0.8, 9), rel=1e-4)
    assert (found["top"], found["bottom"]) == (found["levels"][0], found["levels"][-1])
    assert (found["usable"], found["reason"], found["first"], found["budget"]) == (True, None, 2048, TAU)
    assert found["floor_ratio"] == pytest.approx(math.sqrt(0.4 * 0.8), rel=1e-4)
    assert found["pilots"] == ["pilot-100", "pilot-101", "pilot-102"]


def test_one_late_pilot_is_no_reason_but_two_are() -> None:
    assert cell(1.4, 0.9, 0.9)["usable"]
    late = cell(1.5, 1.5, 0.5)
    assert not late["usable"] and late["reason"].startswith("2 of 3 pilots do not reach")
    assert not cell(1.4, 1.0, 1.0, status="diverged")["reason"]  # the finished two give the band; one is late
    assert not cell(1.0, status="diverged")["usable"]


def test_a_band_narrower_than_the_noise_of_an_evaluation_is_unusable() -> None:
    noisy = [100.0, 115.0, 100.0, 115.0]  # a standard deviation of .081: exp(3 s) = 1.27; the band is 1.41 wide
    assert cell(1.0, 1.0, 1.0, noise=noisy)["usable"]
    assert cell(1.0, 1.0, 1.0, noise=noisy)["noise_sd"] == pytest.approx(np.log(1.15) / math.sqrt(3))
    assert "too narrow" in cell(1.0, 1.0, 1.0, noise=[100.0, 140.0])["reason"]


def test_a_flat_cell_is_unusable() -> None:
    runs = [result(i, [50.0] * 30) for i in range(3)]
    assert "too narrow" in derive(runs)["cells"]["digits/unet-xs"]["reason"]


@pytest.mark.parametrize("fid", [["nan"] * 30, ["inf"] * 30, [0.0] * 30, [], [3.0], [-1.0, "nan", 2.0]])
def test_odd_pilots_make_a_cell_unusable_and_stop_nothing(fid: list[Any]) -> None:
    for status in ("complete", "diverged", "failed"):
        found = derive([result(i, fid, status) for i in range(3)])["cells"]["digits/unet-xs"]
        assert not found["usable"] and found["reason"]
        json.dumps(found, allow_nan=False)


def test_an_evaluation_counted_twice_and_out_of_order_counts_once() -> None:
    runs = [result(i, curve(0).points[1]) for i in range(3)]
    odd = [run | {"evaluations": [*run["evaluations"][::-1], run["evaluations"][4]]} for run in runs]
    assert derive(odd) == derive(runs)


def test_the_content_has_its_version_and_a_cell_each() -> None:
    other = [result(i, curve(0).points[1]) | {"backbone": "uvit-xs"} for i in range(3)]
    found = derive([*other, result(7, curve(0).points[1])])
    assert found["version"] == 2 and list(found["cells"]) == ["digits/uvit-xs", "digits/unet-xs"]
    assert derive([]) == {"version": 2, "cells": {}}
