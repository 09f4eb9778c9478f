"""The gates: nothing is printed as a comparison unless the records of its runs agree in everything but the method.

Each gate is a rule and a function that yields its failures in one cell; `GATES` lists them by name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reports.records import labels
from reports.records.reading import short
from reports.records.suite_records import Records

NULL = "A/A"  # the label of the null arm in reports


@dataclass(frozen=True)
class Failure:
    """One failed gate: the runs, the field, and what it was. method: the arm it touches, "" for all arms of the cell."""

    cell: str
    method: str
    gate: str
    field: str
    runs: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.gate}: {self.field}: {self.what} ({', '.join(self.runs)})"


@dataclass(frozen=True)
class Gate:
    """A rule in words, and the function that yields what breaks it."""

    rule: str
    failures: Callable[[Cell], Iterator[Failure]]


@dataclass(frozen=True)
class Cell:
    """What the gates look at in one cell: its listed runs, those with a record, and the pairs (baseline, other) among them."""

    name: str
    baseline: str
    members: list[dict]
    runs: list[dict]

    @classmethod
    def of(cls, records: Records, name: str) -> Cell:
        """A cell of a suite. The pairs are always those with the suite's own baseline seeds."""
        members = [m for role in ("pilot", "paired", "null") for m in records.members(name, role)]
        return cls(name, records.baseline, members, [m["record"] for m in members if m["record"]])

    def pairs(self) -> Iterator[tuple[dict, dict]]:
        """(baseline, arm) for every paired run of an arm whose baseline has a record."""
        baselines = {run["seed"]: run for run in self.runs if run["role"] == "paired" and run["method"] == self.baseline}
        for run in self.runs:
            if run["role"] == "paired" and run["method"] != self.baseline and run["seed"] in baselines:
                yield baselines[run["seed"]], run

    def nulls(self) -> Iterator[tuple[dict, dict]]:
        """(partner, null run) for every null run whose partner, a run of the same method, has a record."""
        for run in self.runs:
            if run["role"] == "null":
                partner = (r for r in self.runs if (r["role"], r["method"], r["seed"]) == ("paired", run["method"], run["pair"]))
                yield from ((found, run) for found in partner)

    def scope(self, run: dict) -> str:
        """The arm that a fault of this run touches; a pilot or a baseline touches all."""
        if run["role"] == "null":
            return NULL
        return "" if run["role"] == "pilot" or run["method"] == self.baseline else run["method"]


def failures(records: Records) -> list[Failure]:
    """Every failed gate of a suite."""
    cells = [Cell.of(records, name) for name in records.cells]
    return [failure for cell in cells for gate in GATES.values() for failure in gate.failures(cell)]


def _seeds(cell: Cell) -> Iterator[Failure]:
    owner: dict[int, dict] = {}
    for member in cell.members:
        other = owner.setdefault(member["seed"], member)
        same_arm = (other["role"], other["method"]) == (member["role"], member["method"])
        if other is not member and (same_arm or other["role"] != member["role"]):
            yield Failure(cell.name, cell.scope(member), "seeds", "seed", (other["run"], member["run"]), f"{member['seed']} is used twice")


def _identity(cell: Cell) -> Iterator[Failure]:
    for run in cell.runs:
        canonical = json.dumps(run["spec"], sort_keys=True, separators=(",", ":"))
        if (found := hashlib.sha256(canonical.encode()).hexdigest()) != run["hash"]:
            yield Failure(cell.name, cell.scope(run), "identity", "hash", (run["run"],),
                          f"{short(run['hash'])} is not that of its configuration, {short(found)}")


def _configurations(cell: Cell) -> Iterator[Failure]:
    flat = {run["run"]: dict(_flatten(run["spec"])) for run in cell.runs}
    for run in cell.runs:  # an arm may say in its label that it changes the learning rate
        if isinstance(rate := flat[run["run"]].get("optimizer.lr"), float):
            flat[run["run"]]["optimizer.lr"] = labels.scaled(rate, 1 / labels.read(run["method"])[1])
    for key in sorted({key for spec in flat.values() for key in spec if key != "seed" and not key.startswith("method.")}):
        yield from _agree(cell, "configurations", key, {run: spec.get(key) for run, spec in flat.items()}, recorded=False)


def _flatten(spec: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in spec.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _start(gate: str, *keys: str) -> Callable[[Cell], Iterator[Failure]]:
    """A gate that fields of the start events are recorded and equal over the cell."""
    def failed(cell: Cell) -> Iterator[Failure]:
        for key in keys:
            yield from _agree(cell, gate, key, {run["run"]: run["start"].get(key) for run in cell.runs})
    return failed


def _samples(cell: Cell) -> Iterator[Failure]:
    for key in ("samples", "nfe"):
        for run in cell.runs:
            found = {e.get(key) for e in run["evaluations"]}
            if len(found) > 1:
                yield Failure(cell.name, cell.scope(run), "samples", key, (run["run"],), f"changes within the run: {sorted(map(str, found))}")
        yield from _agree(cell, "samples", key, {run["run"]: run["evaluations"][0].get(key) for run in cell.runs if run["evaluations"]})


def _evaluations(cell: Cell) -> Iterator[Failure]:
    for run in cell.runs:
        images = [e["images"] for e in run["evaluations"]]
        planned = run["spec"]["evaluation"]["images"]
        what = []
        if images != sorted(set(images)):
            what.append(f"counted twice or out of order: {_first([i for i in images if images.count(i) > 1] or images)}")
        if strangers := sorted(set(images) - set(planned)):
            what.append(f"not in its configuration: {_first(strangers)}")
        if run["status"] == "complete" and (lacking := sorted(set(planned) - set(images))):
            what.append(f"lacking although the run is complete: {_first(lacking)}")
        if what:
            yield Failure(cell.name, cell.scope(run), "evaluations", "images", (run["run"],), "; ".join(what))


def _weights(cell: Cell) -> Iterator[Failure]:
    for baseline, arm in cell.pairs():
        yield from _pair(cell, "initial weights", "init_digest", baseline, arm, baseline["start"].get("init_digest"), arm["start"].get("init_digest"))


def _devices(cell: Cell) -> Iterator[Failure]:
    for baseline, other in (*cell.pairs(), *cell.nulls()):
        yield from _pair(cell, "device", "device", baseline, other, baseline["start"].get("device"), other["start"].get("device"))


def _draws(cell: Cell) -> Iterator[Failure]:
    for baseline, arm in cell.pairs():
        drawn = {e["images"]: e.get("draws") for e in baseline["evaluations"]}
        both = [(e["images"], drawn[e["images"]], e.get("draws")) for e in arm["evaluations"] if e["images"] in drawn]
        for images, expected, found in both:
            if failed := list(_pair(cell, "draws", f"draws up to {images:,} images", baseline, arm, expected, found)):
                yield failed[0]
                break


def _null(cell: Cell) -> Iterator[Failure]:
    """A null run that shares its partner's weights or draws would show less noise than there is."""
    for partner, null in cell.nulls():
        drawn = {e["images"]: e.get("draws") for e in partner["evaluations"]}
        same = [e["images"] for e in null["evaluations"] if e.get("draws") is not None and e["draws"] == drawn.get(e["images"])]
        for field, equal in (("init_digest", null["start"].get("init_digest") == partner["start"].get("init_digest")), ("draws", bool(same))):
            if equal:
                yield Failure(cell.name, NULL, "null arm", field, (partner["run"], null["run"]), "equal; it must differ in the A/A arm")


def _pair(cell: Cell, gate: str, field: str, baseline: dict, arm: dict, expected: Any, found: Any) -> Iterator[Failure]:
    if expected is None or found is None:
        yield Failure(cell.name, cell.scope(arm), gate, field, (baseline["run"], arm["run"]), "not recorded")
    elif expected != found:
        yield Failure(cell.name, cell.scope(arm), gate, field, (baseline["run"], arm["run"]), f"{_text(expected)} against {_text(found)}")


def _agree(cell: Cell, gate: str, field: str, values: dict[str, Any], recorded: bool = True) -> Iterator[Failure]:
    """Equal over the runs of a cell: those that differ from the most common value are named, with one that has it.

    recorded: a value that is nowhere recorded fails too.
    """
    keys = {run: _key(value) for run, value in values.items()}
    common = Counter(keys.values()).most_common(1)[0][0] if keys else None
    example = next((run for run in keys if keys[run] == common), "")
    by_run = {run["run"]: run for run in cell.runs}
    odd: dict[tuple[str, Hashable], list[str]] = {}
    for run, key in keys.items():
        if key != common or (recorded and values[run] is None):
            odd.setdefault((cell.scope(by_run[run]), key), []).append(run)
    for (scope, _), runs in odd.items():
        found = values[runs[0]]
        what = "not recorded" if found is None and recorded else f"{_text(found)}; {example} has {_text(values[example])}"
        yield Failure(cell.name, scope, gate, field, tuple(runs), what)


def _key(value: Any) -> Hashable:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _text(value: Any) -> str:
    text = str(value)
    return short(text) if len(text) == 64 else text if len(text) < 80 else text[:77] + "..."


def _first(values: Iterable[int]) -> str:
    values = list(values)
    return f"{values[0]:,}" + (f" and {len(values) - 1} more" if len(values) > 1 else "")


GATES = {
    "seeds": Gate("seeds distinct within an arm; pilot, paired and null seeds disjoint within a cell", _seeds),
    "identity": Gate("the hash of a run is that of its resolved configuration", _identity),
    "configurations": Gate("resolved configurations equal but for seed, method and the factor on the learning rate that an arm is named after", _configurations),
    "initial weights": Gate("digest of the initial backbone weights equal within a pair", _weights),
    "data": Gate("digest of the data equal", _start("data", "data_digest")),
    "draws": Gate("digest of the drawn batch indices and timesteps equal within a pair", _draws),
    "device": Gate("device type equal within a pair", _devices),
    "evaluations": Gate("every evaluation of the configuration counted once, also after a resume", _evaluations),
    "protocol": Gate("protocol version equal", _start("protocol", "protocol")),
    "extractor": Gate("extractor, its weights' digest and the resize equal", _start("extractor", "extractor", "extractor_digest", "resize")),
    "samples": Gate("sample count and number of function evaluations equal", _samples),
    "reference": Gate("digest and size of the reference set equal", _start("reference", "reference_digest", "reference_size")),
    "null arm": Gate("initial weights and draws of a null run differ from its partner's", _null),
}
