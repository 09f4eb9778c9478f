"""A suite as it lies on the disk: what belongs to it, its frozen bands, and the results of the runs that have begun.

ROOT/SUITE/suite.json says what belongs to it, ROOT/SUITE/protocol.json holds the bands; of runs see `reading`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from reports.records.event_log import number
from reports.records.files import read_json
from reports.records.reading import PROTOCOL, read_run

GO_ON = "move the folder away or use another --root, then run the suite again"
Kind = TypeVar("Kind")
Role = Literal["pilot", "paired", "null", "floor", "tuning"]


@dataclass(frozen=True)
class Cell:
    """A dataset with a backbone: its budget and planned evaluations, in training images."""

    dataset: str
    backbone: str
    budget: float
    evaluations: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """dataset/backbone."""
        return f"{self.dataset}/{self.backbone}"


@dataclass(frozen=True)
class Listed:
    """A run that belongs to the suite; `pair` is the seed of the baseline run that it is paired with."""

    run: str
    dataset: str
    backbone: str
    method: str
    role: Role
    seed: int
    pair: int | None

    @property
    def cell(self) -> str:
        """dataset/backbone."""
        return f"{self.dataset}/{self.backbone}"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run: distance `fid` after `images` training images and `seconds` on the training clock."""

    images: int
    seconds: float
    fid: float
    eval_seconds: float | None = None
    nfe: int | None = None
    samples: int | None = None
    draws: str | None = None


@dataclass(frozen=True, eq=False)
class Result(Listed):
    """One run. status: complete, diverged or running; start: the start event; spec: the resolved configuration."""

    suite: str
    hash: str
    status: str
    images: int
    seconds: float
    budget: float
    evaluations: tuple[Evaluation, ...]
    noise: tuple[float, ...]
    start: dict[str, Any]
    spec: dict[str, Any]
    reason: str | None = None
    resumes: int = 0
    probes: tuple[dict[str, Any], ...] = ()
    stability: dict[str, Any] | None = None

    def recorded(self, key: str) -> Any:
        """What the start event says of `key`, else the configuration; None if neither does."""
        return self.start.get(key, self.spec.get(key))

    def probe(self, name: str) -> float:
        """The last value of a probe of one number; nan if the run has none."""
        return next((number(p["value"]) for p in reversed(self.probes) if p["probe"] == name), float("nan"))


@dataclass(frozen=True)
class Seeds:
    """The seeds of each role, fixed before the first run."""

    paired: tuple[int, ...] = ()
    pilots: tuple[int, ...] = ()
    null: tuple[int, ...] = ()
    floor: tuple[int, ...] = ()
    tuning: tuple[int, ...] = ()


@dataclass(frozen=True)
class Suite:
    """The content of suite.json. `arms` are labels of methods, the baseline among them."""

    protocol: int
    suite: str
    title: str
    scale: Literal["mini", "full"]
    baseline: str
    arms: tuple[str, ...]
    seeds: Seeds
    cells: tuple[Cell, ...]
    runs: tuple[Listed, ...]
    trial: bool = False


@dataclass(frozen=True, eq=False)
class Records:
    """A suite, its frozen bands in protocol.json by cell, and the results of runs that have begun, by name."""

    root: Path
    suite: Suite
    frozen: dict[str, Any]
    results: dict[str, Result]

    @property
    def folder(self) -> Path:
        """Where the run folders lie."""
        return self.root / self.suite.suite

    @property
    def missing(self) -> list[str]:
        """The listed runs that have not begun."""
        return [run.run for run in self.suite.runs if run.run not in self.results]

    @property
    def unfinished(self) -> list[str]:
        """The runs that have begun and not ended."""
        return [run for run, result in self.results.items() if result.status not in ("complete", "diverged")]

    def listed(self, cell: str, role: Role, method: str | None = None) -> list[Listed]:
        """The runs of a cell with this role (and method), in the suite's order."""
        return [run for run in self._by_role.get((cell, role), ()) if method in (None, run.method)]

    def found(self, cell: str, role: Role, method: str | None = None) -> list[Result]:
        """The results of those that have begun."""
        return [self.results[run.run] for run in self.listed(cell, role, method) if run.run in self.results]

    @functools.cached_property
    def _by_role(self) -> dict[tuple[str, Role], list[Listed]]:
        found: dict[tuple[str, Role], list[Listed]] = {}
        for run in self.suite.runs:
            found.setdefault((run.cell, run.role), []).append(run)
        return found


def read(root: Path | str, suite: str) -> Records:
    """Read a whole suite; ValueError, one line, if it is not there, is broken or follows another protocol version."""
    folder = Path(root) / suite
    if not (folder / "suite.json").is_file():
        raise ValueError(f"suite: {suite!r} has no runs in {root}; start it with: python -m bench run {suite}")
    content = _versioned(folder / "suite.json", "protocol")
    whole = replace(parse(Suite, content, folder / "suite.json"), suite=suite)
    frozen = _versioned(folder / "protocol.json", "version") if (folder / "protocol.json").is_file() else {"cells": {}}
    if not isinstance(frozen.get("cells"), dict):
        raise ValueError(f"{folder / 'protocol.json'}: lacks the object 'cells'; {GO_ON}")
    results = {run.run: result for run in whole.runs if (result := _result(folder / run.run, run))}
    return Records(Path(root), whole, frozen["cells"], results)


def with_baseline(records: Records, method: str | None) -> Records:
    """The same records compared with another arm; ValueError names the choices."""
    if method in (None, records.suite.baseline):
        return records
    if method not in records.suite.arms:
        choices = ", ".join(records.suite.arms)
        raise ValueError(f"--baseline: {method!r} is no arm of {records.suite.suite}; choose from {choices}")
    return replace(records, suite=replace(records.suite, baseline=method))


def _versioned(path: Path, key: str) -> dict[str, Any]:
    """A JSON object whose protocol version is this reader's."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no object but {type(content).__name__}")
    if content.get(key) != PROTOCOL:
        found = content.get(key, 1)
        raise ValueError(f"{path}: protocol version {found!r}, this reader knows {PROTOCOL}: {GO_ON}")
    return content


def _result(folder: Path, listed: Listed) -> Result | None:
    if (folder / "config.json").is_file():
        _versioned(folder / "config.json", "protocol")
    if (record := read_run(folder)) is None:
        return None
    result = parse(Result, record, folder / "result.json")
    for key in vars(listed):
        if getattr(result, key) != getattr(listed, key):
            found, said = getattr(result, key), getattr(listed, key)
            raise ValueError(f"{folder}: {key} is {found!r}, suite.json says {said!r}: another configuration")
    return result


def parse(kind: type[Kind], content: Mapping[str, Any], where: object) -> Kind:
    """A dataclass from a JSON object; ValueError, one line, with `where`, the field, its value and what is wrong."""
    try:
        found: Kind = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {path}: {str(first['input'])[:40]!r}: {first['msg']}") from None
    return found


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
