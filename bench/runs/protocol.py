"""Freezing the targets: from the pilots' curves to runs/SUITE/protocol.json, before the first comparison run."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bench.errors import BadInput
from bench.runs.lock import FolderLock, Locked
from bench.planning.plan import Run
from bench.runs.record import write_json
from reports import targets
from reports.records import reading


def frozen(everything: list[Run], root: Path) -> bool:
    """Whether comparison runs may start: the suite's targets are frozen, or it has none. Freezes them if all pilots are done."""
    path = Path(root) / everything[0].suite / "protocol.json"
    pilots = [run for run in everything if run.role == "pilot"]
    if not pilots:
        return True
    if not path.is_file():
        if not all((run.folder(root) / "result.json").is_file() for run in pilots):
            return False
        with contextlib.suppress(Locked), FolderLock(path.parent, "protocol.lock"):  # if another freezes them, the next look finds them
            if not path.is_file():
                write_json(path, derive(pilots, root))
        return path.is_file()
    _same_pilots(path, pilots)
    return True


def derive(pilots: list[Run], root: Path) -> dict:
    """The content of protocol.json, from the pilots' results."""
    return targets.derive([reading.read_json(run.folder(root) / "result.json") for run in pilots])


def _same_pilots(path: Path, pilots: list[Run]) -> None:
    """Targets of other pilots are targets of another configuration."""
    recorded = {run for cell in reading.read_json(path)["cells"].values() for run in cell["pilots"]}
    if strangers := recorded ^ {run.id for run in pilots}:
        raise BadInput(f"{path}: was frozen from other pilots than the suite's (first difference: {sorted(strangers)[0]}); "
                       "a changed configuration needs another suite name or another --root")
