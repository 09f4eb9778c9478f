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
growth      the norm of hidden features grows more slowly with the number of skips than the baseline's, on the same seeds;
            `growing`: late, over the second half of training (the default), or start, at the initial weights
bounded     in every family of backbones that norm grows with an exponent of at most `most`
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from reports import formats, sentences, stability, words
from reports.records import labels as labels_of
from reports.cells import curves
from reports.comparison import Comparison, compare, spread
from reports.evidence import Evidence, Finding, Part, Step, all_of, clean, pool, ratio, side, silent, single
from reports.records.reading import number

UNGROWN = "no seed with every depth of a family, or a single depth"
DEFAULT_LABEL = re.compile(r"^(?P<name>[^(]+)(\((?P<parameters>.*)\))?$")


def tested(claim: dict, label: str, evidence: Evidence) -> Finding:
    """What a suite says of a claim about an arm (label: "" if it is about none), and how many of the runs it rests on diverged."""
    found = TESTS[claim["test"]](claim, label, evidence)
    lost = [run["run"] for one in _about(claim, label, evidence) for run in evidence.runs(one, "diverged")]
    if not lost:
        return found
    if found == Finding():
        found = Finding(words.INCONCLUSIVE, "no number to judge by")
    said = f"{formats.plural(len(lost), 'run')} diverged{'' if claim['test'] in COUNTED else ' and left out'}"
    return Finding(found.verdict, f"{found.evidence}; {said}", sorted({*found.runs, *lost}))


COUNTED = ("speedup", "order", "range", "tuned", "same")  # where a run that diverged counts as not reaching the target


def _about(claim: dict, label: str, evidence: Evidence) -> list[str]:
    """The arms whose runs a claim rests on."""
    baseline = evidence.records.baseline
    if claim["test"] == "parameters":
        return []
    if "order" in claim:
        return [one for name in claim["order"] if (one := evidence.label(name))]
    if claim["test"] == "tuned":
        return [label, *_rates(evidence)]
    return [*_values(claim, evidence), baseline] if "parameter" in claim else [label] if claim["test"] == "bounded" else [label, baseline]


def _speedup(claim: dict, method: str, evidence: Evidence) -> Finding:
    step = _over_cells(evidence, method, "speedup")
    return single(step, words.claim(step.shown.low, step.shown.high, claim["number"], step.bound)) if step else _untold(evidence, method)


def _over_cells(evidence: Evidence, method: str, name: str) -> Step | None:
    """Speedup over the cells that have a headline."""
    return pool(evidence, name, [_part(arm.result, arm.row["runs"]) for arm in evidence.of(method)
                                  if arm.pools and arm.result and math.isfinite(arm.result.speedup)])


def _part(result: Comparison, runs: list[str]) -> Part:
    return Part(result.mean, result.sd, result.n, runs, result.bound)


def _untold(evidence: Evidence, method: str) -> Finding:
    """Why there is no speedup of a method that may have runs."""
    rows = [arm.row for arm in evidence.of(method)]
    if not any(evidence.records.runs[run]["method"] == method for row in rows for run in row["runs"]):
        return Finding()
    reasons = sorted({sentences.unsaid(row, evidence.records.baseline) for row in rows})
    return Finding(words.INCONCLUSIVE if any(row["n"] for row in rows) else words.NOT_TESTED,
                   f"no number to judge by: {', '.join(reasons)}", sorted({run for row in rows for run in row["runs"]}))


def _final(claim: dict, method: str, evidence: Evidence) -> Finding:
    arms = [arm for arm in evidence.of(method) if arm.result and not arm.row["withheld"].startswith("gate")]  # no target needed
    step = pool(evidence, "distance at the full budget, arm / baseline,",
                 [Part(f.mean, f.sd, f.n, arm.row["runs"]) for arm in arms if arm.result and (f := arm.result.final).n])
    if step is None:
        return silent(evidence, [method], "no pair of runs that came to the end and passed the gates")
    small = abs(math.log(step.shown.value)) < math.log1p(words.NOTABLE)
    return single(step, words.INCONCLUSIVE if small else side(step.above(1), step.below(1)),
                "; a gap under 1.3 % is not discussed as a difference" if small else "")


def _order(claim: dict, method: str, evidence: Evidence) -> Finding:
    pairs = list(zip(claim["order"], claim["order"][1:], strict=False))
    return _versus_all(evidence, [(evidence.label(first), evidence.label(second)) for first, second in pairs])


def _tuned(claim: dict, method: str, evidence: Evidence) -> Finding:
    """Against every learning rate of the baseline, so that none is picked on the runs that are compared."""
    base = _rates(evidence)
    if len(base) < 2:
        return Finding(evidence=f"needs runs of {evidence.records.baseline} at two learning rates or more")
    return _versus_all(evidence, [(method, label) for label in base], lower=True)


def _rates(evidence: Evidence) -> list[str]:
    """The baseline at every learning rate."""
    return [label for label in evidence.records.suite["arms"] if labels_of.read(label)[0] == evidence.records.baseline]


def _versus_all(evidence: Evidence, pairs: Sequence[tuple[str | None, str | None]], lower: bool = False) -> Finding:
    """Whether the first of each pair of arms is faster than the second."""
    if any(label is None or not evidence.runs(label, "complete", "diverged") for pair in pairs for label in pair):
        return Finding()
    steps = {f"{first} over {second}": _versus(evidence, first, second, lower) for first, second in pairs if first and second}
    return all_of(steps, lambda s: s.above(1), lambda s: s.below(1),
                silent(evidence, [label for pair in pairs for label in pair], "no headline in any cell", targets=True))


def _same(claim: dict, method: str, evidence: Evidence) -> Finding:
    first, second = map(evidence.label, claim["order"])
    step = _versus(evidence, first, second) if first and second else None
    if step is None:
        return silent(evidence, [first, second], "no headline in any cell", targets=True)
    inside = not step.bound and 1 / words.SAME <= step.shown.low and step.shown.high <= words.SAME
    return single(step, side(step.above(words.SAME) or step.below(1 / words.SAME), inside))


def _versus(evidence: Evidence, first: str, second: str, lower: bool = False) -> Step | None:
    """Speedup of one arm over another on the same seeds, over the cells that have both; None if no cell has.

    lower: where so many runs of the second did not reach the target that there is no headline, but all of the first did, take
    the ratio of min(T, tau), which the true ratio can only exceed.
    """
    parts = []
    for c in evidence.cells:
        if c["target"] is None or c["label"] or not clean(evidence, c["cell"], (first, second)):
            continue
        found = compare(*(curves(evidence.records, c["cell"], "paired", label) for label in (second, first)), c["target"], c["tau"])
        bounded = all(pair.arm.status == "reached" and not pair.baseline.at_first for pair in found.pairs)
        if not math.isfinite(found.speedup) and lower and bounded:
            found = replace(found, bound=">=")
        elif not math.isfinite(found.speedup):
            continue
        parts.append(_part(found, [m["run"] for label in (first, second) for m in evidence.records.members(c["cell"], "paired", label) if m["record"]]))
    return pool(evidence, f"{first} over {second}", parts)


def _range(claim: dict, method: str, evidence: Evidence) -> Finding:
    return _each_value(claim, evidence, lambda label, name: _over_cells(evidence, label, name), lambda s: s.above(1), lambda s: s.below(1))


def _probe_range(claim: dict, method: str, evidence: Evidence) -> Finding:
    return _each_value(claim, evidence, lambda label, name: ratio(evidence, label, name, lambda record: stability.value(record, claim["probe"])),
                  lambda s: s.below(1), lambda s: s.above(1))


def _values(claim: dict, evidence: Evidence) -> dict[str, str]:
    """The arms of the claim's method with a parameter in its range, and how to call each; by the value."""
    arms = [(parameter(label, claim["method"], claim["parameter"], claim["default"]), label) for label in evidence.records.suite["arms"]]
    return {label: f"{claim['parameter']} {value:g}" for value, label in sorted((v, label) for v, label in arms if v is not None)
            if claim["least"] <= value <= claim["most"]}


def _each_value(claim: dict, evidence: Evidence, measure: Callable[[str, str], Step | None],
           holds: Callable[[Step], bool], fails: Callable[[Step], bool]) -> Finding:
    """What holds of every value of a parameter that has runs."""
    values = {label: name for label, name in _values(claim, evidence).items() if evidence.runs(label, "complete", "diverged")}
    if len(values) < 2:
        return Finding(evidence=f"needs at least two values of {claim['parameter']}; this suite has {len(values)}")
    return all_of({name: measure(label, name) for label, name in values.items()}, holds, fails, Finding(evidence="no number to judge by"))


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
    """Withheld where the same networks, as the A/A arm, do not keep within the limit: then the machine was not quiet enough."""
    limit, name = claim["most"], "seconds per image, arm / baseline"
    step, null = ratio(evidence, method, name, _pace), ratio(evidence, evidence.records.baseline, "A/A", _pace, "null")
    if step is None:
        return silent(evidence, [method], "no pair of runs that came to the end and passed the gates")
    ends = [end for end in (null.shown.value, null.shown.low, null.shown.high) if math.isfinite(end)] if null else []
    if null and not all(1 / limit <= end <= limit for end in ends):
        return Finding(words.INCONCLUSIVE, f"{step.said}; the machine was not quiet: {null.said}", sorted({*step.runs, *null.runs}))
    return single(step, side(step.above(limit), step.shown.high <= limit))


def _pace(record: dict) -> float:
    return record["seconds"] / record["images"] if record["images"] else math.nan


def _probe(claim: dict, method: str, evidence: Evidence) -> Finding:
    what = claim["probe"].replace("_", " ")
    step = ratio(evidence, method, f"{what}, arm / baseline", lambda record: stability.value(record, claim["probe"]), fragile=True)
    return single(step, side(step.above(1), step.below(1))) if step else silent(evidence, [method], "no pair of runs that measured it")


def _growth(claim: dict, method: str, evidence: Evidence) -> Finding:
    """Paired differences of exponents, arm - baseline, a family of backbones at a time, then over the families."""
    baseline, parts = evidence.records.baseline, []
    for name in _families(evidence):
        base, arm = (stability.exponents(evidence.records, name, label, claim.get("growing", "late")) for label in (baseline, method))
        differences = np.array([arm[seed] - base[seed] for seed in sorted(base.keys() & arm.keys())])
        parts.append(Part(*spread(differences), len(differences), _behind(evidence, name, (baseline, method))))
    step = pool(evidence, "exponent of depth, arm - baseline:", parts, slope=True)
    return single(step, side(step.above(0), step.below(0))) if step else silent(evidence, [method], UNGROWN)


def _bounded(claim: dict, method: str, evidence: Evidence) -> Finding:
    """The arm's own exponent in each family, since one that falls must not make up for one that grows."""
    steps = {}
    for name in _families(evidence):
        found = np.array(list(stability.exponents(evidence.records, name, method).values()))
        if len(found):
            family = replace(evidence, cells=[c for c in evidence.cells if stability.family(c["cell"]) == name])
            steps[name] = pool(family, f"exponent of depth, {name}", [Part(*spread(found), len(found), _behind(evidence, name, (method,)))], slope=True)
    return all_of(steps, lambda s: s.below(claim["most"]), lambda s: s.above(claim["most"]), silent(evidence, [method], UNGROWN))


def _families(evidence: Evidence) -> list[str]:
    return list(dict.fromkeys(stability.family(c["cell"]) for c in evidence.cells))


def _behind(evidence: Evidence, family: str, labels: Sequence[str]) -> list[str]:
    """The runs that exponents of these arms are made from."""
    return [run["run"] for cell in evidence.records.cells if stability.family(cell) == family
            for label in labels for run in stability.measured(evidence.records, cell, label)]


TESTS: dict[str, Callable[[dict, str, Evidence], Finding]] = {
    "speedup": _speedup, "final": _final, "order": _order, "tuned": _tuned, "same": _same, "range": _range, "parameters": _parameters,
    "time": _time, "probe": _probe, "probe_range": _probe_range, "growth": _growth, "bounded": _bounded,
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
    "time": "supported: interval of arm / baseline at most {most}; contradicted: above it; no verdict where the A/A arm's interval is not within "
            "[1/{most}, {most}]",
    "probe": "supported: interval of arm / baseline below 1; contradicted: above 1",
    "probe_range": "supported: every value's interval of arm / baseline below 1; contradicted: one above 1",
    "growth": "supported: interval of the exponents' difference below 0; contradicted: above 0",
    "bounded": "supported: interval of the arm's own exponent below {most} in every family of backbones; contradicted: above it in one",
}
