"""A run folder: the only code that knows the names of its files, its states, and who holds it.

ROOT/SUITE/RUN/config.json    what the run is
ROOT/SUITE/RUN/events.jsonl   what happened
ROOT/SUITE/RUN/checkpoints/   weights and the state of training; of a run that is done, its EMA alone
ROOT/SUITE/RUN/samples/       grids of generated images, one per evaluation
ROOT/SUITE/RUN/export/        its EMA and a model card, once asked for
ROOT/SUITE/RUN/result.json    the summary of config and events, once the run is done
ROOT/SUITE/RUN/error.json     why it failed
ROOT/SUITE/RUN/lock           the lease of the process that trains it
"""

from __future__ import annotations

import traceback
from enum import StrEnum
from pathlib import Path
from typing import Any

from reports.records import lease
from reports.records.event_log import decode
from reports.records.files import read_json, write_json
from reports.records.lease import Lease


class State(StrEnum):
    """Every state that a run can be in."""

    MISSING = "missing"  # not begun
    RUNNING = "running"  # a living process holds it
    STOPPED = "stopped"  # begun, and nobody trains it
    FAILED = "failed"  # an error ended it; it is tried again when asked for
    COMPLETE = "complete"  # trained to its budget
    DIVERGED = "diverged"  # ended by a loss that is not finite
    UNNEEDED = "not needed"  # the arm had its verdict at an earlier look; only the whole suite says so

    @property
    def done(self) -> bool:
        """Whether the run has its result."""
        return self in (State.COMPLETE, State.DIVERGED)


class RunFolder:
    """One run on the disk: the paths of its files as attributes. Nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.events = self.path / "events.jsonl"
        self.result = self.path / "result.json"
        self.error = self.path / "error.json"
        self.checkpoints = self.path / "checkpoints"
        self.weights = self.checkpoints / "ema.safetensors"
        self.samples = self.path / "samples"
        self.export = self.path / "export"
        self.lock = self.path / "lock"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def sample(self, images: int) -> Path:
        """The grid of samples drawn after so many training images."""
        return self.samples / f"{images:012d}.png"

    def lease(self) -> Lease:
        """To own the folder: `with folder.lease(): ...`; Held if a living process does."""
        return Lease(self.lock)

    def is_held(self) -> bool:
        """Whether a living process owns the folder."""
        return lease.is_held(self.lock)

    def is_done(self) -> bool:
        """Whether the run has its result."""
        return self.result.is_file()

    def state(self) -> State:
        """The state by its own record; the lease is looked at first, since a result is written before it ends."""
        held = self.is_held()
        if self.is_done():
            record = read_json(self.result)
            status = record.get("status") if isinstance(record, dict) else None
            if status not in list(State):
                raise ValueError(f"{self.result}: status {status!r} is unknown; choose from {', '.join(State)}")
            return State(status)
        if self.error.is_file() and not held:
            return State.FAILED
        if not self.events.is_file():
            return State.MISSING
        return State.RUNNING if held else State.STOPPED

    def ensure_config(self, config: dict[str, Any]) -> None:
        """Write config.json; ValueError, one line, if the folder belongs to another configuration."""
        if not self.config.is_file():
            write_json(self.config, config)
        elif (found := read_json(self.config)) != config:
            raise ValueError(
                f"{self.config}: belongs to another configuration ({str(found.get('hash'))[:12]}, expected "
                f"{config['hash'][:12]}); move the folder away to train this run"
            )

    def fail(self, error: BaseException) -> str:
        """Write error.json; returns the error in one line."""
        line = " ".join(f"{type(error).__name__}: {error}".split())
        trace = "".join(traceback.format_exception(error))
        write_json(self.error, {"run": self.path.name, "error": line, "traceback": trace})
        return line

    def forget_failure(self) -> None:
        """Let a failed run be tried again."""
        self.error.unlink(missing_ok=True)

    def last_event(self, kind: str | None = None, most: int = 65536) -> dict[str, Any] | None:
        """The last whole event (of a kind), None if there is none in the last `most` bytes of the log."""
        if not self.events.is_file():
            return None
        begin = f'{{"event": "{kind}"'.encode() if kind else b""
        with self.events.open("rb") as log:
            log.seek(max(0, self.events.stat().st_size - most))
            whole = log.read().split(b"\n")[-2::-1]
        return next((event for line in whole if line.startswith(begin) and (event := decode(line))), None)
