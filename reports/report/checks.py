"""The checks: nothing is printed as a comparison unless the records of its runs agree in everything but the method.

`RULES` lists them by name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports.records import labels
from reports.records.event_log import number
from reports.records.reading import short
from reports.records.suite_records import Listed, Records, Result
from reports.report.tree import FLOOR, NULL, Failure, Note

COMPUTE = ("processes", "accumulate", "checkpointing")  # how a run is computed, not what it is: no part of the hash
FLOOR_KEYS = ("role", "init_noise", "perturbation")  # of a configuration that make a run of the noise floor
FLOOR_CHANGE = 1e-5  # largest relative change of the initial weights of the noise floor


@dataclass(frozen=True)
class Cell:
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

    def scope(self, run: Result | Listed) -> str:
        """The arm that a fault of this run touches; "" for a pilot or a baseline, which touch all."""
        if run.role in ("null", "floor"):
            return NULL if run.role == "null" else FLOOR
        return "" if run.role == "pilot" or run.method == self.baseline else run.method

    def fail(self, check: str, field: str, runs: Sequence[Result | Listed], what: str) -> Failure:
        """A failure that touches the arm of the last of `runs`."""
        return Failure(self.name, self.scope(runs[-1]), check, field, [run.run for run in runs], what)

    def equal(self, check: str, field: str, pair: tuple[Result, Result], values: tuple[Any, Any]) -> Iterator[Failure]:
        """Whether the two values of a pair are recorded and equal."""
        if None in values:
            yield self.fail(check, field, pair, "not recorded")
        elif values[0] != values[1]:
            yield self.fail(check, field, pair, f"{_text(values[0])} against {_text(values[1])}")

    def agree(self, check: str, field: str, values: dict[str, Any], recorded: bool = True) -> Iterator[Failure]:
        """Whether `values`, by run, are equal; else those that are rarer are named. recorded: None fails."""
        keys = {run: json.dumps(value, sort_keys=True) for run, value in values.items()}
        common = Counter(keys.values()).most_common(1)[0][0] if keys else ""
        example = next((run for run, key in keys.items() if key == common), "")
        odd: dict[tuple[str, str], list[Result]] = {}
        for run in self.runs:
            if run.run in keys and (keys[run.run] != common or (recorded and values[run.run] is None)):
                odd.setdefault((self.scope(run), keys[run.run]), []).append(run)
        for (_, key), runs in odd.items():
            lacking = recorded and key == "null"
            shown = f"{_text(values[runs[0].run])}; {example} has {_text(values[example])}"
            what = "not recorded" if lacking else shown
            yield self.fail(check, field, runs, what)


def failures(records: Records) -> list[Failure]:
    """Every failed check of a suite."""
    return [failure for cell in _cells(records) for check in RULES for failure in _failures(cell, check)]


def _failures(cell: Cell, check: str) -> Iterator[Failure]:
    yield from OTHERS[check](cell) if check in OTHERS else ()
    for key in EQUAL.get(check, ()):
        yield from cell.agree(check, key, {run.run: run.start.get(key) for run in cell.runs})
    key, roles = PAIRED.get(check, ("", ()))
    for pair in cell.pairs(*roles):
        yield from cell.equal(check, key, pair, (pair[0].start.get(key), pair[1].start.get(key)))


def computed(records: Records) -> list[Note]:
    """Where processes, accumulation or recomputation differ within a pair, which is said and is no failure."""
    found = []
    for cell in _cells(records):
        pairs = list(cell.pairs("paired", "null", "floor"))
        for key in COMPUTE:
            odd = [pair for pair in pairs if pair[0].recorded(key) != pair[1].recorded(key)]
            if odd:
                runs = sorted({run.run for pair in odd for run in pair})
                found.append(Note(f"{cell.name}: {key} differs within {len(odd)} of {len(pairs)} pairs.", runs))
    return found


def _cells(records: Records) -> Iterator[Cell]:
    for name in (cell.name for cell in records.suite.cells):
        listed = [run for run in records.suite.runs if run.cell == name and run.role != "tuning"]
        runs = [records.results[run.run] for run in listed if run.run in records.results]
        yield Cell(name, records.suite.baseline, listed, runs)


def _seeds(cell: Cell) -> Iterator[Failure]:
    """A run of the noise floor has the seed of its baseline, and no other role shares one."""
    owner: dict[tuple[bool, int], Listed] = {}
    for run in cell.listed:
        other = owner.setdefault((run.role == "floor", run.seed), run)
        same_arm = (other.role, other.method) == (run.role, run.method)
        if other is not run and (same_arm or other.role != run.role):
            yield cell.fail("seeds", "seed", (other, run), f"{run.seed} is used twice")


def _identity(cell: Cell) -> Iterator[Failure]:
    for run in cell.runs:
        what_it_is = {key: value for key, value in run.spec.items() if key not in COMPUTE}
        found = [_digest(spec) for spec in (what_it_is, run.spec)]
        if run.hash not in found:
            what = f"{short(run.hash)} is not that of its configuration, {short(found[0])}"
            yield cell.fail("identity", "hash", (run,), what)


def _digest(spec: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _configurations(cell: Cell) -> Iterator[Failure]:
    flat = {run.run: dict(_flatten(run.spec)) for run in cell.runs}
    for run in cell.runs:  # an arm may say in its label that it changes the learning rate
        if isinstance(rate := flat[run.run].get("optimizer.lr"), float):
            flat[run.run]["optimizer.lr"] = labels.scaled(rate, 1 / labels.read(run.method)[1])
    free = {"seed", *COMPUTE, *FLOOR_KEYS}
    keys = {key for spec in flat.values() for key in spec if key not in free and not key.startswith("method.")}
    for key in sorted(keys):
        values = {run: spec.get(key) for run, spec in flat.items()}
        yield from cell.agree("configurations", key, values, recorded=False)


def _flatten(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in spec.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _samples(cell: Cell) -> Iterator[Failure]:
    for key in ("samples", "nfe"):
        begun = [run for run in cell.runs if run.evaluations]
        values = {run.run: sorted({str(getattr(one, key)) for one in run.evaluations}) for run in begun}
        for run in cell.runs:
            if len(values.get(run.run, ())) > 1:
                yield cell.fail("samples", key, (run,), f"changes within the run: {', '.join(values[run.run])}")
        yield from cell.agree("samples", key, {run: found[0] for run, found in values.items()})


def _evaluations(cell: Cell) -> Iterator[Failure]:
    for run in cell.runs:
        images, planned = [e.images for e in run.evaluations], run.spec["evaluation"]["images"]
        what = {
            "counted twice or out of order": [a for a, b in itertools.pairwise(images) if a >= b],
            "not in its configuration": sorted(set(images) - set(planned)),
            "lacking although the run is complete": sorted(set(planned) - set(images)) * (run.status == "complete"),
        }
        found = [f"{text}: {at[0]:,}" + f" and {len(at) - 1} more" * (len(at) > 1) for text, at in what.items() if at]
        if found:
            yield cell.fail("evaluations", "images", (run,), "; ".join(found))


def _draws(cell: Cell) -> Iterator[Failure]:
    for baseline, arm in cell.pairs("paired", "floor"):
        drawn = {e.images: e.draws for e in baseline.evaluations}
        both = [(e.images, drawn[e.images], e.draws) for e in arm.evaluations if e.images in drawn]
        odd = next((one for one in both if one[1] is None or one[1] != one[2]), None)
        if odd:
            yield from cell.equal("draws", f"draws up to {odd[0]:,} images", (baseline, arm), odd[1:])


def _null(cell: Cell) -> Iterator[Failure]:
    """A null run that shares its partner's weights or draws would show less noise than there is."""
    for pair in cell.pairs("null"):
        drawn = [{e.images: e.draws for e in run.evaluations if e.draws is not None} for run in pair]
        same = {"init_digest": pair[0].start.get("init_digest") == pair[1].start.get("init_digest")}
        same["draws"] = bool(drawn[0].items() & drawn[1].items())
        for field in (field for field, equal in same.items() if equal):
            yield cell.fail("null arm", field, pair, "equal; it must differ in the null arm")


def _floor(cell: Cell) -> Iterator[Failure]:
    """A run of the noise floor starts from its baseline's weights, changed by rounding's size but changed."""
    for pair in cell.pairs("floor"):
        change = number(pair[1].start.get("init_change"))
        if not 0 < change < FLOOR_CHANGE:
            what = f"relative change {change:.2g}, not above 0 and below {FLOOR_CHANGE:g}"
            yield cell.fail("noise floor", "init_change", pair, what)


def _text(value: Any) -> str:
    text = str(value)
    return short(text) if len(text) == 64 else text if len(text) < 80 else text[:77] + "..."


# Fields of the start events that must be recorded and equal: over a cell, or within the pairs of these roles.
EQUAL = {
    "data": ("data_digest",), "protocol": ("protocol",), "extractor": ("extractor", "extractor_digest", "resize"),
    "reference": ("reference_digest", "reference_size"),
}  # fmt: skip
PAIRED = {"initial weights": ("init_digest", ("paired",)), "device": ("device", ("paired", "null", "floor"))}
OTHERS = {
    "seeds": _seeds, "identity": _identity, "configurations": _configurations, "draws": _draws,
    "evaluations": _evaluations, "samples": _samples, "null arm": _null, "noise floor": _floor,
}  # fmt: skip
RULES = {
    "seeds": "seeds distinct within an arm; no seed in two of pilots, pairs and null arm",
    "identity": "the hash of a run is that of its resolved configuration",
    "configurations": "configurations equal but for seed, method and a learning rate that an arm is named after",
    "initial weights": "digest of the initial backbone weights equal within a pair",
    "data": "digest of the data equal",
    "draws": "digest of the drawn batch indices and timesteps equal within a pair and in the noise floor",
    "device": "device type equal within a pair",
    "evaluations": "every evaluation of the configuration counted once, also after a resume",
    "protocol": "protocol version equal",
    "extractor": "extractor, its weights' digest and the resize equal",
    "samples": "sample count and number of function evaluations equal",
    "reference": "digest and size of the reference set equal",
    "null arm": "initial weights and draws of a null run differ from its partner's",
    "noise floor": "initial weights of the noise floor within 1e-5 of its baseline's, and not equal",
}
