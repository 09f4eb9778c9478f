"""A suite as it lies on the disk: what belongs to it, its frozen bands, and the results of the runs that have begun.

ROOT/SUITE/suite.json says what belongs to it, arms.json the same with the arms that `run --arm` has added;
ROOT/SUITE/protocol.json holds the bands; of runs see `run_folder`.
Works on folders copied from anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from reports.records.event_log import number, read_events
from reports.records.files import read_json
from reports.records.reading import PROTOCOL, summarize
from reports.records.run_folder import RunFolder

GO_ON = "move the folder away or use another --root, then run the suite again"
ANOTHER = "a changed recipe needs another suite name or another --root"
OWN, WITH_ARMS = "suite.json", "arms.json"  # which lists what: the suite, and the suite with added arms
Kind = TypeVar("Kind")
Role = Literal["pilot", "paired", "null", "floor", "tuning"]


class InCell:
    """What belongs to a cell, a dataset with a backbone."""

    dataset: str
    backbone: str

    @property
    def cell(self) -> str:
        """dataset/backbone."""
        return f"{self.dataset}/{self.backbone}"


@dataclass(frozen=True)
class CellRecord(InCell):
    """A cell: its budget and planned evaluations, in training images."""

    dataset: str
    backbone: str
    budget: float
    evaluations: tuple[int, ...] = ()

    name = InCell.cell


@dataclass(frozen=True)
class Listed(InCell):
    """A run that belongs to the suite; `pair` is the seed of the baseline run that it is paired with."""

    run: str
    dataset: str
    backbone: str
    method: str
    role: Role
    seed: int
    pair: int | None


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation of a run: distance `fid` after `images` training images and `seconds` on the training clock.

    kid: the kernel distance on the same features, which is shown beside it and decides nothing; so are beside, the
    Frechet distances under further extractors, and mean_spread, the standard deviation of the samples' means.
    """

    images: int
    seconds: float
    fid: float
    eval_seconds: float | None = None
    nfe: int | None = None
    samples: int | None = None
    draws: str | None = None
    kid: float | None = None
    beside: dict[str, float] | None = None
    mean_spread: float | None = None


@dataclass(frozen=True)
class Distance:
    """What the configuration of a run must say of its evaluations."""

    images: tuple[int, ...]
    samples: int
    sampler: str
    extractor: str


@dataclass(frozen=True, eq=False)
class Result(Listed):
    """One run. status: a word of `State`; start: the start event; spec: the resolved configuration; computed: the
    values of `reading.PLACE` that it was computed with, one after the other."""

    suite: str
    hash: str
    status: str
    images: int
    seconds: float
    budget: float
    evaluations: tuple[EvaluationRecord, ...]
    noise: tuple[float, ...]
    start: dict[str, Any]
    spec: dict[str, Any]
    reason: str | None = None
    resumes: int = 0
    computed: dict[str, list[Any]] = field(default_factory=dict)
    probes: tuple[dict[str, Any], ...] = ()
    stability: dict[str, Any] | None = None

    def recorded(self, key: str) -> Any:
        """What the start event says of `key`, else the configuration; None if neither does."""
        return self.start.get(key, self.spec.get(key))

    def computed_with(self, key: str) -> tuple[Any, ...]:
        """Every value of a key of `reading.PLACE` that the run was computed with, in turn."""
        return tuple(dict.fromkeys([self.recorded(key), *self.computed.get(key, [])]))

    def probe(self, name: str) -> float:
        """The last value of a probe of one number; nan if the run has none."""
        return next((number(p["value"]) for p in reversed(self.probes) if p["probe"] == name), float("nan"))


@dataclass(frozen=True)
class SeedsRecord:
    """The seeds of each role, fixed before the first run."""

    paired: tuple[int, ...] = ()
    pilots: tuple[int, ...] = ()
    null: tuple[int, ...] = ()
    floor: tuple[int, ...] = ()
    tuning: tuple[int, ...] = ()


@dataclass(frozen=True)
class SuiteRecord:
    """The content of suite.json. `arms` are labels of methods, the baseline among them. looks: pairs after which an
    arm with a verdict is not trained on; none in a suite that trains all its pairs."""

    protocol: int
    suite: str
    title: str
    scale: Literal["mini", "full"]
    baseline: str
    arms: tuple[str, ...]
    seeds: SeedsRecord
    cells: tuple[CellRecord, ...]
    runs: tuple[Listed, ...]
    trial: bool = False
    looks: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Records:
    """A suite, its frozen bands in protocol.json by cell, and the results of runs that have begun, by name."""

    root: Path
    suite: SuiteRecord
    frozen: dict[str, Any]
    results: dict[str, Result]
    listing: str = OWN

    @property
    def folder(self) -> Path:
        """Where the run folders lie."""
        return self.root / self.suite.suite

    @property
    def missing(self) -> list[str]:
        """The listed runs that have not begun."""
        return [run.run for run in self.suite.runs if run.run not in self.results]

    def listed(self, cell: str, role: Role, method: str | None = None) -> list[Listed]:
        """The runs of a cell with this role (and method), in the suite's order."""
        return [
            run for run in self.suite.runs if run.role == role and run.cell == cell and method in (None, run.method)
        ]

    def found(self, cell: str, role: Role, method: str | None = None) -> list[Result]:
        """The results of those that have begun."""
        return [self.results[run.run] for run in self.listed(cell, role, method) if run.run in self.results]


def read_suite(root: Path | str, suite: str, listing: str = OWN) -> SuiteRecord:
    """What belongs to a suite; ValueError, one line, if it is not there, broken, or of another protocol version.

    WITH_ARMS: the suite's own, whatever that other listing says of it, and the arms that were added.
    """
    path = Path(root) / suite / listing
    if not path.is_file():
        raise ValueError(f"suite: {suite!r} has no runs in {root}; start it with: python -m bench run {suite}")
    found = replace(parse(SuiteRecord, versioned(path), path), suite=suite)
    if listing == OWN:
        return found
    own = read_suite(root, suite)
    added = tuple(arm for arm in found.arms if arm not in own.arms)
    return replace(own, arms=own.arms + added, runs=own.runs + tuple(run for run in found.runs if run.method in added))


def widest(root: Path | str, suite: str) -> str:
    """The listing that names every run of the folder."""
    return WITH_ARMS if (Path(root) / suite / WITH_ARMS).is_file() else OWN


def read(root: Path | str, suite: str, listing: str = OWN) -> Records:
    """Read a whole suite, its runs too; ValueError, one line, as `read_suite`."""
    return with_results(root, read_suite(root, suite, listing), listing)


def with_results(root: Path | str, whole: SuiteRecord, listing: str = OWN) -> Records:
    """A suite with its frozen bands and the results of its runs; ValueError, one line, as `read_frozen`."""
    folder, pilots = Path(root) / whole.suite, [run.run for run in whole.runs if run.role == "pilot"]
    frozen = read_frozen(folder / "protocol.json", pilots, whole.looks, listing)
    results = {run.run: result for run in whole.runs if (result := read_result(RunFolder(folder / run.run), run))}
    return Records(Path(root), whole, frozen, results, listing)


def with_baseline(records: Records, method: str | None) -> Records:
    """The same records compared with another arm; ValueError names the choices."""
    if method in (None, records.suite.baseline):
        return records
    if method not in records.suite.arms:
        choices = ", ".join(records.suite.arms)
        raise ValueError(f"--baseline: {method!r} is no arm of {records.suite.suite}; choose from {choices}")
    return replace(records, suite=replace(records.suite, baseline=method))


def versioned(path: Path, key: str = "protocol") -> dict[str, Any]:
    """The JSON object of suite.json or a config.json, or with the key `version` of protocol.json.

    ValueError, one line that says how to go on, unless `key` holds the protocol version that this reader knows.
    """
    content = parse(dict[str, Any], read_json(path), path)
    if content.get(key) != PROTOCOL:
        found = content.get(key, 1)
        raise ValueError(f"{path}: protocol version {found!r}, this reader knows {PROTOCOL}: {GO_ON}")
    return content


def read_bands(path: Path) -> dict[str, dict[str, Any]]:
    """What protocol.json at `path` holds of each cell, `pilots` (names of runs) among it; ValueError as `versioned`.

    Empty if it is not there: the bands are not frozen yet.
    """
    content = versioned(path, "version") if path.is_file() else {"cells": {}}
    if not isinstance(content.get("cells"), dict):
        raise ValueError(f"{path}: lacks the object 'cells'; {GO_ON}")
    cells = parse(dict[str, dict[str, Any]], content["cells"], f"{path}: cells")
    for name, cell in cells.items():
        if "pilots" not in cell:
            raise ValueError(f"{path}: cells[{name}]: lacks 'pilots'; {GO_ON}")
        parse(list[str], cell["pilots"], f"{path}: {name}: pilots")
    return cells


def pilots_of(bands: dict[str, dict[str, Any]]) -> set[str]:
    """The runs that frozen bands rest on."""
    return {run for band in bands.values() for run in band["pilots"]}


def read_frozen(path: Path, pilots: Collection[str], looks: tuple[int, ...], where: str) -> dict[str, dict[str, Any]]:
    """The bands in protocol.json at `path`; ValueError, one line, if they rest on other pilots than those that `where`
    lists, or were frozen with other looks."""
    bands = read_bands(path)
    if strangers := pilots_of(bands).difference(pilots):
        told = f"the target bands were frozen from other pilots than those of {where}, {min(strangers)} among them"
        raise ValueError(f"{path}: pilots: {told}; {ANOTHER}")
    found = parse(tuple[int, ...], versioned(path, "version").get("looks", ()), f"{path}: looks") if bands else looks
    if found != looks:
        told = f"{list(found)} differ from those of {where}, {list(looks)}"
        raise ValueError(f"{path}: looks: {told}; {ANOTHER}")
    return bands


def read_result(folder: RunFolder, listed: Listed) -> Result | None:
    """The result.json of a run, else what its events say so far; None if it has not begun."""
    config = versioned(folder.config) if folder.config.is_file() else None
    if folder.is_done():
        record = parse(dict[str, Any], read_json(folder.result), folder.result)
    elif config is None or not (events := read_events(folder.path, train=False)):
        return None
    else:
        try:
            record = summarize(config, events) | {"status": str(folder.state())}
        except (KeyError, TypeError, AttributeError) as error:
            what = f"its config.json or events.jsonl lacks a field or holds another type ({error!r})"
            raise ValueError(f"{folder.path}: {what}") from None
    result = parse(Result, record, folder.result)
    parse(Distance, result.spec.get("evaluation"), f"{folder.result}: spec.evaluation")
    told = [("config.json", "hash", (config or record).get("hash"))]
    told += [("its start event", "hash", result.start.get("hash", result.hash))]
    told += [("suite.json", key, said) for key, said in vars(listed).items()]
    for where, key, said in told:
        if (found := getattr(result, key)) != said:
            what = f"{key} is {found!r}, {where} says {said!r}"
            raise ValueError(f"{folder.path}: {what}: records of another configuration")
    return result


def parse(kind: type[Kind], content: Any, where: object) -> Kind:
    """Content of JSON as `kind`; ValueError, one line, with `where`, the field, its value and what is wrong with it."""
    try:
        found: Kind = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        parts = [str(where), path, repr(str(first["input"])[:40]), first["msg"]]
        raise ValueError(": ".join(part for part in parts if part)) from None
    return found


_adapter = functools.cache(TypeAdapter)
