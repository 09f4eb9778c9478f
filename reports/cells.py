"""What a report says of cells and runs: targets, how the distance is measured, curves over seeds, the performance profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reports.crossing import Curve
from reports.gates import NULL, Failure
from reports.records.reading import number
from reports.records.suite_records import ROLES, Records
from reports.targets import curve

NOT_FROZEN = "targets not frozen"
TENTH = 0.1  # of the budget: where training starts to be measured
INCEPTION = "inception"  # the one extractor whose distance is plainly called FID


def cell(records: Records, name: str) -> dict[str, Any]:
    """What belongs to a cell and no arm."""
    frozen = records.frozen(name) or {}
    runs = [m["record"] for role in ROLES for m in records.members(name, role) if m["record"]]
    noise = {r["run"]: _variation([number(x) for x in r["noise"]]) for r in runs if len(r["noise"]) > 1}
    plan = records.cells[name]
    return {
        "cell": name, "dataset": plan["dataset"], "backbone": plan["backbone"], "tau": plan["budget"],
        "evaluations": len(plan.get("evaluations", [])), "target": frozen.get("target"), "label": frozen.get("label", NOT_FROZEN), "flat": frozen.get("flat", False),
        "crossings": frozen.get("crossings", []), "ladder": frozen.get("ladder", []), "measure": measure(runs[0]) if runs else None,
        "progress": _progress([r for r in runs if r["method"] == records.baseline and r["status"] == "complete"]),
        "noise": float(np.mean(list(noise.values()))) if noise else math.nan, "noise_runs": list(noise),
        "runs": frozen.get("pilots", []),
    }


def measure(run: dict) -> dict[str, Any]:
    """Everything a distance must be stated with."""
    start, evaluation = run["start"], run["spec"]["evaluation"]
    name = start.get("extractor") or evaluation["extractor"]
    return {
        "name": distance_name(name), "extractor": name, "extractor_digest": start.get("extractor_digest"),
        "samples": evaluation["samples"], "reference": run["dataset"], "reference_size": start.get("reference_size"),
        "reference_digest": start.get("reference_digest"), "resize": start.get("resize"), "quantisation": "8 bits",
        "sampler": evaluation["sampler"], "nfe": next((e["nfe"] for e in run["evaluations"] if e.get("nfe")), evaluation.get("steps")),
        "ema": ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run["spec"].get("ema", {}).items()),
    }


def distance_name(extractor: str) -> str:
    """A distance is called FID only if Inception measured it."""
    return "FID" if extractor == INCEPTION else f"Frechet distance ({extractor})"


def _variation(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.mean(values))


def _progress(baselines: list[dict]) -> float:
    """Mean ratio of the last distance to the one nearest to a tenth of the budget."""
    ratios = []
    for run in baselines:
        fids = {e["images"]: number(e["fid"]) for e in run["evaluations"]}
        if len(fids) > 1:
            early = min(fids, key=lambda images: abs(math.log(images / (TENTH * run["budget"]))))
            ratios.append(fids[max(fids)] / fids[early] if fids[early] else math.nan)
    return float(np.mean(ratios)) if ratios else math.nan


def run_row(records: Records, entry: dict) -> dict[str, Any]:
    """One listed run: its standing and its crossing."""
    record = records.runs.get(entry["run"])
    name = f"{entry['dataset']}/{entry['backbone']}"
    target = (records.frozen(name) or {}).get("target")
    row = {key: entry[key] for key in ("run", "dataset", "backbone", "method", "role", "seed", "pair")} | {"cell": name}
    if record is None:
        return row | {"status": "missing", "reason": None, "images": 0, "seconds": math.nan, "resumes": 0, "params": None, "flops": None,
                      "final_fid": math.nan, "crossing": None, "unread": 0}
    own = curve(record)
    return row | {
        "status": record["status"], "reason": record.get("reason"), "images": record["images"], "seconds": record["seconds"],
        "resumes": record.get("resumes", 0), "params": record["start"].get("params"), "flops": record["start"].get("flops"),
        "final_fid": float(own.fid[-1]) if len(own.fid) and record["status"] == "complete" else math.nan,
        "crossing": asdict(own.crossing(target, record["budget"])) if target and len(own.fid) else None,
        "unread": int(np.sum(~np.isfinite(own.fid)))}


def curves(records: Records, name: str, role: str, method: str) -> list[Curve]:
    """The curves of an arm; a null run carries its partner's seed; one that is not done is missing."""
    found = []
    for member in records.members(name, role, method):
        seed = member["pair"] if role == "null" else member["seed"]
        found.append(curve(member["record"], seed) if member["record"] else Curve(seed, [], [], "missing"))
    return found


def bands(records: Records, name: str, failed: Sequence[Failure]) -> list[dict[str, Any]]:
    """Distance over images of each arm, of the null arm and of the pilots, over their seeds.

    Arms are drawn beside each other, so as long as runs are missing they keep to the seeds that all of them have. Runs with a
    failed gate are left out: what was measured in another way shares no curve and no axis with the others.
    """
    odd = {run for failure in failed for run in failure.runs}
    groups = {method: records.members(name, "paired", method) for method in records.suite["arms"]}
    groups |= {NULL: records.members(name, "null"), "pilots": records.members(name, "pilot")}
    runs = {method: [m["record"] for m in members if m["record"] and m["run"] not in odd] for method, members in groups.items()}
    hidden = {NULL, "pilots", *(failure.method for failure in failed if failure.cell == name)}
    shown = _shared({method: those for method, those in runs.items() if method not in hidden})
    points = {method: shown.get(method) or {run["run"]: _points(run) for run in those} for method, those in runs.items()}
    return [found for method, by_run in points.items() if (found := _band(name, method, by_run))["images"]]


Points = dict[int, float]  # log distance by images


def _points(run: dict) -> Points:
    own = curve(run)
    return {int(images): math.log(fid) for images, fid in zip(own.images.tolist(), own.fid.tolist(), strict=True) if math.isfinite(fid) and fid > 0}


def _shared(arms: dict[str, list[dict]]) -> dict[str, dict[str, Points]]:
    """The points of each arm by run, of the seeds that all arms have: those that ended, where an arm has such, and at every
    evaluation those that all arms there have measured. Where arms have no seed in common, their own."""
    begun = {method: {run["seed"]: (run, points) for run in runs if (points := _points(run))} for method, runs in arms.items()}
    begun = {method: by_seed for method, by_seed in begun.items() if by_seed}
    ended = [{seed for seed, (run, _) in by_seed.items() if run["status"] != "running"} or set(by_seed) for by_seed in begun.values()]
    if common := set.intersection(*ended) if ended else set():
        begun = {method: {seed: both for seed, both in by_seed.items() if seed in common} for method, by_seed in begun.items()}
    at: dict[int, list[set[int]]] = {}  # images -> of each arm measured there, its seeds
    for by_seed in begun.values():
        for images in {i for _, points in by_seed.values() for i in points}:
            at.setdefault(images, []).append({seed for seed, (_, points) in by_seed.items() if images in points})
    both = {images: set.intersection(*seeds) for images, seeds in at.items()}
    return {method: {run["run"]: {i: log for i, log in points.items() if seed in both[i] or not both[i]} for seed, (run, points) in by_seed.items()}
            for method, by_seed in begun.items()}


def _band(name: str, method: str, by_run: dict[str, Points]) -> dict[str, Any]:
    logs: dict[int, list[float]] = {}
    for points in by_run.values():
        for images, log in points.items():
            logs.setdefault(images, []).append(log)
    images = sorted(logs)
    return {"cell": name, "method": method, "images": images, "mean": [math.exp(sum(logs[i]) / len(logs[i])) for i in images],
            "low": [math.exp(min(logs[i])) for i in images], "high": [math.exp(max(logs[i])) for i in images],
            "seeds": [len(logs[i]) for i in images], "runs": [run for run, points in by_run.items() if points]}


def profile(rows: list[dict], arms: list[str], cells: set[str]) -> list[dict[str, Any]]:
    """Performance profile (Dolan and More 2002): share of cell x seed on which an arm needs at most r times the fewest images.

    rows: of runs. cells: those with a usable target. Only seeds that every arm has finished, and one arm at least reached.
    """
    times: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row["role"] == "paired" and row["cell"] in cells and row["crossing"] and row["status"] in ("complete", "diverged"):
            times.setdefault((row["cell"], row["seed"]), {})[row["method"]] = row["crossing"]["images"]
    problems = {key: by_arm for key, by_arm in times.items() if len(by_arm) == len(arms) and min(by_arm.values()) < math.inf}
    found = []
    for arm in arms if problems else ():
        ratios = sorted(by_arm[arm] / min(by_arm.values()) for by_arm in problems.values())
        steps = [(ratio, (i + 1) / len(ratios)) for i, ratio in enumerate(ratios) if ratio < math.inf]
        runs = [row["run"] for row in rows if row["role"] == "paired" and row["method"] == arm and (row["cell"], row["seed"]) in problems]
        found.append({"method": arm, "ratio": [r for r, _ in steps], "share": [s for _, s in steps], "problems": len(problems), "runs": runs})
    return found
