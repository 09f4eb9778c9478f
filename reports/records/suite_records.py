"""A suite as it lies on the disk: what belongs to it, its frozen targets, and the records of the runs that have begun.

    ROOT/SUITE/suite.json         what belongs to the suite
    ROOT/SUITE/protocol.json      the frozen targets
    ROOT/SUITE/RUN/               see `reading`
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.records.reading import PROTOCOL, Keys, checked, read_object, read_run

SUITE: Keys = {"protocol": int, "suite": str, "title": str, "scale": str, "baseline": str, "arms": list, "seeds": dict, "cells": list, "runs": list}
ENTRY: Keys = {"run": str, "dataset": str, "backbone": str, "method": str, "role": str, "seed": int, "pair": int | None}
CELL: Keys = {"dataset": str, "backbone": str, "budget": float | int}
FROZEN: Keys = {"target": float | int | None, "label": str, "crossings": list, "ladder": list}  # a cell of protocol.json
RUNG: Keys = {"fraction": float | int, "target": float | int, "flat": bool}
SCALES = ("mini", "full")
ROLES = ("pilot", "paired", "null")


@dataclass(frozen=True, eq=False)
class Records:
    """`runs` has the summary of every run that has begun, by name; `missing` names the listed runs without a record."""

    root: Path
    suite: dict
    protocol: dict | None
    runs: dict[str, dict]
    missing: list[str]

    @property
    def name(self) -> str:
        """Of the suite."""
        return self.suite["suite"]

    @property
    def folder(self) -> Path:
        """Where the run folders lie."""
        return self.root / self.name

    @property
    def baseline(self) -> str:
        """The method that the arms are compared with."""
        return self.suite["baseline"]

    @functools.cached_property
    def cells(self) -> dict[str, dict]:
        """What suite.json says of each cell, by dataset/backbone, in its order."""
        return {f"{cell['dataset']}/{cell['backbone']}": cell for cell in self.suite["cells"]}

    def frozen(self, cell: str) -> dict | None:
        """The cell's entry in protocol.json, None as long as targets are not frozen."""
        return (self.protocol or {"cells": {}})["cells"].get(cell)

    def members(self, cell: str, role: str, method: str | None = None) -> list[dict]:
        """Listed runs of a cell with that role (and method), each with its summary under `record`, None if missing."""
        return [entry for entry in self._by_role.get((cell, role), []) if method in (None, entry["method"])]

    @functools.cached_property
    def _by_role(self) -> dict[tuple[str, str], list[dict]]:
        found: dict[tuple[str, str], list[dict]] = {}
        for entry in self.suite["runs"]:
            key = (f"{entry['dataset']}/{entry['backbone']}", entry["role"])
            found.setdefault(key, []).append({**entry, "record": self.runs.get(entry["run"])})
        return found


def read(root: Path | str, suite: str) -> Records:
    """Read a whole suite; ValueError, one line, if it is not there, is broken or speaks of another protocol version."""
    folder = Path(root) / suite
    if not (folder / "suite.json").is_file():
        raise ValueError(f"suite: {suite!r} has no runs in {root}")
    content = read_object(folder / "suite.json", SUITE)
    _check_version(folder / "suite.json", content["protocol"])
    _check_suite(folder / "suite.json", content)
    frozen = read_object(folder / "protocol.json", {"version": int, "cells": dict}) if (folder / "protocol.json").is_file() else None
    if frozen:
        _check_frozen(folder / "protocol.json", frozen)
    found = {entry["run"]: read_run(folder / entry["run"]) for entry in content["runs"]}
    for entry in content["runs"]:
        if record := found[entry["run"]]:
            _check_version(folder / entry["run"], record["spec"].get("protocol"))
            _check_entry(folder / entry["run"], entry, record)
    return Records(Path(root), content | {"suite": suite}, frozen, {name: record for name, record in found.items() if record},
                   [name for name, record in found.items() if not record])


def with_baseline(records: Records, method: str | None) -> Records:
    """The same records read against another method; ValueError names the choices."""
    if method in (None, records.baseline):
        return records
    if method not in records.suite["arms"]:
        raise ValueError(f"--baseline: {method!r} is no arm of {records.name}; choose from {', '.join(records.suite['arms'])}")
    return Records(records.root, records.suite | {"baseline": method}, records.protocol, records.runs, records.missing)


def _check_version(path: Path, version: Any) -> None:
    if version != PROTOCOL:
        raise ValueError(f"{path}: protocol version {version!r}; this reader knows {PROTOCOL}")


def _check_suite(path: Path, content: dict) -> None:
    if content["scale"] not in SCALES:
        raise ValueError(f"{path}: scale {content['scale']!r} is unknown; choose from {', '.join(SCALES)}")
    for i, cell in enumerate(content["cells"]):
        checked(f"{path}: cells[{i}]", cell, CELL)
    checked(f"{path}: seeds", content["seeds"], {"paired": list, "pilots": list, "null": list})
    for i, entry in enumerate(content["runs"]):
        checked(f"{path}: runs[{i}]", entry, ENTRY)
        if entry["role"] not in ROLES:
            raise ValueError(f"{path}: runs[{i}]: role {entry['role']!r} is unknown; choose from {', '.join(ROLES)}")


def _check_frozen(path: Path, content: dict) -> None:
    _check_version(path, content["version"])
    for name, cell in content["cells"].items():
        for i, rung in enumerate(checked(f"{path}: {name}", cell, FROZEN)["ladder"]):
            checked(f"{path}: {name}: ladder[{i}]", rung, RUNG)
        if cell["target"] is not None and not cell["target"] > 0:
            raise ValueError(f"{path}: {name}: target is {cell['target']!r}, no positive number")


def _check_entry(folder: Path, entry: dict, record: dict) -> None:
    for key in ENTRY:
        if record[key] != entry[key]:
            raise ValueError(f"{folder}: {key} is {record[key]!r}, suite.json says {entry[key]!r}: a folder of another configuration")
