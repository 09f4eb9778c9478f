"""What a report says of one arm in one cell: the comparison, the ladder, the other axes, and whether any of it may be shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports import stats
from reports.cells import curves
from reports.comparison import Comparison, compare
from reports.gates import NULL, Failure
from reports.records.reading import number
from reports.records.suite_records import Records
from reports.targets import FLAT

TRAINING_FLOPS = 3  # forward and backward passes, in units of a forward pass
PLAIN = ("p", "mean", "sd", "missing", "chance", "sign_flip", "correlation", "flips", "seeds_needed")  # taken over as they are


@dataclass(frozen=True)
class Arm:
    """One arm of one cell: its row of the report, and the comparison behind it (None without a target)."""

    row: dict[str, Any]
    result: Comparison | None

    @property
    def pools(self) -> bool:
        """Whether this cell may enter a result over cells."""
        return self.result is not None and not self.row["withheld"] and not self.row["label"]


def arms(records: Records, cell: dict[str, Any], failed: list[Failure]) -> Iterator[Arm]:
    """Every arm of a cell against the baseline, the null arm last."""
    for method in records.suite["arms"]:
        if method != records.baseline:
            yield _arm(records, cell, "paired", records.baseline, method, failed)
    for method in sorted({m["method"] for m in records.members(cell["cell"], "null")}):
        yield _arm(records, cell, "null", method, method, failed)


def _arm(records: Records, cell: dict[str, Any], role: str, baseline: str, method: str, failed: list[Failure]) -> Arm:
    name = cell["cell"]
    members = [m for m in records.members(name, "paired", baseline) + records.members(name, role, method) if m["record"]]
    label = NULL if role == "null" else method
    row = {"cell": name, "method": label, "role": role, "runs": [m["run"] for m in members],
           "withheld": _withheld(cell, {label, "", method if role == "null" else label}, failed), "label": cell["label"]}
    if cell["target"] is None:
        return Arm(row | {"n": 0, "word": cell["label"]}, None)
    base, arm = curves(records, name, "paired", baseline), curves(records, name, role, method)
    result = compare(base, arm, cell["target"], cell["tau"])
    runs = {m["pair"] if m["role"] == "null" else m["seed"]: m["record"] for m in members if m["role"] != "paired" or m["method"] != baseline}
    both = _Records({m["seed"]: m["record"] for m in members if m["role"] == "paired" and m["method"] == baseline}, runs)
    ladder = [{**rung, **_rung(compare(base, arm, rung["target"], cell["tau"]), rung["flat"])} for rung in cell["ladder"]]
    return Arm(row | _row(result, both) | {"ladder": ladder, "axes": _axes(result, both, cell["tau"])}
               | ({"word": cell["label"]} if cell["label"] else {}), result)


def _withheld(cell: dict[str, Any], scopes: set[str], failed: list[Failure]) -> str:
    """Why no number of an arm may be shown; empty if it may."""
    mine = next((f for f in failed if f.cell == cell["cell"] and f.method in scopes), None)
    return f"gate failed: {mine.gate}" if mine else FLAT if cell["flat"] else ""


@dataclass(frozen=True)
class _Records:
    """The summaries behind a comparison, by the seed of the pair."""

    baseline: dict[int, dict]
    arm: dict[int, dict]

    def names(self, seed: int) -> list[str]:
        return [self.baseline[seed]["run"], self.arm[seed]["run"]]


def _headline(result: Comparison) -> dict[str, Any]:
    return {key: getattr(result, key) for key in ("speedup", "low", "high", "bound", "word", "n")}


def _rung(result: Comparison, flat: bool) -> dict[str, Any]:
    """The headline of a rung; where the fit is flat no time can be read off it, and nothing is shown."""
    return _headline(result) | ({"speedup": math.nan, "low": math.nan, "high": math.nan, "bound": "", "word": FLAT} if flat else {})


def _row(result: Comparison, both: _Records) -> dict[str, Any]:
    def sides(values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(("baseline", "arm"), values, strict=True))

    final = result.final
    return _headline(result) | {key: getattr(result, key) for key in PLAIN} | {
        "pairs": [{"seed": p.seed, "baseline": asdict(p.baseline), "arm": asdict(p.arm), "ratio": math.exp(p.d), "runs": both.names(p.seed)}
                  for p in result.pairs],
        "reached": sides(result.reached), "diverged": sides(result.diverged), "reach_rates": sides([asdict(r) for r in result.reach_rates]),
        "restricted": asdict(result.restricted), "sensitivity": {name: asdict(value) for name, value in result.sensitivity.items()},
        "final": {"n": final.n, "baseline": final.baseline, "arm": final.arm, "difference": asdict(final.difference),
                  "ratio": asdict(final.ratio), "discussed": final.discussed},
    }


def _axes(result: Comparison, both: _Records, tau: float) -> dict[str, Any]:
    """The speedup in images, training seconds and floating-point operations; no interval where there is no headline."""
    found = {}
    for axis, read in (("images", _images), ("seconds", _seconds), ("flops", _flops)):
        times = np.array([[read(both.baseline[p.seed], p.baseline.images, tau), read(both.arm[p.seed], p.arm.images, tau)]
                          for p in result.pairs]).reshape(-1, 2)
        logs = np.log(times[(times > 0).all(axis=1) & np.isfinite(times).all(axis=1)])
        shown = math.isfinite(result.speedup) and len(logs) == result.n
        means = np.exp(logs.mean(axis=0)).tolist() if len(logs) else [math.nan, math.nan]
        found[axis] = {"speedup": asdict(stats.paired(logs[:, 0] - logs[:, 1])[0].exp() if shown else stats.Interval()),
                       "to_target": {"baseline": means[0], "arm": means[1]}}
    return found


def _images(record: dict, images: float, tau: float) -> float:
    return min(images, tau)


def _seconds(record: dict, images: float, tau: float) -> float:
    """The training clock at these images, linear between evaluations; beyond the last, of a run that diverged, at its mean pace."""
    points = sorted({(0.0, 0.0)} | {(e["images"], number(e["seconds"])) for e in record["evaluations"]})
    at, (last, seconds) = min(images, tau), points[-1]
    if len(points) < 2:
        return math.nan
    return seconds * at / last if at > last else float(np.interp(at, *np.array(points).T))


def _flops(record: dict, images: float, tau: float) -> float:
    return min(images, tau) * TRAINING_FLOPS * number(record["start"].get("flops"))
