"""The checks: nothing is printed as a comparison unless the records of its runs agree in everything but the method.

`RULES` lists them by name. The docstring of a check is its rule.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.records import labels
from reports.records.event_log import number
from reports.records.reading import short
from reports.records.suite_records import Listed, Records, Result
from reports.report.tree import FLOOR, NULL, Failure, Note

COMPUTE = ("processes", "accumulate", "checkpointing")  # how a run is computed, not what it is: no part of the hash
FLOOR_CHANGE = 1e-5  # largest relative change of the initial weights of the noise floor

Found = Iterator[tuple[str, Sequence[Listed], str]]  # field, the runs that fail or the failing pair, what was found


@dataclass(frozen=True)
class CellRuns:
    """What the checks look at in one cell: its listed runs and the results of those that have begun."""

    name: str
    baseline: str
    listed: list[Listed]
    runs: list[Result]

    def pairs(self, *roles: str) -> Iterator[tuple[Result, Result]]:
        """(baseline, other) for every run of these roles whose baseline, or null arm's partner, has a result."""
        paired = {(run.method, run.seed): run for run in self.runs if run.role == "paired"}
        for run in self.runs:
            method = self.baseline if run.role == "paired" else run.method
            partner = paired.get((method, run.seed if run.pair is None else run.pair))
            if run.role in roles and partner is not None and partner is not run:
                yield partner, run

    def scope(self, run: Listed) -> str:
        """The arm that a fault of this run touches; "" for a pilot or a baseline, which touch all."""
        if run.role in ("null", "floor"):
            return NULL if run.role == "null" else FLOOR
        return "" if run.role == "pilot" or run.method == self.baseline else run.method

    def alike(self, field: str, values: Mapping[str, Any], recorded: bool = True) -> Found:
        """Where `values`, by run, differ: those that are rarer. recorded: None fails, too."""
        keys = {run: json.dumps(value, sort_keys=True) for run, value in values.items()}
        common = Counter(keys.values()).most_common(1)[0][0] if keys else ""
        example = next((run for run, key in keys.items() if key == common), "")
        odd: dict[tuple[str, str], list[Result]] = {}
        for run in self.runs:
            if run.run in keys and (keys[run.run] != common or (recorded and values[run.run] is None)):
                odd.setdefault((self.scope(run), keys[run.run]), []).append(run)
        for (_, key), runs in odd.items():
            differs = f"{_text(values[runs[0].run])}; {example} has {_text(values[example])}"
            yield field, runs, "not recorded" if recorded and key == "null" else differs


def failures(records: Records) -> list[Failure]:
    """Every failed check of a suite."""
    failed = []
    for cell in _cells(records):
        for check in RULES:
            for field, runs, what in OWN[check](cell) if check in OWN else _fields(cell, *FIELDS[check][1:]):
                names = [run.run for run in runs]
                failed.append(Failure(cell.name, cell.scope(runs[-1]), check, field, names, what))
    return failed


def computed(records: Records) -> list[Note]:
    """Where processes, accumulation or recomputation differ within a pair, which is said and is no failure."""
    found = []
    for cell, key in itertools.product(_cells(records), COMPUTE):
        pairs = list(cell.pairs("paired", "null", "floor"))
        if odd := [pair for pair in pairs if pair[0].computed_with(key) != pair[1].computed_with(key)]:
            runs = sorted({run.run for pair in odd for run in pair})
            found.append(Note(f"{cell.name}: {key} differs within {len(odd)} of {len(pairs)} pairs.", runs))
    return found


def _cells(records: Records) -> Iterator[CellRuns]:
    for name in (cell.name for cell in records.suite.cells):
        listed = [run for run in records.suite.runs if run.cell == name and run.role != "tuning"]
        runs = [records.results[run.run] for run in listed if run.run in records.results]
        yield CellRuns(name, records.suite.baseline, listed, runs)


def _fields(cell: CellRuns, roles: Sequence[str], fields: Sequence[str]) -> Found:
    """Fields of the start events that must be recorded and equal: over a cell, or within the pairs of `roles`."""
    for field in fields:
        if not roles:
            yield from cell.alike(field, {run.run: run.start.get(field) for run in cell.runs})
        for pair in cell.pairs(*roles):
            yield from _equal(field, pair, pair[0].start.get(field), pair[1].start.get(field))


def _equal(field: str, pair: tuple[Result, Result], first: Any, second: Any) -> Found:
    if first is None or second is None:
        yield field, pair, "not recorded"
    elif first != second:
        yield field, pair, f"{_text(first)} against {_text(second)}"


def _seeds(cell: CellRuns) -> Found:
    """seeds distinct within an arm; no seed in two of pilots, pairs and null arm"""
    owner: dict[tuple[bool, int], Listed] = {}  # the noise floor has the seeds of its baselines
    for run in cell.listed:
        other = owner.setdefault((run.role == "floor", run.seed), run)
        if other is not run and (other.method == run.method or other.role != run.role):
            yield "seed", (other, run), f"{run.seed} is used twice"


def _identity(cell: CellRuns) -> Found:
    """the hash of a run is that of its resolved configuration"""
    for run in cell.runs:
        canonical = json.dumps(run.spec, sort_keys=True, separators=(",", ":"))
        if run.hash != (own := hashlib.sha256(canonical.encode()).hexdigest()):
            yield "hash", (run,), f"{short(run.hash)} is not that of its configuration, {short(own)}"


def _configurations(cell: CellRuns) -> Found:
    """configurations equal but for seed, method and a learning rate that an arm is named after"""
    flat = {run.run: dict(_flatten(run.spec)) for run in cell.runs}
    for run in cell.runs:  # an arm may say in its label that it changes the learning rate
        if isinstance(rate := flat[run.run].get("optimizer.lr"), float):
            flat[run.run]["optimizer.lr"] = labels.scaled(rate, 1 / labels.read(run.method)[1])
    keys = {key for spec in flat.values() for key in spec if not key.startswith("method.")}
    for key in sorted(keys - {"seed", "perturbation"}):  # the noise floor perturbs its initial weights
        yield from cell.alike(key, {run: spec.get(key) for run, spec in flat.items()}, recorded=False)


def _flatten(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in spec.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _samples(cell: CellRuns) -> Found:
    """sample count and number of function evaluations equal"""
    for key in ("samples", "nfe"):
        begun = [run for run in cell.runs if run.evaluations]
        values = {run.run: sorted({str(getattr(one, key)) for one in run.evaluations}) for run in begun}
        for run in (run for run in begun if len(values[run.run]) > 1):
            yield key, (run,), f"changes within the run: {', '.join(values[run.run])}"
        yield from cell.alike(key, {run: found[0] for run, found in values.items()})


def _evaluations(cell: CellRuns) -> Found:
    """every evaluation of the configuration counted once, also after a resume"""
    for run in cell.runs:
        images, planned = [e.images for e in run.evaluations], run.spec["evaluation"]["images"]
        what = {
            "counted twice or out of order": [a for a, b in itertools.pairwise(images) if a >= b],
            "not in its configuration": sorted(set(images) - set(planned)),
            "lacking although the run is complete": sorted(set(planned) - set(images)) * (run.status == "complete"),
        }
        found = [f"{text}: {at[0]:,}" + f" and {len(at) - 1} more" * (len(at) > 1) for text, at in what.items() if at]
        if found:
            yield "images", (run,), "; ".join(found)


def _draws(cell: CellRuns) -> Found:
    """digest of the drawn batch indices and timesteps equal within a pair and in the noise floor"""
    for baseline, arm in cell.pairs("paired", "floor"):
        drawn = {e.images: e.draws for e in baseline.evaluations}
        both = [(e.images, drawn[e.images], e.draws) for e in arm.evaluations if e.images in drawn]
        if odd := next((one for one in both if one[1] is None or one[1] != one[2]), None):
            yield from _equal(f"draws up to {odd[0]:,} images", (baseline, arm), odd[1], odd[2])


def _null(cell: CellRuns) -> Found:
    """initial weights and draws of a null run differ from its partner's"""
    for pair in cell.pairs("null"):  # one that shares them would show less noise than there is
        drawn = [{e.images: e.draws for e in run.evaluations if e.draws is not None} for run in pair]
        same = {"init_digest": pair[0].start.get("init_digest") == pair[1].start.get("init_digest")}
        same["draws"] = bool(drawn[0].items() & drawn[1].items())
        yield from ((field, pair, "equal; it must differ in the null arm") for field, equal in same.items() if equal)


def _floor(cell: CellRuns) -> Found:
    """initial weights of the noise floor within 1e-5 of its baseline's, and not equal"""
    for pair in cell.pairs("floor"):
        if not 0 < (change := number(pair[1].start.get("init_change"))) < FLOOR_CHANGE:
            yield "init_change", pair, f"relative change {change:.2g}, not above 0 and below {FLOOR_CHANGE:g}"


def _further(cell: CellRuns) -> Found:
    """digests of the weights of further extractors equal"""
    yield from cell.alike("beside", {run.run: run.start.get("beside", {}) for run in cell.runs})


def _text(value: Any) -> str:
    text = str(value)
    return short(text) if len(text) == 64 else text if len(text) < 80 else text[:77] + "..."


OWN = {"seeds": _seeds, "identity": _identity, "configurations": _configurations, "draws": _draws}
OWN |= {"evaluations": _evaluations, "samples": _samples, "null arm": _null, "noise floor": _floor}
OWN |= {"further extractors": _further}
FIELDS = {  # of start events that must be equal: the rule, within the pairs of which roles (none: over a cell), fields
    "initial weights": ("digest of the initial backbone weights equal within a pair", ["paired"], ["init_digest"]),
    "data": ("digest of the data equal", [], ["data_digest"]),
    "device": ("device type equal within a pair", ["paired", "null", "floor"], ["device"]),
    "protocol": ("protocol version equal", [], ["protocol"]),
    "extractor": ("extractor, its weights' digest, resize equal", [], ["extractor", "extractor_digest", "resize"]),
    "reference": ("digest and size of the reference set equal", [], ["reference_digest", "reference_size"]),
}
RULES = {check: str(find.__doc__) for check, find in OWN.items()} | {check: rule[0] for check, rule in FIELDS.items()}
