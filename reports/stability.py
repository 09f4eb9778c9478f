"""What the probes of a suite say: norms over training, growth with depth, responses, gates, and the theory beside them.

The predictions: sum_j kappa_j^2 for norms and gradients (Theorems 3.1 and 3.2), and for the response to the input the bound
sum_j kappa_j M0^j + L0 M0^N (Theorem 4.1) at M0 = L0 = 1, since the constants of a trained network are not known. Over seeds,
numbers are geometric means. Growth: the exponent p of ||h|| ~ N^p, N the number of long skips, as the least-squares slope of
log ||h|| on log N over the cells of one family of backbones, a slope per seed, with a t interval over the seeds: of the shallowest
decoder block, which the theorem bounds by the sum over all skips, at the first step, which has the initial weights, and over the
second half of training; and of the mean over the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from reports import stats
from reports.records.reading import WINDOW, number
from reports.records.suite_records import Records

QUANTITIES = ("feature_norm", "feature_oscillation", "feature_oscillation_relative", "feature_oscillation_detrended", "gradient_norm",
              "gradient_oscillation", "gradient_oscillation_relative", "gradient_oscillation_detrended", "update_ratio", "input_sensitivity")
LEAST_DEPTHS = 2  # for an exponent: a slope per seed; the interval is over seeds


def stability(records: Records) -> dict[str, Any] | None:
    """The section of report.json; None for a suite without probes."""
    found = [(cell, method, runs) for cell in records.cells for method, runs in _alike(records, cell).items()]
    if not found:
        return None
    rows = [_row(*one) for one in found]
    families = list(dict.fromkeys(family(row["cell"]) for row in rows))
    growths = [one for name in families for method in records.suite["arms"] if (one := _growth(records, rows, name, method))]
    ranks = _ranks(rows)
    return {"series": [series for one in found if (series := _series(*one))], "rows": rows, "growth": growths, "rank": ranks, "rank_means": _rank_means(ranks),
            "response": [level for one in found for level in _response(*one)], "gates": [gate for one in found for gate in _gates(*one)]}


def family(cell: str) -> str:
    """uvit or unet, with the dataset: the cells among which only the depth differs."""
    dataset, _, backbone = cell.partition("/")
    return f"{dataset}/{backbone.partition('-')[0]}"


def measured(records: Records, cell: str, method: str) -> list[dict]:
    """The paired runs of an arm that came to the end and measured themselves."""
    return [m["record"] for m in records.members(cell, "paired", method)
            if m["record"] and m["record"]["status"] == "complete" and m["record"].get("stability")]


def _alike(records: Records, cell: str) -> dict[str, list[dict]]:
    """The measured runs of each arm of a cell, over the seeds that all arms with runs have: other seeds would differ, not the arms."""
    found = {method: runs for method in records.suite["arms"] if (runs := measured(records, cell, method))}
    common = set.intersection(*({run["seed"] for run in runs} for runs in found.values())) if found else set()
    return {method: [run for run in runs if run["seed"] in common] for method, runs in found.items()} if common else found


def value(record: dict, probe: str) -> float:
    """The last value of a one-number probe of a run; nan if it has none."""
    values = [number(p["value"]) for p in record.get("probes", []) if p["probe"] == probe]
    return values[-1] if values else math.nan


def shallowest(record: dict) -> float:
    """||h_0||, the norm that Theorem 3.1 bounds: of the shallowest decoder block. The mean over blocks falls with N under `constant` by itself."""
    blocks = next((p["blocks"] for p in record.get("probes", []) if p["probe"] == "feature_norm" and p.get("blocks")), [math.nan])
    return number(blocks[0])


def at_start(record: dict) -> float:
    """The same at the initial weights; nan for a run whose first step was not probed."""
    found = record["stability"]
    return number(found["feature"][0]) if found["images"][0] == record["spec"]["batch"] else math.nan


# Whose growth: of the shallowest block over the second half and at the start, and of the mean over blocks.
GROWING: dict[str, Callable[[dict], float]] = {"late": shallowest, "start": at_start, "mean": lambda record: value(record, "feature_norm")}


def _short(values: Iterable[float]) -> list[float]:
    """Five digits: what a figure shows."""
    return [float(f"{value:.5g}") for value in values]


def _mean(values: Sequence[float]) -> float:
    """The geometric mean; nan if one is not positive."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if all(value > 0 for value in values) else math.nan


def _row(cell: str, method: str, runs: list[dict]) -> dict[str, Any]:
    kappas = runs[0]["start"].get("kappas")
    shares = np.array([run["stability"]["shares"] for run in runs if run["stability"]["shares"]])
    return {"cell": cell, "method": method, "skips": runs[0]["start"].get("skips"), "n": len(runs), "runs": [run["run"] for run in runs],
            "sum_squares": math.fsum(kappa**2 for kappa in kappas) if kappas else None,
            "bound": math.fsum(kappas) + 1 if kappas else None,
            "kappas": kappas, "blocks": {name: _blocks(runs, name) for name in ("feature", "gradient")},
            "loss_spikes": float(np.mean([value(run, "loss_spikes") for run in runs])), "largest_spike": max(map(_spike, runs)),
            "shares": shares.mean(0).tolist() if len(shares) else [], "feature_start": _mean([at_start(run) for run in runs]),
            "feature_shallowest": _mean([shallowest(run) for run in runs]), **{q: _mean([value(run, q) for run in runs]) for q in QUANTITIES}}


def _spike(run: dict) -> float:
    """The largest; 1 without one."""
    return max((number(p.get("largest", 1.0)) for p in run.get("probes", []) if p["probe"] == "loss_spikes"), default=1.0)


def _blocks(runs: list[dict], name: str) -> dict[str, list[float]]:
    """Norm and oscillation of each block, geometric means over seeds; features: shallowest decoder block first, gradients:
    encoder, middle and decoder, each shallowest first. Empty where a run has none, or one that is not finite."""
    found = {}
    for key in ("norm", "oscillation"):
        those = np.array([p["blocks"] for run in runs for p in run.get("probes", []) if p["probe"] == f"{name}_{key}" and p.get("blocks")], dtype=float)
        whole = len(those) == len(runs) and np.isfinite(those).all()
        found[key] = _short(np.exp(np.log(np.maximum(those, 1e-30)).mean(0))) if whole else []
    return found


def _series(cell: str, method: str, runs: list[dict]) -> dict[str, Any] | None:
    """||h|| of the shallowest decoder block and the gradient's norm over training: mean, least and largest over seeds and
    over a window of WINDOW points around each. Runs with a norm that is not finite are left out; None without others."""
    finite = [run["stability"] for run in runs if all(0 < number(v) < math.inf for name in ("feature", "gradient") for v in run["stability"][name])]
    if not finite:
        return None
    images = finite[0]["images"]
    same = [one for one in finite if one["images"] == images]
    found: dict[str, Any] = {"cell": cell, "method": method, "images": images}
    for name in ("feature", "gradient"):
        values = np.array([one[name] for one in same])
        windows = [values[:, max(0, i - WINDOW // 2):i + WINDOW // 2 + 1] for i in range(len(images))]
        found[name] = {"mean": _short([np.exp(np.log(w).mean()) for w in windows]),
                       "low": _short([w.min() for w in windows]), "high": _short([w.max() for w in windows])}
    return found


def exponents(records: Records, name: str, method: str, growing: str = "late") -> dict[int, float]:
    """Seed to exponent, over the cells of a family; seeds that miss a cell are left out. growing: late, start or mean."""
    points: dict[int, list[tuple[int, float]]] = {}
    cells = [cell for cell in records.cells if family(cell) == name]
    for cell in cells:
        for run in measured(records, cell, method):
            if run["start"].get("skips") and 0 < (norm := GROWING[growing](run)) < math.inf:
                points.setdefault(run["seed"], []).append((run["start"]["skips"], norm))
    return {seed: _slope(those) for seed, those in sorted(points.items())
            if len(those) == len(cells) and len({skips for skips, _ in those}) >= LEAST_DEPTHS}


def _slope(points: Sequence[tuple[int, float]]) -> float:
    """Of log value on log N."""
    return float(np.polyfit(*np.log(np.array(points, dtype=float)).T, 1)[0])


def _growth(records: Records, rows: Sequence[dict], name: str, method: str) -> dict[str, Any] | None:
    found = {growing: list(exponents(records, name, method, growing).values()) for growing in GROWING}
    if not found["late"]:
        return None
    mine = [row for row in rows if family(row["cell"]) == name and row["method"] == method]
    predicted = [(row["skips"], math.sqrt(row["sum_squares"])) for row in mine if row["sum_squares"]]
    points = {key: sorted([row["skips"], row[key]] for row in mine if row[key] > 0) for key in ("feature_shallowest", "feature_start")}
    return {"family": name, "method": method, "n": len(found["late"]), **_over_seeds(found["late"]),
            "start": _over_seeds(found["start"]), "mean": _over_seeds(found["mean"]), "predicted": _slope(predicted) if predicted else None,
            "points": points["feature_shallowest"], "start_points": points["feature_start"]}


def _over_seeds(found: list[float]) -> dict[str, float]:
    interval = stats.paired(found)[0] if len(found) > 1 else stats.Interval(found[0] if found else math.nan, math.nan, math.nan)
    return {"exponent": interval.value, "low": interval.low, "high": interval.high}


# Which prediction each quantity is set beside.
PREDICTED = {"feature_start": "sum_squares", "feature_shallowest": "sum_squares", "feature_oscillation": "sum_squares",
             "gradient_oscillation": "sum_squares", "input_sensitivity": "bound"}


def _ranks(rows: Sequence[dict]) -> list[dict[str, Any]]:
    """Spearman's correlation, over the arms of a cell, of the theory's predictions with what was measured.

    Of each block: over arms and decoder blocks i, of sum_{j=i..N} kappa_j^2 with the norm of block i (Theorem 3.1).
    """
    found = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        those = [row for row in rows if row["cell"] == cell and row["sum_squares"] is not None]
        for quantity, predicted in PREDICTED.items():
            values = [row[quantity] for row in those]
            if len(those) >= 3 and np.isfinite(values).all() and len(set(values)) > 1:
                rho = float(scipy_stats.spearmanr([row[predicted] for row in those], values).statistic)
                found.append({"cell": cell, "quantity": quantity, "rho": rho, "arms": len(those)})
        if len(those) >= 3 and all(len(row["blocks"]["feature"]["norm"]) == len(row["kappas"]) for row in those):
            predicted = [math.fsum(kappa**2 for kappa in row["kappas"][i:]) for row in those for i in range(len(row["kappas"]))]
            values = [norm for row in those for norm in row["blocks"]["feature"]["norm"]]
            found.append({"cell": cell, "quantity": "feature_norm_of_each_block", "rho": float(scipy_stats.spearmanr(predicted, values).statistic),
                          "arms": len(those)})
    return found


def _rank_means(ranks: Sequence[dict]) -> list[dict[str, Any]]:
    """Of each quantity over the cells."""
    found: dict[str, list[float]] = {}
    for one in ranks:
        found.setdefault(one["quantity"], []).append(one["rho"])
    return [{"quantity": quantity, "rho": math.fsum(those) / len(those), "cells": len(those)} for quantity, those in found.items()]


def _response(cell: str, method: str, runs: list[dict]) -> list[dict[str, Any]]:
    levels = [run["stability"]["levels"] for run in runs if run["stability"]["levels"]]
    return [{"cell": cell, "method": method, "t": level[0]["t"], **{kind: _mean([one[kind] for one in level]) for kind in ("random", "worst")},
             **{f"worst_{end}": pick([one["worst"] for one in level]) for end, pick in (("low", min), ("high", max))}}
            for level in zip(*levels, strict=True)]


def _gates(cell: str, method: str, runs: list[dict]) -> list[dict[str, Any]]:
    """The gates of a learnt method over training: 10, 50 and 90 % of each skip's, means over seeds."""
    gates = [run["stability"]["gates"] for run in runs if run["stability"]["gates"]]
    images = [point["images"] for point in gates[0]] if gates else []
    same = np.array([[point["skips"] for point in one] for one in gates if [point["images"] for point in one] == images])
    return [{"cell": cell, "method": method, "skip": i + 1, "images": images,
             **{key: _short(values) for key, values in zip(("low", "middle", "high"), skip.T, strict=True)}}
            for i, skip in enumerate(same.mean(0).transpose(1, 0, 2) if len(same) else [])]
