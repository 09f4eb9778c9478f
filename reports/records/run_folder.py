"""A run folder: the only code that knows the names of its files, its states, and who holds it.

ROOT/SUITE/RUN/config.json    what the run is
ROOT/SUITE/RUN/events.jsonl   what happened
ROOT/SUITE/RUN/checkpoints/   weights and the state of training
ROOT/SUITE/RUN/samples/       grids of generated images, one per evaluation
ROOT/SUITE/RUN/result.json    the summary of config and events, once the run is done
ROOT/SUITE/RUN/error.json     why it failed
ROOT/SUITE/RUN/lock           the lease of the process that trains it
"""

from __future__ import annotations

import json
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Any

from reports.records import lease
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

    @property
    def done(self) -> bool:
        """Whether the run has its result."""
        return self in (State.COMPLETE, State.DIVERGED)


class RunFolder:
    """One run on the disk. Nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def config(self) -> Path:
        """What the run is."""
        return self.path / "config.json"

    @property
    def events(self) -> Path:
        """The log."""
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        """The summary, there when the run is done."""
        return self.path / "result.json"

    @property
    def error(self) -> Path:
        """Why the run failed, with its traceback."""
        return self.path / "error.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of sample grids."""
        return self.path / "samples"

    @property
    def lock(self) -> Path:
        """The file of its lease."""
        return self.path / "lock"

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
            return State(read_json(self.result)["status"])
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
        try:
            with self.events.open("rb") as log:
                log.seek(max(0, self.events.stat().st_size - most))
                lines = log.read().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        for line in reversed(lines):
            if line.endswith(b"\n") and (kind is None or line.startswith(f'{{"event": "{kind}"'.encode())):
                try:
                    event: dict[str, Any] = json.loads(line)
                except ValueError:
                    continue
                return event
        return None
