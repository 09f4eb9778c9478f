"""How claims are tested, by name: each test takes a claim and the evidence of a suite and gives a verdict with its numbers.

speedup     the speedup over the cells is about `number`
final       the distance at the full budget is lower than the baseline's
order       each method of `order` is faster than the next, on the same seeds
range       every arm of `method` whose `parameter` lies in [least, most] is faster than the baseline
tuned       the method is faster than the baseline at every learning rate that the suite has for it, on the same seeds
same        the methods of `order` do not differ, on the same seeds
parameters  the method adds at most the share `most` of the backbone's parameters
time        an image takes at most `most` times the baseline's training time
probe       the last value of `probe` is lower than the baseline's, on the same seeds
probe_range  the same of every arm of `method` whose `parameter` lies in [least, most]
growth      the norm of hidden features grows more slowly with the number of skips than the baseline's, on the same seeds
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports import formats, labels as labels_of, pooled, stability, stats, words
from reports.arms import Arm
from reports.cells import curves
from reports.comparison import Comparison, compare, spread
from reports.reading import number
from reports.records import Records
from reports.stats import Interval

DEFAULT_LABEL = re.compile(r"^(?P<name>[^(]+)(\((?P<parameters>.*)\))?$")


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
        """The arms of a method that may enter a result over cells."""
        return [arm for arm in self.arms if arm.row["role"] == "paired" and arm.row["method"] == method and arm.pools]

    def label(self, name: str) -> str | None:
        """The arm that a claim means by a name: the one without parameters if there is one, else the first of that name.

        A name may say a factor on the learning rate (`constant @ lr 2`); without one, arms with a factor are not meant.
        """
        method, factor = labels_of.split(name)
        labels = [label for label in self.records.suite["arms"]
                  if label == name or (labels_of.bare(label), labels_of.read(label)[1]) == (method, factor)]
        return None if not labels else name if name in labels else labels[0]


def _speedup(claim: dict, method: str, evidence: Evidence) -> Finding:
    shown, n, bound, runs = _over_cells(evidence.of(method))
    if not runs:
        return _untold(evidence, method)
    verdict = _staged(n, words.claim(shown.low, shown.high, claim["number"], bound))
    return Finding(verdict, f"speedup {formats.interval(shown, bound)}", runs)


def _untold(evidence: Evidence, method: str) -> Finding:
    """Why there is nothing to say of a method that may have runs."""
    rows = [arm.row for arm in evidence.arms if arm.row["role"] == "paired" and arm.row["method"] == method and arm.row["runs"]]
    if not any(evidence.records.runs[run]["method"] == method for row in rows for run in row["runs"]):
        return Finding()
    reasons = sorted({row["withheld"] or row["label"] or row["word"] for row in rows})
    return Finding(words.INCONCLUSIVE if any(row["n"] for row in rows) else words.NOT_TESTED,
                   f"no number to judge by: {', '.join(reasons)}", sorted({run for row in rows for run in row["runs"]}))


def _over_cells(arms: Sequence[Arm]) -> tuple[Interval, int, str, list[str]]:
    """Speedup over the cells that have a headline, fewest pairs, bound, runs."""
    cells = {arm.row["cell"]: arm for arm in arms if arm.result and pooled.enters(arm.result)}
    if not cells:
        return Interval(), 0, "", []
    results = {name: arm.result for name, arm in cells.items() if arm.result}
    return (pooled.mean(results).interval().exp(), min(c.n for c in results.values()), pooled.bound_of(results),
            sorted({run for arm in cells.values() for run in arm.row["runs"]}))


def _staged(n: int, verdict: str) -> str:
    """Below six pairs there is no verdict."""
    return words.POINTS if n < words.INTERVAL_SEEDS else words.PRELIMINARY if n < words.VERDICT_SEEDS else verdict


def _final(claim: dict, method: str, evidence: Evidence) -> Finding:
    arms = [arm for arm in evidence.arms if arm.row["role"] == "paired" and arm.row["method"] == method and arm.result  # no target needed
            and not arm.row["withheld"].startswith("gate") and arm.result.final.n >= words.INTERVAL_SEEDS]
    if not arms:
        return _untold(evidence, method)
    finals = [arm.result.final for arm in arms if arm.result]
    shown = stats.satterthwaite([f.mean for f in finals], [f.sd for f in finals], [f.n for f in finals]).interval().exp()
    verdict = words.SUPPORTED if shown.high < 1 else words.CONTRADICTED if shown.low > 1 else words.INCONCLUSIVE
    note = "" if abs(math.log(shown.value)) >= math.log1p(words.NOTABLE) else "; a gap under 1.3 % is not discussed as a difference"
    if note and verdict != words.INCONCLUSIVE:
        verdict = words.INCONCLUSIVE
    return Finding(_staged(min(f.n for f in finals), verdict), f"distance at the full budget, arm / baseline, {formats.interval(shown)}{note}",
                   sorted({run for arm in arms for run in arm.row["runs"]}))


def _order(claim: dict, method: str, evidence: Evidence) -> Finding:
    steps = [_versus(evidence, *pair) for pair in zip(claim["order"], claim["order"][1:], strict=False)]
    if any(step is None for step in steps):
        return Finding()
    sides = [words.SUPPORTED if s.low > 1 else words.CONTRADICTED if s.high < 1 else words.INCONCLUSIVE for s, *_ in steps]
    verdict = next((side for side in (words.CONTRADICTED, words.INCONCLUSIVE) if side in sides), words.SUPPORTED)
    return _steps(steps, verdict)


def _tuned(claim: dict, method: str, evidence: Evidence) -> Finding:
    """Against every learning rate of the baseline, so that none is picked on the runs that are compared."""
    base = [label for label in evidence.records.suite["arms"] if labels_of.read(label)[0] == evidence.records.baseline]
    steps = [_versus(evidence, method, label) for label in base]
    if len(base) < 2 or any(step is None for step in steps):
        return Finding(evidence=f"needs speedups over {evidence.records.baseline} at two learning rates or more")
    least = min(s.low for s, *_ in steps)
    worst = min(s.high for s, *_ in steps)
    return _steps([step for step in steps if step], words.SUPPORTED if least > 1 else words.CONTRADICTED if worst < 1 else words.INCONCLUSIVE)


def _same(claim: dict, method: str, evidence: Evidence) -> Finding:
    step = _versus(evidence, *claim["order"])
    if step is None:
        return Finding()
    shown = step[0]
    inside = 1 / words.SAME <= shown.low and shown.high <= words.SAME
    outside = shown.low > words.SAME or shown.high < 1 / words.SAME
    return _steps([step], words.SUPPORTED if inside else words.CONTRADICTED if outside else words.INCONCLUSIVE)


Step = tuple[Interval, int, str, list[str], str]


def _versus(evidence: Evidence, first: str, second: str) -> Step | None:
    """Speedup of one method over another on the same seeds, over the cells that have both; None if no cell has."""
    labels = evidence.label(first), evidence.label(second)
    if None in labels:
        return None
    usable = [c for c in evidence.cells if c["target"] is not None and not c["label"] and _clean(evidence, c["cell"], labels)]
    results: dict[str, Comparison] = {}
    for c in usable:
        sides = [curves(evidence.records, c["cell"], "paired", label) for label in (labels[1], labels[0])]
        found = compare(*sides, c["target"], c["tau"])
        if pooled.enters(found):
            results[c["cell"]] = found
    if not results:
        return None
    runs = [m["run"] for cell in results for label in labels for m in evidence.records.members(cell, "paired", label) if m["record"]]
    return (pooled.mean(results).interval().exp(), min(r.n for r in results.values()), pooled.bound_of(results), runs,
            f"{labels[0]} over {labels[1]}")


def _clean(evidence: Evidence, cell: str, labels: Iterable[str | None]) -> bool:
    """Whether no gate failed for these arms."""
    return not any(arm.row["withheld"].startswith("gate") for arm in evidence.arms if arm.row["cell"] == cell and arm.row["method"] in labels)


def _steps(steps: Sequence[Step], verdict: str) -> Finding:
    bounded = any(bound for _, _, bound, _, _ in steps)
    return Finding(_staged(min(n for _, n, *_ in steps), words.INCONCLUSIVE if bounded else verdict),
                   "; ".join(f"{name} {formats.interval(shown, bound)}" for shown, _, bound, _, name in steps),
                   sorted({run for *_, runs, _ in steps for run in runs}))


def _range(claim: dict, method: str, evidence: Evidence) -> Finding:
    found = [(*result, name) for label, name in _values(claim, evidence) if (result := _over_cells(evidence.of(label)))[3]]
    return _every(claim, found, lambda s: s.low > 1, lambda s: s.high < 1)


def _probe_range(claim: dict, method: str, evidence: Evidence) -> Finding:
    found = [(*result, name) for label, name in _values(claim, evidence)
             if (result := _ratio(evidence, label, lambda record: stability.value(record, claim["probe"])))[3]]
    return _every(claim, found, lambda s: s.high < 1, lambda s: s.low > 1)


def _values(claim: dict, evidence: Evidence) -> list[tuple[str, str]]:
    """The arms of the claim's method with a parameter in its range, and how to call each; by the value."""
    arms = [(parameter(label, claim["method"], claim["parameter"], claim["default"]), label) for label in evidence.records.suite["arms"]]
    return [(label, f"{claim['parameter']} {value:g}") for value, label in sorted((v, label) for v, label in arms if v is not None)
            if claim["least"] <= value <= claim["most"]]


def _every(claim: dict, steps: list[Step], holds: Callable[[Interval], bool], fails: Callable[[Interval], bool]) -> Finding:
    """What holds of every value of a parameter."""
    if len(steps) < 2:
        return Finding(evidence=f"needs at least two values of {claim['parameter']}; this suite has {len(steps)}")
    shown = [step[0] for step in steps]
    return _steps(steps, words.SUPPORTED if all(map(holds, shown)) else words.CONTRADICTED if any(map(fails, shown)) else words.INCONCLUSIVE)


def parameter(label: str, method: str, name: str, default: float) -> float | None:
    """The value of a numeric parameter in an arm's label, its default if it is not written; None for another method."""
    match = DEFAULT_LABEL.match(label)
    if not match or match["name"] != method:
        return None
    given = dict(part.strip().split("=", 1) for part in (match["parameters"] or "").split(",") if "=" in part)
    return number(given.get(name, default))


def _parameters(claim: dict, method: str, evidence: Evidence) -> Finding:
    runs = [m["record"] for c in evidence.cells for m in evidence.records.members(c["cell"], "paired", method) if m["record"]]
    shares = {f"{r['dataset']}/{r['backbone']}": r["start"]["method_params"] / r["start"]["backbone_params"]
              for r in runs if r["start"].get("backbone_params") and r["start"].get("method_params") is not None}
    if not shares:
        return Finding()
    verdict = words.SUPPORTED if max(shares.values()) <= claim["most"] else words.CONTRADICTED
    return Finding(verdict, "; ".join(f"{cell} {100 * share:.2f} %" for cell, share in shares.items()), [r["run"] for r in runs])


def _time(claim: dict, method: str, evidence: Evidence) -> Finding:
    return _paired_values(evidence, method, "seconds per image, arm / baseline", lambda r: r["seconds"] / r["images"] if r["images"] else math.nan,
                          lambda s: words.SUPPORTED if s.high <= claim["most"] else words.CONTRADICTED if s.low > claim["most"] else words.INCONCLUSIVE)


def _probe(claim: dict, method: str, evidence: Evidence) -> Finding:
    return _paired_values(evidence, method, f"{claim['probe'].replace('_', ' ')}, arm / baseline", lambda record: stability.value(record, claim["probe"]),
                          lambda s: words.SUPPORTED if s.high < 1 else words.CONTRADICTED if s.low > 1 else words.INCONCLUSIVE)


def _growth(claim: dict, method: str, evidence: Evidence) -> Finding:
    """Paired differences of exponents, arm - baseline, a family of backbones at a time, then over the families."""
    records, differences, runs = evidence.records, [], []
    for name in dict.fromkeys(stability.family(c["cell"]) for c in evidence.cells):
        base, arm = (stability.exponents(records, name, label) for label in (records.baseline, method))
        if len(both := sorted(base.keys() & arm.keys())) >= words.INTERVAL_SEEDS:
            differences.append(np.array([arm[seed] - base[seed] for seed in both]))
            runs += [run["run"] for cell in records.cells if stability.family(cell) == name
                     for label in (records.baseline, method) for run in stability.measured(records, cell, label)]
    if not differences:
        return Finding()
    moments = [spread(one) for one in differences]
    shown = stats.satterthwaite([m for m, _ in moments], [s for _, s in moments], [len(one) for one in differences]).interval()
    verdict = words.SUPPORTED if shown.high < 0 else words.CONTRADICTED if shown.low > 0 else words.INCONCLUSIVE
    return Finding(_staged(min(map(len, differences)), verdict),
                   f"exponent of depth, arm - baseline: {shown.value:+.2f} [{shown.low:+.2f}, {shown.high:+.2f}]", sorted(set(runs)))


def _paired_values(evidence: Evidence, method: str, what: str, value: Callable[[dict], float], judge: Callable[[Interval], str]) -> Finding:
    """What the paired ratio of a positive number of each run says."""
    shown, n, _, runs = _ratio(evidence, method, value)
    return Finding(_staged(n, judge(shown)), f"{what} {formats.interval(shown)}", sorted(set(runs))) if runs else Finding()


def _ratio(evidence: Evidence, method: str, value: Callable[[dict], float]) -> tuple[Interval, int, str, list[str]]:
    """The ratio arm / baseline of a positive number of each run, on the same seeds, over cells: as _over_cells."""
    logs, runs = [], []
    for c in evidence.cells:
        base = {m["seed"]: m["record"] for m in evidence.records.members(c["cell"], "paired", evidence.records.baseline)
                if m["record"] and m["record"]["status"] == "complete"}
        both = [(base[m["seed"]], m["record"]) for m in evidence.records.members(c["cell"], "paired", method)
                if m["record"] and m["record"]["status"] == "complete" and m["seed"] in base and _clean(evidence, c["cell"], [method])]
        ratios = np.array([[value(b), value(a)] for b, a in both]).reshape(-1, 2)
        ratios = ratios[(np.isfinite(ratios) & (ratios > 0)).all(axis=1)]
        if len(ratios) >= words.INTERVAL_SEEDS:
            logs.append(np.log(ratios[:, 1] / ratios[:, 0]))
            runs += [r["run"] for pair in both for r in pair]
    if not logs:
        return Interval(), 0, "", []
    moments = [spread(one) for one in logs]
    shown = stats.satterthwaite([m for m, _ in moments], [s for _, s in moments], [len(one) for one in logs]).interval().exp()
    shown = shown if math.isfinite(shown.low) else Interval(shown.value, shown.value, shown.value)
    return shown, min(map(len, logs)), "", runs


TESTS: dict[str, Callable[[dict, str, Evidence], Finding]] = {
    "speedup": _speedup, "final": _final, "order": _order, "tuned": _tuned, "same": _same, "range": _range, "parameters": _parameters,
    "time": _time, "probe": _probe, "probe_range": _probe_range, "growth": _growth,
}

RULES = {
    "speedup": "supported: interval above 1.02 and containing {number}; stronger: above {number}; weaker: above 1.02, below {number}; "
               "contradicted: below 1.02",
    "final": "supported: interval of arm / baseline below 1 and a gap of 1.3 % or more; contradicted: above 1",
    "order": "supported: each method's interval over the next above 1; contradicted: one below 1",
    "tuned": "supported: interval over the baseline above 1 at each of its learning rates; contradicted: below 1 at one",
    "same": "supported: interval within [1/1.1, 1.1]; contradicted: outside it",
    "range": "supported: every value's interval above 1; contradicted: one below 1",
    "parameters": "supported: at most {most:.0%} of the backbone's parameters in every cell",
    "time": "supported: interval of arm / baseline at most {most}; contradicted: above it",
    "probe": "supported: interval of arm / baseline below 1; contradicted: above 1",
    "probe_range": "supported: every value's interval of arm / baseline below 1; contradicted: one above 1",
    "growth": "supported: interval of the exponents' difference below 0; contradicted: above 0",
}
