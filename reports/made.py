"""How a suite was made, and whether what it compares is matched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.records.reading import number
from reports.records.suite_records import Records

NETWORK = ("params", "backbone_params", "method_params", "flops")


def matching(records: Records) -> dict[str, Any]:
    """Parameters and FLOPs per cell and method, ratios between backbones, and the digest of initial weights per seed."""
    networks = [row for name in records.cells for method in records.suite["arms"] if (row := _network(records, name, method))]
    weights = [row for name in records.cells for seed in records.suite["seeds"]["paired"] if (row := _weights(records, name, seed))]
    return {"networks": networks, "weights": weights, "backbones": _backbones(networks)}


def _network(records: Records, name: str, method: str) -> dict[str, Any] | None:
    runs = [m["record"] for m in records.members(name, "paired", method) if m["record"]]
    if not runs:
        return None
    return {"cell": name, "method": method, **{key: runs[0]["start"].get(key) for key in NETWORK}, "runs": [run["run"] for run in runs]}


def _weights(records: Records, name: str, seed: int) -> dict[str, Any] | None:
    runs = [m["record"] for m in records.members(name, "paired") if m["seed"] == seed and m["record"]]
    digests = [run["start"].get("init_digest") for run in runs]
    if not runs:
        return None
    return {"cell": name, "seed": seed, "digest": digests[0], "equal": len(set(digests)) == 1 and digests[0] is not None,
            "methods": [run["method"] for run in runs], "runs": [run["run"] for run in runs]}


def _backbones(networks: list[dict]) -> list[dict]:
    """Every backbone of a dataset against its first, both with the same method."""
    first: dict[tuple[str, str], dict] = {}
    found = []
    for row in networks:
        reference = first.setdefault((row["cell"].partition("/")[0], row["method"]), row)
        if row is not reference and row["method"] == networks[0]["method"] and reference["params"] and reference["flops"]:
            found.append({"cells": [reference["cell"], row["cell"]], "params": number(row["params"]) / reference["params"],
                          "flops": number(row["flops"]) / reference["flops"], "runs": reference["runs"] + row["runs"]})
    return found


def made(records: Records) -> dict[str, Any]:
    """Versions, hardware, git states, digests, each value once; and the time spent."""
    runs = list(records.runs.values())
    starts = {key: _distinct(runs, lambda run, key=key: run["start"].get(key))
              for key in ("versions", "device", "device_name", "git", "data_digest", "reference_digest", "extractor_digest")}
    specs = {key: _distinct(runs, lambda run, key=key: run["spec"].get(key)) for key in ("threads", "precision")}
    training, evaluation = sum(run["seconds"] for run in runs) / 3600, sum(map(_evaluation, runs)) / 3600
    devices: dict[str, float] = {}
    for run in runs:
        kind = str(run["start"].get("device", "unknown"))
        devices[kind] = devices.get(kind, 0.0) + (run["seconds"] + _evaluation(run)) / 3600 * _devices(run, kind)
    return {"runs": len(runs), "listed": len(records.suite["runs"]), **starts, **specs,
            "data_partial": _distinct(runs, lambda run: run["dataset"] if run["start"].get("data_partial") else None),
            "hours": {"training": training, "evaluation": evaluation, "both": training + evaluation}, "device_hours": devices,
            "resumes": sum(run.get("resumes", 0) for run in runs)}


def _evaluation(run: dict) -> float:
    return sum(e["eval_seconds"] for e in run["evaluations"] if e.get("eval_seconds"))


def _devices(run: dict, kind: str) -> int:
    """What an hour of this run occupies: CPU threads, or accelerators."""
    return int(run["spec"].get("threads") or 1) if kind == "cpu" else int(run["spec"].get("devices") or 1)


def _distinct(runs: list[dict], value: Callable[[dict], Any]) -> list[Any]:
    found: list[Any] = []
    for run in runs:
        if (one := value(run)) is not None and one not in found:
            found.append(one)
    return found
