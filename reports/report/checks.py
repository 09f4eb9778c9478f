"""The checks: nothing is printed as a comparison unless the records of its runs agree in everything but the method.

`RULES` lists them by name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.records import labels
from reports.records.event_log import number
from reports.records.reading import short
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import Listed, Records, Result, read
from reports.report.tree import FLOOR, NULL, Failure, Note

COMPUTE = ("processes", "accumulate", "checkpointing")  # how a run is computed, not what it is: no part of the hash
FLOOR_CHANGE = 1e-5  # largest relative change of the initial weights of the noise floor
Found = Iterator[tuple[str, Sequence[Listed], str]]  # field, runs that fail, what was found


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
        for run in (run for run in self.runs if run.role in roles):
            method = self.baseline if run.role == "paired" else run.method
            partner = paired.get((method, run.seed if run.pair is None else run.pair))
            if partner is not None and partner is not run:
                yield partner, run

    def scope(self, run: Listed) -> str:
        """The arm that a fault of this run touches; "" for a pilot or a baseline, which touch all."""
        if run.role in ("null", "floor"):
            return NULL if run.role == "null" else FLOOR
        return "" if run.role == "pilot" or run.method == self.baseline else run.method


def failures(records: Records) -> list[Failure]:
    """Every failed check of a suite; it touches the arm of the last of its runs."""
    return [
        Failure(cell.name, cell.scope(runs[-1]), check, field, [run.run for run in runs], what)
        for cell in _cells(records)
        for check in RULES
        for field, runs, what in (_same(cell, *SAME[check]) if check in SAME else OTHERS[check](cell))
    ]


def computed(records: Records) -> list[Note]:
    """Where processes, accumulation or recomputation differ within a pair, which is said and is no failure."""
    found = []
    for cell, key in itertools.product(_cells(records), COMPUTE):
        pairs = list(cell.pairs("paired", "null", "floor"))
        odd = [pair for pair in pairs if pair[0].recorded(key) != pair[1].recorded(key)]
        runs = sorted({run.run for pair in odd for run in pair})
        found += [Note(f"{cell.name}: {key} differs within {len(odd)} of {len(pairs)} pairs.", runs)] * bool(odd)
    return found


def unfinished(root: Path | str, suite: str) -> dict[str, State]:
    """The state of every listed run that has no result: failed, stopped, running or missing."""
    records = read(root, suite)
    states = {run.run: RunFolder(records.folder / run.run).state() for run in records.suite.runs}
    return {run: state for run, state in states.items() if not state.done}


def _cells(records: Records) -> Iterator[Cell]:
    for name in (cell.name for cell in records.suite.cells):
        listed = [run for run in records.suite.runs if run.cell == name and run.role != "tuning"]
        runs = [records.results[run.run] for run in listed if run.run in records.results]
        yield Cell(name, records.suite.baseline, listed, runs)


def _same(cell: Cell, fields: Sequence[str], *roles: str) -> Found:
    """Fields of the start event that must be recorded and equal: over the cell, or within the pairs of these roles."""
    for field in fields:
        yield from () if roles else _agree(cell, field, {run: run.start.get(field) for run in cell.runs})
        for pair in cell.pairs(*roles):
            if what := _unequal(*(run.start.get(field) for run in pair)):
                yield field, pair, what


def _agree(cell: Cell, field: str, values: Mapping[Result, Any]) -> Found:
    """The runs whose value is not recorded, or rarer than another, by arm and value."""
    keys = {run: json.dumps(value, sort_keys=True) for run, value in values.items()}
    common, _ = Counter(keys.values()).most_common(1)[0] if keys else ("", 0)
    example = next((run for run, key in keys.items() if key == common), None)
    odd: dict[tuple[str, str], list[Result]] = {}
    for run, key in keys.items():
        if key != common or key == "null":
            odd.setdefault((cell.scope(run), key), []).append(run)
    for (_, key), runs in odd.items():
        shown = f"{_text(values[runs[0]])}; {example.run} has {_text(values[example])}" if example else ""
        yield field, runs, "not recorded" if key == "null" else shown


def _unequal(one: Any, other: Any) -> str:
    """What keeps two values from being recorded and equal; "" if they are."""
    if None in (one, other):
        return "not recorded"
    return f"{_text(one)} against {_text(other)}" if one != other else ""


def _text(value: Any) -> str:
    text = str(value)
    return short(text) if len(text) == 64 else text if len(text) < 80 else text[:77] + "..."


def _seeds(cell: Cell) -> Found:
    """A run of the noise floor has the seed of its baseline, and no other role shares one."""
    owner: dict[tuple[bool, int], Listed] = {}
    for run in cell.listed:
        other = owner.setdefault((run.role == "floor", run.seed), run)
        if other is not run and (other.method == run.method or other.role != run.role):
            yield "seed", (other, run), f"{run.seed} is used twice"


def _identity(cell: Cell) -> Found:
    for run in cell.runs:
        what_it_is = {key: value for key, value in run.spec.items() if key not in COMPUTE}
        texts = [json.dumps(spec, sort_keys=True, separators=(",", ":")) for spec in (what_it_is, run.spec)]
        found = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        if run.hash not in found:
            yield "hash", (run,), f"{short(run.hash)} is not that of its configuration, {short(found[0])}"


def _configurations(cell: Cell) -> Found:
    flat = {run: dict(_flatten(run.spec)) for run in cell.runs}
    for run, spec in flat.items():  # an arm may say in its label that it changes the learning rate
        if isinstance(rate := spec.get("optimizer.lr"), float):
            spec["optimizer.lr"] = labels.scaled(rate, 1 / labels.read(run.method)[1])
    free = {"seed", "perturbation", *COMPUTE}
    keys = {key for spec in flat.values() for key in spec if key not in free and not key.startswith("method.")}
    for key in sorted(keys):
        yield from _agree(cell, key, {run: str(spec.get(key)) for run, spec in flat.items()})


def _flatten(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in spec.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _samples(cell: Cell) -> Found:
    for field in ("samples", "nfe"):
        found = {run: sorted({str(getattr(one, field)) for one in run.evaluations}) for run in cell.runs}
        for run, values in found.items():
            if len(values) > 1:
                yield field, (run,), f"changes within the run: {', '.join(values)}"
        yield from _agree(cell, field, {run: values[0] for run, values in found.items() if values})


def _evaluations(cell: Cell) -> Found:
    for run in cell.runs:
        images, planned = [one.images for one in run.evaluations], run.spec["evaluation"]["images"]
        what = {
            "counted twice or out of order": [a for a, b in itertools.pairwise(images) if a >= b],
            "not in its configuration": sorted(set(images) - set(planned)),
            "lacking although the run is complete": sorted(set(planned) - set(images)) * (run.status == "complete"),
        }
        found = [f"{text}: {at[0]:,}" + f" and {len(at) - 1} more" * (len(at) > 1) for text, at in what.items() if at]
        if found:
            yield "images", (run,), "; ".join(found)


def _draws(cell: Cell) -> Found:
    for pair in cell.pairs("paired", "floor"):
        drawn, others = ({one.images: one.draws for one in run.evaluations} for run in pair)
        found = {images: _unequal(drawn[images], draws) for images, draws in others.items() if images in drawn}
        yield from [(f"draws up to {images:,} images", pair, what) for images, what in found.items() if what][:1]


def _null(cell: Cell) -> Found:
    """A null run that shares its partner's weights or draws would show less noise than there is."""
    for pair in cell.pairs("null"):
        drawn = [{one.images: one.draws for one in run.evaluations if one.draws is not None} for run in pair]
        same = {"init_digest": pair[0].start.get("init_digest") == pair[1].start.get("init_digest")}
        same["draws"] = bool(drawn[0].items() & drawn[1].items())
        yield from [(field, pair, "equal; it must differ in the null arm") for field, equal in same.items() if equal]


def _floor(cell: Cell) -> Found:
    """A run of the noise floor starts from its baseline's weights, changed by rounding's size but changed."""
    for pair in cell.pairs("floor"):
        change = number(pair[1].start.get("init_change"))
        if not 0 < change < FLOOR_CHANGE:
            yield "init_change", pair, f"relative change {change:.2g}, not above 0 and below {FLOOR_CHANGE:g}"


# What finds where a check fails: fields of the start events, for pairs with their roles, or a function.
SAME: dict[str, tuple[Any, ...]] = {
    "data": (("data_digest",),), "protocol": (("protocol",),), "reference": (("reference_digest", "reference_size"),),
    "extractor": (("extractor", "extractor_digest", "resize"),), "initial weights": (("init_digest",), "paired"),
    "device": (("device",), "paired", "null", "floor"),
}  # fmt: skip
OTHERS: dict[str, Callable[[Cell], Found]] = {
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
