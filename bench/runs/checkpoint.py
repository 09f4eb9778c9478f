"""Checkpoints that load whatever instant the power goes: written beside, flushed, renamed; the last two are kept."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from bench.errors import BadInput
from reports.records.files import replacing

KEEP = 2
State = dict[str, Any]


def name(images: int) -> str:
    """File name of the checkpoint after `images` images; sorts by images."""
    return f"{images:012d}.pt"


def save(folder: Path, images: int, state: State) -> None:
    """Write `state` as the checkpoint after `images` images and drop all but the newest two."""
    with replacing(folder / name(images)) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own words for a full disk
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink()


def read(path: Path) -> State:
    """One checkpoint; what torch raises for a damaged one."""
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load(folder: Path, identity: str, log: Path) -> tuple[State | None, list[str]]:
    """The newest checkpoint that loads, or None, and a note for each that was passed over.

    One is passed over if it is damaged, or if no line of the event log ends at the byte where the log ended when it was
    saved. BadInput if one belongs to another configuration than `identity`.
    """
    notes: list[str] = []
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            state = read(path)
            found, end = state["hash"], state["log_bytes"]
        except (RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
            notes.append(f"{path.name}: damaged, passed over")
            continue
        if found != identity:
            raise BadInput(f"{path}: belongs to configuration {found[:12]}, not to {identity[:12]}")
        if _line_ends_at(log, end):
            return state, notes
        notes.append(f"{path.name}: no line of the event log ends where it was saved, passed over")
    return None, notes


def _line_ends_at(log: Path, size: int) -> bool:
    with log.open("rb") as file:
        file.seek(max(0, size - 1))
        return size == 0 or file.read(1) == b"\n"


def drop_after(folder: Path, images: int = -1) -> None:
    """Remove checkpoints beyond `images`: passed over once, they belong to a log that is not there any more. By default
    all of them: a run that has ended needs none."""
    for path in folder.glob("*.pt"):
        if path.name > name(images):
            path.unlink()
