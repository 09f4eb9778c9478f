"""The target band of each cell: derived from its pilots, frozen in protocol.json before the first comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.analysis.curves import Array, Curve, fit, log_times

VERSION = 2  # of the measurement protocol
LEVELS = 9  # evenly spaced in log distance
TOP, BOTTOM = 0.4, 0.8  # parts of the budget at which the pilots' fit gives the band's ends
NARROWEST = 1.1  # smallest usable top / bottom

Cell = dict[str, Any]


def derive(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of protocol.json from the pilots' results, as result.json holds them; a cell's keys: `derive_cell`.

    Keys used: run, dataset, backbone, budget, seed, status, evaluations, noise. Whatever the pilots measured, this
    raises nothing: a cell without a usable band says so, with its reason.
    """
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        cells.setdefault(f"{result['dataset']}/{result['backbone']}", []).append(result)
    return {"version": VERSION, "cells": {name: _from_results(those) for name, those in cells.items()}}


def curve(result: Mapping[str, Any], seed: int | None = None) -> Curve:
    """The curve of one result.json; `seed` replaces its own if its pair has another. An unfinished run is missing."""
    points = {float(one["images"]): float(one["fid"]) for one in reversed(result["evaluations"])}
    images = sorted(x for x in points if 0 < x < math.inf)
    status = result["status"] if result["status"] in ("complete", "diverged") else "missing"
    return Curve(result["seed"] if seed is None else seed, images, [points[x] for x in images], status)


def derive_cell(pilots: Sequence[Curve], budget: float, noise_sd: float) -> Cell:
    """One cell's band.

    levels (9,): distances, largest first. images (9,): where the pilots' fit reaches them. top, bottom: their ends.
    first: the first evaluation, in images. noise_sd: of one evaluation's log distance; give nan if not measured.
    floor_ratio: exp of the mean of log(images / budget), the smallest speedup that can be read. usable, reason.
    Without a fit the numbers are None and the lists empty.
    """
    first = min((float(one.points[0][0]) for one in pilots if len(one.points[0])), default=None)
    cell: Cell = {"levels": [], "images": [], "top": None, "bottom": None, "first": first, "budget": budget}
    cell |= {"noise_sd": noise_sd if math.isfinite(noise_sd) else None, "floor_ratio": None, "usable": False}
    grid, fitted = fit(*mean_curve([one for one in pilots if one.status == "complete"]))
    if len(grid) < 2:
        return cell | {
            "reason": "the finished pilots share fewer than two evaluations with a positive, finite distance"
        }
    top, bottom = np.exp(np.interp(np.log(np.array([TOP, BOTTOM]) * budget), np.log(grid), fitted))
    levels = np.geomspace(top, bottom, LEVELS)
    times = log_times(Curve(0, grid, np.exp(fitted)), levels, float(grid[0]), budget).values
    late = sum(one.status != "complete" or bool(log_times(one, bottom, 1.0, budget).censored[0]) for one in pilots)
    cell |= {"levels": levels.tolist(), "images": np.exp(times).tolist(), "top": float(top), "bottom": float(bottom)}
    cell["floor_ratio"] = math.exp(float(np.mean(times)) - math.log(budget))
    reason = _unusable(late, len(pilots), float(top / bottom), noise_sd if math.isfinite(noise_sd) else 0.0)
    return cell | {"usable": reason is None, "reason": reason}


def mean_curve(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Images at which all curves have a positive, finite distance (n,), and their geometric mean there (n,)."""
    tables = [{x: y for x, y in zip(*one.points, strict=True) if 0 < y < math.inf} for one in curves]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    logs = np.array([[math.log(one[x]) for x in shared] for one in tables]).reshape(len(tables), len(shared))
    return np.array(shared, dtype=float), np.exp(logs.mean(axis=0)) if shared else np.array([])


def noise(repeats: Sequence[Sequence[Any]]) -> float:
    """Standard deviation of log distance over sampling seeds, pooled over pilots, one list each. nan if none."""
    logs = [np.log([float(x) for x in those if 0 < float(x) < math.inf]) for those in repeats]
    logs = [those for those in logs if len(those) > 1]
    freedom = sum(len(those) - 1 for those in logs)
    return math.sqrt(sum(((those - those.mean()) ** 2).sum() for those in logs) / freedom) if freedom else math.nan


def _from_results(results: Sequence[Mapping[str, Any]]) -> Cell:
    spread = noise([one.get("noise") or [] for one in results])
    return {"pilots": [one["run"] for one in results]} | derive_cell(
        [curve(one) for one in results], float(results[0]["budget"]), spread
    )


def _unusable(late: int, pilots: int, ratio: float, noise_sd: float) -> str | None:
    """Why a band is not used, or None."""
    if late >= min(2, pilots):
        return f"{late} of {pilots} pilots do not reach the band's bottom within the budget"
    if ratio < (least := max(math.exp(3 * noise_sd), NARROWEST)):
        return f"the band is too narrow: its top is {ratio:.3f} times its bottom, and {least:.3f} is needed"
    return None
