"""The target band of each cell: derived from its pilots, frozen in protocol.json before the first comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports.analysis.curves import Curve, fit, log_times
from reports.records.reading import PROTOCOL

LEVELS = 9  # evenly spaced in log distance
TOP, BOTTOM = 0.4, 0.8  # parts of the budget at which the pilots' fit gives the band's ends
NARROWEST = 1.1  # smallest usable top / bottom


@dataclass(frozen=True)
class Band:
    """The target band of a cell, as in protocol.json. Without a fit of the pilots the numbers are None, lists empty."""

    pilots: list[str]  # runs that it was derived from
    levels: list[float]  # distances, largest first
    images: list[float]  # where the pilots' fit reaches them
    top: float | None  # largest level
    bottom: float | None  # smallest level
    first: float | None  # first planned evaluation, images
    budget: float  # images
    noise_sd: float | None  # standard deviation of one evaluation's log distance over sampling seeds
    floor_ratio: float | None  # smallest speedup that can be read: exp of the mean of log(images / budget)
    usable: bool  # whether the cell enters pooled numbers
    reason: str | None  # why it does not


def derive(results: Sequence[Mapping[str, Any]], looks: Sequence[int] = ()) -> dict[str, Any]:
    """The content of protocol.json from the pilots' results, as result.json holds them: a `Band` for each cell; and
    the looks of a suite that gives some.

    Keys used: run, dataset, backbone, budget, seed, status, evaluations, noise. Whatever the pilots measured, this
    raises nothing: a cell without a usable band says so, with its reason.
    """
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        cells.setdefault(f"{result['dataset']}/{result['backbone']}", []).append(result)
    found = {}
    for name, those in cells.items():
        sd, names = noise([one.get("noise") or [] for one in those]), [one["run"] for one in those]
        found[name] = asdict(derive_band([curve(one) for one in those], float(those[0]["budget"]), sd, names))
    return {"version": PROTOCOL, "cells": found} | ({"looks": list(looks)} if looks else {})


def curve(result: Mapping[str, Any]) -> Curve:
    """The curve of one result.json. An unfinished run is missing."""
    points = {float(one["images"]): float(one["fid"]) for one in reversed(result["evaluations"])}
    images = sorted(x for x in points if 0 < x < math.inf)
    status = result["status"] if result["status"] in ("complete", "diverged") else "missing"
    return Curve(result["seed"], images, [points[x] for x in images], status)


def derive_band(pilots: Sequence[Curve], budget: float, noise_sd: float, names: Sequence[str] = ()) -> Band:
    """One cell's band; noise_sd: of one evaluation's log distance, nan if not measured; names: the pilots' runs."""
    first = min((float(one.points[0][0]) for one in pilots if len(one.points[0])), default=None)
    sd = noise_sd if math.isfinite(noise_sd) else None
    done = [one for one in pilots if one.status == "complete"]
    tables = [{x: y for x, y in zip(*one.points, strict=True) if 0 < y < math.inf} for one in done]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    if len(shared) < 2:
        reason = "the finished pilots share fewer than two evaluations with a positive, finite distance"
        return Band(list(names), [], [], None, None, first, budget, sd, None, False, reason)
    logs = np.mean([[math.log(one[x]) for x in shared] for one in tables], axis=0)
    grid, fitted = fit(np.array(shared), np.exp(logs))
    top, bottom = np.exp(np.interp(np.log(np.array([TOP, BOTTOM]) * budget), np.log(grid), fitted)).tolist()
    levels = np.geomspace(top, bottom, LEVELS)
    times = log_times([Curve(0, grid, np.exp(fitted))], levels, float(grid[0]), budget).values[0]
    late = len(pilots) - int((~log_times(done, bottom, 1.0, budget).censored).sum())
    floor_ratio, least = math.exp(float(np.mean(times)) - math.log(budget)), max(math.exp(3 * (sd or 0.0)), NARROWEST)
    reason = ""
    if late >= min(2, len(pilots)):
        reason = f"{late} of {len(pilots)} pilots do not reach the band's bottom within the budget"
    elif top / bottom < least:
        reason = f"the band is too narrow: its top is {top / bottom:.3f} times its bottom, and {least:.3f} is needed"
    numbers = (levels.tolist(), np.exp(times).tolist(), top, bottom, first, budget, sd, floor_ratio)
    return Band(list(names), *numbers, not reason, reason or None)


def noise(repeats: Sequence[Sequence[Any]]) -> float:
    """Standard deviation of log distance over sampling seeds, pooled over pilots, one list each. nan if none."""
    logs = [np.log([float(x) for x in those if 0 < float(x) < math.inf]) for those in repeats]
    logs = [those for those in logs if len(those) > 1]
    freedom = sum(len(those) - 1 for those in logs)
    return math.sqrt(sum(((those - those.mean()) ** 2).sum() for those in logs) / freedom) if freedom else math.nan
