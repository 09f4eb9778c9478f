"""Targets from pilots: frozen before the first comparison run, with their derivation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reports.crossing import Curve, fit, mean_log
from reports.records.reading import PROTOCOL, number

AT = 0.6  # the target is what the pilots reach at this fraction of the budget
LADDER = (0.2, 0.4, 0.6, 0.8)
STEEP, WITHIN = 0.05, 1.25  # a usable target: the fit falls by 5 % on each side within a factor 1.25 of images
TOO_SMALL, FLAT = "budget too small", "flat here"


def derive(pilots: Sequence[dict]) -> dict:
    """The content of protocol.json from the pilots' results (as in result.json); holds no clock and no host.

    ValueError, one line, without pilots.
    """
    if not pilots:
        raise ValueError("pilots: none given; a target is what at least one pilot run of the baseline reaches")
    cells: dict[str, list[dict]] = {}
    for result in pilots:
        cells.setdefault(f"{result['dataset']}/{result['backbone']}", []).append(result)
    return {"version": PROTOCOL, "suite": pilots[0]["suite"], "cells": {name: cell(runs) for name, runs in cells.items()}}


def curve(result: dict, seed: int | None = None) -> Curve:
    """The curve of a result; `seed` replaces its own where it belongs to another's pair. Unfinished runs are missing."""
    # An evaluation counted twice fails its gate; here each count of images stands once, so that the report can say so.
    evaluations = sorted({e["images"]: e for e in reversed(result["evaluations"])}.values(), key=lambda e: e["images"])
    status = result["status"] if result["status"] in ("complete", "diverged") else "missing"
    return Curve(result["seed"] if seed is None else seed, [e["images"] for e in evaluations],
                 [number(e["fid"]) for e in evaluations], status)


def cell(runs: Sequence[dict]) -> dict:
    """One cell's entry: the target, the ladder, and what they were read from."""
    tau = runs[0]["budget"]
    curves = [curve(run) for run in runs]
    images, fid = mean_log([c for c in curves if c.status == "complete"])
    entry: dict = {"tau": tau, "target": None, "label": "", "flat": False, "pilots": [run["run"] for run in runs],
                   "crossings": [None] * len(runs), "fit": {"images": [], "fid": []}, "ladder": []}
    if len(images) < 2:
        return entry | {"label": TOO_SMALL}
    grid, fitted = fit(images, fid)
    target, flat = rung(grid, fitted, AT * tau)
    crossings = [c.crossing(target, tau) for c in curves]
    reached = all(c.status == "reached" for c in crossings)
    return entry | {
        "target": target, "flat": flat, "label": TOO_SMALL if not reached else FLAT if flat else "",
        "crossings": [c.images if math.isfinite(c.images) else None for c in crossings],
        "fit": {"images": grid.astype(int).tolist(), "fid": np.exp(fitted).tolist()},
        "ladder": [dict(zip(("fraction", "target", "flat"), (f, *rung(grid, fitted, f * tau)), strict=True)) for f in LADDER],
    }


def rung(images: NDArray, fitted: NDArray, at: float) -> tuple[float, bool]:
    """The fit's distance at `at` images, and whether the fit is flat there. images (n,), fitted: log distance (n,)."""
    before, here, after = (float(np.interp(math.log(at * factor), np.log(images), fitted)) for factor in (1 / WITHIN, 1.0, WITHIN))
    fall = -math.log1p(-STEEP) * (1 - 1e-9)  # exactly 5 % is enough
    return math.exp(here), bool(before - here < fall or here - after < fall)
