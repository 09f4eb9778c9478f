"""The event log of a run: append-only, one strict-JSON object per line, flushed at every evaluation and checkpoint."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

TRAIN, RESUME = (f'{{"event": "{kind}"'.encode() for kind in ("train", "resume"))  # how their lines begin


def encode(event: dict[str, Any]) -> str:
    """One line of strict JSON; non-finite numbers become the strings nan, inf and -inf."""
    return json.dumps(_finite(event), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


class EventLog:
    """Appends events to a file. Only `cut` ever removes a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def append(self, event: dict[str, Any], flush: bool = False) -> None:
        """Add one event; with `flush` it is on the disk when this returns."""
        self._file.write((encode(event) + "\n").encode())
        if flush:
            self.flush()
        else:
            self._file.flush()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def whole(self) -> int:
        """Bytes up to the end of the last whole line; less than `size` if a sudden end cut the last one short."""
        return self.path.read_bytes().rfind(b"\n") + 1

    def cut(self, size: int) -> None:
        """Remove what lies beyond `size` bytes, but keep its `resume` lines: they are the record of what happened."""
        lines = self.path.read_bytes()[size:].splitlines(keepends=True)
        self._file.truncate(size)
        self._file.seek(size)
        self._file.writelines(line for line in lines if line.startswith(RESUME) and line.endswith(b"}\n"))
        self.flush()

    def flush(self) -> None:
        """All of it is on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush to disk and close."""
        self.flush()
        self._file.close()


def read_events(folder: Path, train: bool = True, live: bool = False) -> list[dict[str, Any]]:
    """The events of a run. A torn last line is left out and said; ValueError names any other line that is broken.

    train: whether to read `train` events, of which there are many. live: a run may be writing; a torn line is no news.
    """
    path = Path(folder) / "events.jsonl"
    *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    events, torn = [], rest != b""
    for number, line in enumerate(lines, 1):
        if not train and line.startswith(TRAIN) and line.endswith(b"}"):
            continue
        if (event := decode(line)) is not None:
            events.append(event)
        elif number < len(lines) or torn:
            raise ValueError(f"{path}: line {number} is broken; an interrupted run only ever tears its last line")
        else:
            torn = True
    if torn and not live:
        print(f"{path}: the last line is torn; left out", file=sys.stderr)
    return events


def decode(line: bytes) -> dict[str, Any] | None:
    """The event that a line holds; None if it is torn or broken."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def number(value: Any) -> float:
    """A number as events write it: nan, inf and -inf are strings; anything else that is no number is nan."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
