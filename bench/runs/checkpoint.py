"""Checkpoints that load whatever instant the power goes: written beside, flushed, renamed, digest beside, last two kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from bench.errors import BadInput

KEEP = 2


def save(folder: Path, images: int, state: dict[str, Any]) -> None:
    """Write `state` as the checkpoint after `images` images and drop all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name(images)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        _write_digest(path, partial)
    except (OSError, RuntimeError):  # torch says RuntimeError where the disk is full
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
    _sync(folder)
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink()
        _digest_file(old).unlink(missing_ok=True)


def name(images: int) -> str:
    """File name of the checkpoint after `images` images; sorts by images."""
    return f"{images:012d}.pt"


def load(folder: Path, config_hash: str, log_bytes: int | None = None) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole checkpoint, or None, and a note for each that was passed over: a damaged one, or one whose event log
    (of which `log_bytes` are whole lines) is not there any more. BadInput if one belongs to another configuration.
    """
    notes: list[str] = []
    for path in sorted(folder.glob("*.pt"), reverse=True):
        problem = _problem(path)
        if problem:
            notes.append(f"{path.name}: {problem}, passed over")
            continue
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["hash"] != config_hash:
            raise BadInput(f"{path}: belongs to configuration {state['hash'][:12]}, not to {config_hash[:12]}")
        if log_bytes is not None and state["log_bytes"] > log_bytes:
            notes.append(f"{path.name}: the event log ends before it, passed over")
            continue
        return state, notes
    return None, notes


def _problem(path: Path) -> str | None:
    digest = _digest_file(path)
    if not digest.is_file():
        return "no digest beside it"
    return None if digest.read_text().strip() == _sha256(path) else "damaged (digest differs)"


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _write_digest(path: Path, content: Path) -> None:
    with _digest_file(path).open("w") as file:
        file.write(_sha256(content) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Make the renames themselves durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
