"""From records to the content of report.json (see `schema`): every number of the tables and the page comes from here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from reports import gates, sentences
from reports.comparison import Comparison, Interval, compare, t_interval
from reports.crossing import Curve
from reports.pooled import enters, null_test, pool
from reports.reading import PROTOCOL, Records, number
from reports.targets import curve
from reports.words import VERDICT_SEEDS

SCHEMA = 1
NULL = "A/A"  # the label of the null arm in reports
PROGRESS = 1 / 3  # the distance at the end over that after a tenth of the budget: above this a suite is too small
TRAINING_FLOPS = 3  # forward and backward passes, in units of a forward pass


def build(records: Records) -> dict[str, Any]:
    """The whole report as plain data."""
    failed = gates.failures(records)
    cells = [cell(records, name) for name in records.cells]
    compared = [one for entry in cells for one in arms(records, entry, failed)]
    real = [(row, result) for row, result in compared if row["role"] == "paired"]
    pooled = _pooled(records, real)
    null = null_test({row["cell"]: result for row, result in compared if row["role"] == "null" and result and not row["withheld"]})
    content = {
        "schema": SCHEMA, "protocol": PROTOCOL, "suite": records.name, "title": records.suite["title"],
        "scale": records.suite["scale"], "baseline": records.suite["baseline"], "arms": records.suite["arms"],
        "seeds": records.suite["seeds"], "cells": cells, "comparisons": [row for row, _ in compared], "pooled": pooled,
        "aa": asdict(null), "gates": [asdict(f) | {"text": str(f)} for f in failed], "missing": records.missing,
        "runs": [run_row(records, entry) for entry in records.suite["runs"]], "matching": matching(records), "made": made(records),
    }
    content |= {"banner": sentences.banner(content), "verdicts": sentences.verdicts(content)}
    return plain(content)


def cell(records: Records, name: str) -> dict[str, Any]:
    """What belongs to a cell and no arm: its target, how its distance is measured, whether training got somewhere."""
    frozen = records.frozen(name) or {}
    runs = [m["record"] for role in ("pilot", "paired", "null") for m in records.members(name, role) if m["record"]]
    baselines = [r for r in runs if r["method"] == records.suite["baseline"] and r["status"] == "complete" and len(r["evaluations"]) > 1]
    ratios = [number(r["evaluations"][-1]["fid"]) / number(r["evaluations"][0]["fid"]) for r in baselines]
    progress = float(np.mean(ratios)) if ratios else math.nan
    noise = [np.std(r["noise"], ddof=1) / np.mean(r["noise"]) for r in runs if len(r["noise"]) > 1]
    first = runs[0] if runs else None
    return {
        "cell": name, "dataset": name.partition("/")[0], "backbone": name.partition("/")[2], "tau": records.budget(name),
        "target": frozen.get("target"), "label": frozen.get("label", "targets not frozen"), "pilots": frozen.get("pilots", []),
        "ladder": frozen.get("ladder", []), "measure": measure(first) if first else {}, "progress": progress,
        "progress_ok": bool(progress < PROGRESS), "noise": float(np.mean(noise)) if noise else math.nan, "noise_runs": len(noise),
    }


def measure(run: dict) -> dict[str, Any]:
    """Everything a distance must be stated with."""
    start, evaluation = run["start"], run["spec"]["evaluation"]
    name = start.get("extractor", evaluation["extractor"])
    return {
        "name": "FID" if name == "inception" else f"Frechet distance ({name})", "extractor": name,
        "extractor_digest": start.get("extractor_digest"), "samples": evaluation["samples"],
        "reference": run["dataset"], "reference_size": start.get("reference_size"), "reference_digest": start.get("reference_digest"),
        "resize": start.get("resize"), "quantisation": "8 bits, rounded", "sampler": evaluation["sampler"], "nfe": evaluation["steps"],
        "ema": f"half-life {run['spec']['ema']['half_life']:g} of the budget",
    }


def curves(records: Records, name: str, role: str, method: str) -> list[Curve]:
    """The curves of an arm; a null run carries its partner's seed; one that is not done is missing."""
    found = []
    for member in records.members(name, role, method):
        seed = member["pair"] if role == "null" else member["seed"]
        found.append(curve(member["record"], seed) if member["record"] else Curve(seed, [], [], "missing"))
    return found


def arms(records: Records, entry: dict, failed: list[gates.Failure]) -> Iterable[tuple[dict, Comparison | None]]:
    """Every arm of a cell against the baseline, the null arm last."""
    name, baseline = entry["cell"], records.suite["baseline"]
    base = curves(records, name, "paired", baseline)
    roles = [("paired", arm) for arm in records.suite["arms"] if arm != baseline] + [("null", baseline)]
    for role, method in roles:
        label = NULL if role == "null" else method
        arm = curves(records, name, role, method)
        members = records.members(name, "paired", baseline) + records.members(name, role, method)
        row = {"cell": name, "method": label, "role": role, "runs": [m["run"] for m in members if m["record"]],
               "withheld": withheld(entry, label, failed), "label": entry["label"]}
        if entry["target"] is None:
            yield row | {"n": 0, "word": entry["label"]}, None
            continue
        result = compare(base, arm, entry["target"], entry["tau"])
        rungs = [{"fraction": r["fraction"], "flat": r["flat"], "target": r["target"], **_headline(compare(base, arm, r["target"], entry["tau"]))}
                 for r in entry["ladder"]]
        yield row | _row(result, entry) | {"ladder": rungs} | axes(records, name, role, method, result, entry), result


def withheld(entry: dict, method: str, failed: list[gates.Failure]) -> str:
    """Why the headline of an arm may not be shown; empty if it may."""
    mine = [f for f in failed if f.cell == entry["cell"] and f.method in ("", method)]
    if mine:
        return f"gate failed: {mine[0].field}"
    return "flat here" if entry["label"] == "flat here" else ""


def _headline(result: Comparison) -> dict[str, Any]:
    return {"speedup": result.speedup, "low": result.low, "high": result.high, "bound": result.bound, "word": result.word, "n": result.n}


def _row(result: Comparison, entry: dict) -> dict[str, Any]:
    """A comparison as data; a cell whose budget is too small keeps its numbers and gets no word."""
    keys = ("p", "missing", "reached", "chance", "sign_flip", "correlation", "flips", "seeds_needed", "mean", "sd")
    row = _headline(result) | {key: getattr(result, key) for key in keys}
    row |= {"reach_rates": [asdict(r) for r in result.reach_rates], "restricted": asdict(result.restricted),
            "final": asdict(result.final), "sensitivity": {key: asdict(value) for key, value in result.sensitivity.items()}}
    row["pairs"] = [{"seed": p.seed, "baseline": asdict(p.baseline), "arm": asdict(p.arm), "ratio": math.exp(p.d)} for p in result.pairs]
    return row | ({"word": entry["label"]} if entry["label"] else {})


def axes(records: Records, name: str, role: str, method: str, result: Comparison, entry: dict) -> dict[str, Any]:
    """The speedup on the other axes: training seconds, and floating-point operations (from the parameters' forward cost)."""
    def times(role: str, method: str) -> dict[int, tuple[float, float]]:
        found = {}
        for member in records.members(name, role, method):
            run = member["record"]
            if run and run["evaluations"] and run["status"] in ("complete", "diverged"):
                seed = member["pair"] if role == "null" else member["seed"]
                found[seed] = (run["seconds"] / max(run["images"], 1), run["start"].get("flops", math.nan) * TRAINING_FLOPS)
        return found

    base, arm = times("paired", records.suite["baseline"]), times(role, method)
    logs = {"seconds": [], "flops": []}
    for pair in result.pairs:
        if pair.seed in base and pair.seed in arm:
            for i, axis in enumerate(logs):  # images to target, times what one image costs this run
                logs[axis].append(pair_d(pair, entry["tau"]) + math.log(base[pair.seed][i] / arm[pair.seed][i]))
    hidden = not math.isfinite(result.speedup)
    return {axis: asdict(Interval(math.nan) if hidden else t_interval(np.array(values))[0]) for axis, values in logs.items()}


def pair_d(pair: Any, tau: float) -> float:
    """log min(T_none, tau) - log min(T_arm, tau)."""
    return math.log(min(pair.baseline.images, tau) / min(pair.arm.images, tau))


def _pooled(records: Records, real: list[tuple[dict, Comparison | None]]) -> list[dict]:
    """Pooled rows; cells with a failed gate, a flat target or too small a budget do not enter."""
    by_arm: dict[str, dict[str, Comparison]] = {arm: {} for arm in records.suite["arms"] if arm != records.suite["baseline"]}
    dropped: dict[str, list[str]] = {arm: [] for arm in by_arm}
    for row, result in real:
        if result is None or row["withheld"] or row["label"] or not enters(result):
            dropped[row["method"]].append(row["cell"])
        else:
            by_arm[row["method"]][row["cell"]] = result
    return [{"method": arm, **asdict(p), "left_out": dropped[arm], "runs": sorted({r for row, _ in real if row["method"] == arm and
             row["cell"] in p.cells for r in row["runs"]})} for arm, p in pool(by_arm).items()]


def run_row(records: Records, entry: dict) -> dict[str, Any]:
    """One listed run: its standing, its curve and its crossing."""
    record = records.runs.get(entry["run"])
    name = f"{entry['dataset']}/{entry['backbone']}"
    target = (records.frozen(name) or {}).get("target")
    row = {**entry, "cell": name, "target": target}
    if record is None:
        return row | {"status": "missing", "images": 0, "evaluations": [], "final_fid": math.nan, "seconds": math.nan,
                      "params": None, "flops": None, "crossing": None, "reason": None, "resumes": 0}
    own = curve(record)
    images, fids = own.images.astype(int).tolist(), own.fid.tolist()
    return row | {
        "status": record["status"], "reason": record.get("reason"), "images": record["images"], "resumes": record["resumes"],
        "evaluations": [[i, f] for i, f in zip(images, fids, strict=True)],
        "final_fid": fids[-1] if fids and record["status"] == "complete" else math.nan, "seconds": record["seconds"],
        "params": record["start"].get("params"), "flops": record["start"].get("flops"),
        "crossing": asdict(own.crossing(target)) if target and images else None}


def matching(records: Records) -> dict[str, Any]:
    """Are the networks matched: parameters and FLOPs per cell and method, and the hash of initial weights per pair."""
    rows, pairs = [], []
    for name in records.cells:
        for method in records.suite["arms"]:
            members = [m for m in records.members(name, "paired", method) if m["record"]]
            if members:
                start = members[0]["record"]["start"]
                rows.append({"cell": name, "method": method, **{k: start.get(k) for k in ("params", "backbone_params", "method_params", "flops")}})
        for seed in records.suite["seeds"]["paired"]:
            digests = {m["method"]: m["record"]["start"].get("init_digest") for m in records.members(name, "paired")
                       if m["seed"] == seed and m["record"]}
            if digests:
                pairs.append({"cell": name, "seed": seed, "digest": next(iter(digests.values())), "equal": len(set(digests.values())) == 1,
                              "methods": list(digests)})
    return {"networks": rows, "pairs": pairs, "backbones": _backbones(rows)}


def _backbones(rows: list[dict]) -> list[dict]:
    """Ratios between the backbones of a dataset, from the baseline's rows."""
    first: dict[str, dict] = {}
    found = []
    for row in rows:
        dataset = row["cell"].partition("/")[0]
        reference = first.setdefault(dataset, row)
        if row["method"] == reference["method"] and row["cell"] != reference["cell"]:
            found.append({"cells": [reference["cell"], row["cell"]], "params": row["params"] / reference["params"],
                          "flops": row["flops"] / reference["flops"]})
    return found


def made(records: Records) -> dict[str, Any]:
    """How it was made: versions, hardware, git states, digests and time spent, each value once."""
    starts = [run["start"] for run in records.runs.values() if run["start"]]

    def distinct(key: str) -> list[Any]:
        values = [start.get(key) for start in starts]
        return [value for i, value in enumerate(values) if value not in values[:i]]

    clocks = [run["seconds"] for run in records.runs.values()]
    evaluations = [e["eval_seconds"] for run in records.runs.values() for e in run["evaluations"] if e.get("eval_seconds")]
    return {"runs": len(records.runs), "listed": len(records.suite["runs"]),
            **{key: distinct(key) for key in ("versions", "device", "device_name", "git", "data_digest", "reference_digest",
                                              "extractor", "extractor_digest")},
            "training_hours": sum(clocks) / 3600, "evaluation_hours": sum(evaluations) / 3600,
            "verdict_seeds": VERDICT_SEEDS, "resumes": sum(run["resumes"] for run in records.runs.values())}


def plain(value: Any) -> Any:
    """Strict JSON: numbers of numpy as Python's, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
