"""What the tests of claims are made of: the evidence of a suite, numbers over cells, and what they say.

A number is made over the cells that have three pairs or more; it says over how many of the claim's cells where not over all.
A bound, >= or <=, counts for what it supports, as in the words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reports import formats, stats, words
from reports.records import labels as labels_of
from reports.arms import Arm
from reports.comparison import spread
from reports.gates import NULL
from reports.records.suite_records import Records
from reports.stats import Interval


@dataclass(frozen=True)
class Finding:
    """A verdict, the numbers behind it in words, and the runs they were made from."""

    verdict: str = words.NOT_TESTED
    evidence: str = "no run of it in this suite"
    runs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """What tests look at: the records, the cells of the report that a claim is about, and their arms."""

    records: Records
    cells: list[dict]
    arms: list[Arm]

    def of(self, method: str) -> list[Arm]:
        """The arms of a method, one per cell."""
        return [arm for arm in self.arms if arm.row["role"] == "paired" and arm.row["method"] == method]

    def label(self, name: str) -> str | None:
        """The arm that a claim means by a name: the one without parameters if there is one, else the first of that name.

        A name may say a factor on the learning rate (`constant @ lr 2`); without one, arms with a factor are not meant.
        """
        method, factor = labels_of.split(name)
        labels = [label for label in self.records.suite["arms"]
                  if label == name or (labels_of.bare(label), labels_of.read(label)[1]) == (method, factor)]
        return None if not labels else name if name in labels else labels[0]

    def runs(self, label: str, *statuses: str) -> list[dict]:
        """The records of an arm in the claim's cells, of these statuses."""
        return [m["record"] for c in self.cells for m in self.records.members(c["cell"], "paired", label)
                if m["record"] and m["record"]["status"] in statuses]

    def full(self, label: str) -> str:
        """An arm with every parameter of its method, as its runs have it; the label where none is recorded."""
        spec = next((run["spec"]["method"] for run in self.records.runs.values() if run["method"] == label), {})
        given = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
        return labels_of.join(f"{spec['name']}({given})", labels_of.read(label)[1]) if given else label


@dataclass(frozen=True)
class Part:
    """What one cell, or one family of cells, adds to a number: mean and deviation over n pairs, its runs, its bound."""

    mean: float
    sd: float
    n: int
    runs: list[str]
    bound: str = ""


@dataclass(frozen=True)
class Step:
    """A number over cells, n the fewest pairs of a cell, and how to say it."""

    shown: Interval
    n: int
    bound: str
    runs: list[str]
    said: str

    def above(self, limit: float) -> bool:
        """Whether it lies above the limit as a whole, which a lower bound may show too."""
        return self.shown.low > limit and self.bound in ("", ">=")

    def below(self, limit: float) -> bool:
        """The same the other way round."""
        return self.shown.high < limit and self.bound in ("", "<=")


def pool(evidence: Evidence, name: str, parts: Sequence[Part], slope: bool = False) -> Step | None:
    """A number over cells, equal weights: of logs of ratios, or of slopes. None without a part.

    Cells below three pairs are left out; where all are, there are points only.
    """
    enough = [part for part in parts if part.n >= words.INTERVAL_SEEDS]
    used = enough or [part for part in parts if part.n]
    if not used:
        return None
    shown = (stats.satterthwaite([p.mean for p in used], [p.sd for p in used], [p.n for p in used]).interval() if enough
             else Interval(float(np.mean([p.mean for p in used]))))
    bounds = {part.bound for part in used} - {""}
    bound = "" if not bounds else bounds.pop() if len(bounds) == 1 else "mixed"
    n, runs = min(part.n for part in used), sorted({run for part in used for run in part.runs})
    shown = shown if slope else shown.exp()
    said = f"{name} {_slope(shown) if slope else formats.interval(shown, bound)}"
    over = {evidence.records.runs[run]["dataset"] + "/" + evidence.records.runs[run]["backbone"] for run in runs}
    said += f" over {len(over)} of {formats.plural(len(evidence.cells), 'cell')}" if len(over) < len(evidence.cells) else ""
    return Step(shown, n, bound, runs, said + ("" if enough else f" ({formats.plural(n, 'seed')})"))


def _slope(shown: Interval) -> str:
    ends = f" [{shown.low:+.2f}, {shown.high:+.2f}]" if math.isfinite(shown.low) else ""
    return f"{shown.value:+.2f}{ends}"


def _staged(n: int, verdict: str) -> str:
    """Below six pairs there is no verdict."""
    return words.POINTS if n < words.INTERVAL_SEEDS else words.PRELIMINARY if n < words.VERDICT_SEEDS else verdict


def single(step: Step, verdict: str, note: str = "") -> Finding:
    """What one number says."""
    return Finding(_staged(step.n, verdict), step.said + note, step.runs)


def all_of(steps: Mapping[str, Step | None], holds: Callable[[Step], bool], fails: Callable[[Step], bool], without: Finding) -> Finding:
    """What holds of every number: one that fails decides; one that is not there leaves it open. without: what is said if there is none."""
    found = [step for step in steps.values() if step]
    if not found:
        return without
    verdict = (words.CONTRADICTED if any(map(fails, found)) else
               words.SUPPORTED if all(map(holds, found)) and len(found) == len(steps) else words.INCONCLUSIVE)
    return Finding(_staged(min(step.n for step in found), verdict),
                   "; ".join(step.said if step else f"{name}: no number" for name, step in steps.items()),
                   sorted({run for step in found for run in step.runs}))


def side(fails: bool, holds: bool) -> str:
    """The verdict of a number that fails a claim, holds it, or does neither."""
    return words.CONTRADICTED if fails else words.SUPPORTED if holds else words.INCONCLUSIVE


def silent(evidence: Evidence, labels: Iterable[str | None], why: str, targets: bool = False) -> Finding:
    """Why there is nothing to say of arms that may have runs. targets: whether it takes a target to say something."""
    ended = [[run["run"] for run in evidence.runs(label, "complete", "diverged")] if label else [] for label in labels]
    if not all(ended):
        return Finding()
    if targets and all(c["target"] is None for c in evidence.cells):
        return Finding(evidence="no target in this suite")
    return Finding(words.INCONCLUSIVE, f"no number to judge by: {why}", sorted({run for runs in ended for run in runs}))


def clean(evidence: Evidence, cell: str, labels: Iterable[str]) -> bool:
    """Whether no gate failed for these arms."""
    return not any(arm.row["withheld"].startswith("gate") for arm in evidence.arms if arm.row["cell"] == cell and arm.row["method"] in labels)


def ratio(evidence: Evidence, method: str, name: str, value: Callable[[dict], float], role: str = "paired", fragile: bool = False) -> Step | None:
    """The ratio arm / baseline of a positive number of each complete run, on the same seeds, over cells.

    fragile: also say how far it moves where any one pair is left out.
    """
    parts, cells = [], []
    for c in evidence.cells:
        base = {m["seed"]: m["record"] for m in evidence.records.members(c["cell"], "paired", evidence.records.baseline)
                if m["record"] and m["record"]["status"] == "complete"}
        both = [(base[seed], m["record"]) for m in evidence.records.members(c["cell"], role, method)
                if m["record"] and m["record"]["status"] == "complete" and (seed := m["pair"] if role == "null" else m["seed"]) in base
                and clean(evidence, c["cell"], [NULL if role == "null" else method])]
        both = [pair for pair in both if all(math.isfinite(value(r)) and value(r) > 0 for r in pair)]
        logs = np.array([math.log(value(a) / value(b)) for b, a in both])
        parts.append(Part(*spread(logs), len(both), [r["run"] for pair in both for r in pair]))
        cells.append(logs)
    step = pool(evidence, name, parts)
    if step and fragile and (ends := _without_one(cells)):
        step = replace(step, said=f"{step.said}, {formats.ratio(ends[0])} to {formats.ratio(ends[1])} with any one pair left out")
    if step and step.n >= words.INTERVAL_SEEDS and not math.isfinite(step.shown.low):  # the same in every pair
        return replace(step, shown=Interval(*(step.shown.value,) * 3))
    return step


def _without_one(cells: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The least and the largest ratio over cells (logs of ratios in each) when one pair is left out; None if no cell has three pairs."""
    used = [logs for logs in cells if len(logs) >= words.INTERVAL_SEEDS]
    means = [logs.mean() for logs in used]
    found = [(sum(means) - mean + np.delete(logs, i).mean()) / len(used) for logs, mean in zip(used, means, strict=True) for i in range(len(logs))]
    return (math.exp(min(found)), math.exp(max(found))) if found else None
