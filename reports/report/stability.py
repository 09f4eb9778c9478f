"""What the probes of a suite say: norms over training, growth with depth, responses, gates, and the theory beside them.

The predictions: sum_j kappa_j^2 for norms and gradients (Theorems 3.1 and 3.2), and for the response to the input the
bound sum_j kappa_j M0^j + L0 M0^N (Theorem 4.1) at M0 = L0 = 1, since the constants of a trained network are not known.
Over seeds, numbers are geometric means. Growth: the exponent p of ||h|| ~ N^p, N the number of long skips, as the slope
of log ||h|| on log N over the cells of one family of backbones, a slope per seed, with a t interval over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

from reports.analysis.comparisons import Interval
from reports.analysis.planning import ALPHA
from reports.records.event_log import number
from reports.records.reading import WINDOW
from reports.records.suite_records import Records, Result
from reports.report.compared import mean_interval
from reports.report.tree import Growth, Line, Probed, line

MEASURES = ("norm", "oscillation", "oscillation_relative")
PROBES = [f"{name}_{what}" for name in ("feature", "gradient") for what in MEASURES]
PROBES += ["update_ratio", "input_sensitivity"]
# Which prediction each quantity is set beside.
PREDICTED = dict.fromkeys(("feature_start", "feature_shallowest", "feature_oscillation"), "sum_squares")
PREDICTED |= {"gradient_oscillation": "sum_squares", "input_sensitivity": "bound"}
EACH_BLOCK = "feature_norm_of_each_block"

Correlations = dict[str, dict[str, float]]  # by cell ("mean": of all) and quantity


def stability(records: Records) -> tuple[list[Probed], list[Growth], Correlations, list[Line]]:
    """What the probes of every arm in every cell say, and what their figures draw; empty for a suite without probes."""
    runs = {
        (cell.name, arm): those for cell in records.suite.cells for arm, those in _alike(records, cell.name).items()
    }
    rows = {key: _row(*key, those) for key, those in runs.items()}
    cells = list(dict.fromkeys(cell for cell, _ in runs))
    growth: list[Growth] = []
    lines = [made for key, those in runs.items() for made in _lines(*key, those)]
    for name in dict.fromkeys(map(family, cells)):
        for method in records.suite.arms:
            mine = [row for row in rows.values() if (family(row.cell), row.method) == (name, method)]
            if found := _growth(records, mine, name, method):
                growth.append(found)
                lines += _grown(found, mine)
    fixed = {cell: [(rows[key], runs[key]) for key in runs if key[0] == cell and rows[key].kappas] for cell in cells}
    correlations = {cell: rho for cell, those in fixed.items() if (rho := _correlations(those))}
    if len(correlations) > 1:
        quantities = dict.fromkeys(name for rho in correlations.values() for name in rho)
        by_quantity = {name: [rho[name] for rho in correlations.values() if name in rho] for name in quantities}
        correlations["mean"] = {name: float(np.mean(values)) for name, values in by_quantity.items()}
    return list(rows.values()), growth, correlations, lines


def family(cell: str) -> str:
    """uvit or unet, with the dataset: the cells among which only the depth differs."""
    dataset, _, backbone = cell.partition("/")
    return f"{dataset}/{backbone.partition('-')[0]}"


def measured(records: Records, cell: str, method: str) -> list[Result]:
    """The paired runs of an arm that came to the end and measured themselves."""
    return [run for run in records.found(cell, "paired", method) if run.status == "complete" and run.stability]


def late(run: Result) -> float:
    """Norm of the shallowest decoder block, which Theorem 3.1 bounds, over the second half of training."""
    return number((_blocks(run, "feature_norm") or [math.nan])[0])


def start(run: Result) -> float:
    """The same at the initial weights; nan for a run whose first step was not probed."""
    found = run.stability or {}
    return number(found["feature"][0]) if found["images"][0] == run.spec["batch"] else math.nan


# Whose growth: of the shallowest block at the start and over the second half, and of the mean over blocks.
GROWING: dict[str, Callable[[Result], float]] = {"start": start, "late": late}
GROWING |= {"mean": lambda run: run.probe("feature_norm")}


def exponents(records: Records, name: str, method: str, growing: str) -> dict[int, float]:
    """Seed to exponent, over the cells of a family; seeds that miss a cell are left out, and so is a single depth."""
    points: dict[int, list[tuple[int, float]]] = {}
    cells = [cell.name for cell in records.suite.cells if family(cell.name) == name]
    for run in (run for cell in cells for run in measured(records, cell, method)):
        if run.start.get("skips") and 0 < (norm := GROWING[growing](run)) < math.inf:
            points.setdefault(run.seed, []).append((run.start["skips"], norm))
    whole = {seed: those for seed, those in sorted(points.items()) if len(those) == len(cells)}
    return {seed: _slope(those) for seed, those in whole.items() if len({skips for skips, _ in those}) > 1}


def _alike(records: Records, cell: str) -> dict[str, list[Result]]:
    """The measured runs of each arm of a cell, over the seeds that all arms with runs have."""
    found = {method: runs for method in records.suite.arms if (runs := measured(records, cell, method))}
    common = set.intersection(*({run.seed for run in runs} for runs in found.values())) if found else set()
    return {method: [run for run in runs if run.seed in common] or runs for method, runs in found.items()}


def _blocks(run: Result, probe: str) -> list[float]:
    return next((probed["blocks"] for probed in run.probes if probed["probe"] == probe and probed.get("blocks")), [])


def _mean(values: Sequence[float]) -> float:
    """The geometric mean; nan if one is not positive."""
    return float(stats.gmean(values)) if all(value > 0 for value in values) else math.nan


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of log value on log N."""
    return float(stats.linregress(*np.log(np.array(points, dtype=float)).T).slope)


def _row(cell: str, method: str, runs: list[Result]) -> Probed:
    kappas = runs[0].start.get("kappas")
    values = {probe: _mean([run.probe(probe) for run in runs]) for probe in PROBES}
    values |= {"feature_start": _mean(list(map(start, runs))), "feature_shallowest": _mean(list(map(late, runs)))}
    spikes = [probe for run in runs for probe in run.probes if probe["probe"] == "loss_spikes"]
    return Probed(
        cell, method, runs[0].start.get("skips") or 0, len(runs), [run.run for run in runs], kappas,
        math.fsum(kappa**2 for kappa in kappas) if kappas else math.nan,
        math.fsum(kappas) + 1 if kappas else math.nan, values,
        float(np.mean([number(probe["value"]) for probe in spikes])) if spikes else math.nan,
        max((number(probe.get("largest", 1.0)) for probe in spikes), default=1.0),
    )  # fmt: skip


def _lines(cell: str, method: str, runs: list[Result]) -> Iterator[Line]:
    """Norms over training, per block, shares, responses and gates."""
    names = [run.run for run in runs]

    def made(what: str, x: Sequence[float], three: Any, name: str = "") -> Line:
        return line(f"{cell}, {method}" if name else cell, method, what, x, three, [len(runs)] * len(x), names, name)

    series = [run.stability for run in runs if run.stability]
    finite = [one for one in series if all(0 < number(v) < math.inf for v in (*one["feature"], *one["gradient"]))]
    for name in ("feature", "gradient") if finite else ():
        images = finite[0]["images"]
        values = np.array([one[name] for one in finite if one["images"] == images])
        windows = [values[:, max(0, i - WINDOW // 2) : i + WINDOW // 2 + 1] for i in range(len(images))]
        yield made(name, images, [[pick(w.ravel()) for w in windows] for pick in (stats.gmean, np.min, np.max)])
    for what, name in (("blocks", "feature"), ("gradient-blocks", "gradient")):
        both = [np.array([_blocks(run, f"{name}_{key}") for run in runs], dtype=float) for key in MEASURES[:2]]
        if all(one.ndim == 2 and one.size and np.isfinite(one).all() for one in both):
            norm, swing = (np.exp(np.log(np.maximum(one, 1e-30)).mean(0)) for one in both)
            if name == "gradient":  # encoder and middle as computed, then the decoder from its deepest block up
                skips = runs[0].start["skips"]
                norm, swing = (np.concatenate([one[:-skips], one[-skips:][::-1]]) for one in (norm, swing))
            yield made(what, range(1, len(norm) + 1), (norm, norm - swing, norm + swing))
    shares = np.array([one["shares"] for one in series if one["shares"]])
    if len(shares):
        yield made("shares", range(1, shares.shape[1] + 1), (shares.mean(0), shares.min(0), shares.max(0)))
    responses = [one["levels"] for one in series if one["levels"]]
    for what in ("worst", "random") if responses else ():
        found = np.array([[level[what] for level in levels] for levels in responses])
        yield made(what, [level["t"] for level in responses[0]], (stats.gmean(found), found.min(0), found.max(0)))
    gates = [one["gates"] for one in series if one["gates"]]
    images = [point["images"] for point in gates[0]] if gates else []
    alike = [one for one in gates if [point["images"] for point in one] == images]
    same = np.array([[point["skips"] for point in one] for one in alike])
    for i in range(same.shape[2] if len(same) else 0):
        yield made("gates", images, same[:, :, i].mean(0).T[[1, 0, 2]], f"skip {i + 1}")


def _growth(records: Records, rows: Sequence[Probed], name: str, method: str) -> Growth | None:
    found = {growing: list(exponents(records, name, method, growing).values()) for growing in GROWING}
    if not (n := len(found["late"])):
        return None
    predicted = [(row.skips, math.sqrt(row.sum_squares)) for row in rows if row.sum_squares > 0]
    slopes = {key: mean_interval([np.array(those)], ALPHA) if those else Interval() for key, those in found.items()}
    runs = [run for row in rows for run in row.runs]
    return Growth(name, method, n, _slope(predicted) if predicted else math.nan, slopes, runs)


def _grown(one: Growth, rows: Sequence[Probed]) -> Iterator[Line]:
    """The norm over the number of skips, at the initial weights and late."""
    for key, title in (("feature_start", f"{one.family}, at the start"), ("feature_shallowest", one.family)):
        if points := [(row.skips, row.values[key]) for row in rows if row.values[key] > 0]:
            x, y = zip(*points, strict=True)
            yield line(title, one.method, "growth", x, (y, y, y), [one.n] * len(x), one.runs)


def _correlations(those: Sequence[tuple[Probed, list[Result]]]) -> dict[str, float]:
    """By quantity, over the arms with fixed factors. Each block: over arms and blocks i, of sum_{j=i..N} kappa_j^2 with
    the norm of block i."""
    found: dict[str, float] = {}
    for quantity, prediction in PREDICTED.items():
        values = [row.values[quantity] for row, _ in those]
        if len(those) > 2 and np.isfinite(values).all() and len(set(values)) > 1:
            found[quantity] = float(stats.spearmanr([getattr(row, prediction) for row, _ in those], values).statistic)
    blocks = [np.array([_blocks(run, "feature_norm") for run in runs], dtype=float) for _, runs in those]
    sums = [np.square(row.kappas or [])[::-1].cumsum()[::-1] for row, _ in those]
    same = all(one.ndim == 2 and one.shape[1] == len(mine) for one, mine in zip(blocks, sums, strict=True))
    if len(those) > 2 and same:
        norms = [stats.gmean(one) for one in blocks]
        found[EACH_BLOCK] = float(stats.spearmanr(np.concatenate(sums), np.concatenate(norms)).statistic)
    return found
