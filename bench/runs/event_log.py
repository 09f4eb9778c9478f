"""The event log of a run: append-only, one strict-JSON object per line, on disk at every evaluation and checkpoint."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


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
        self._file.flush()
        if flush:
            os.fsync(self._file.fileno())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def whole(self) -> int:
        """Bytes up to the end of the last whole line; less than `size` if a sudden end cut the last one short."""
        return self.path.read_bytes().rfind(b"\n") + 1

    def cut(self, size: int) -> None:
        """Remove what lies beyond `size` bytes, but keep the `resume` lines in it: they are the record of what happened."""
        text = self.path.read_bytes()
        kept = [line for line in text[size:].splitlines(keepends=True) if _is_resume(line)]
        self._file.truncate(size)
        self._file.seek(size)
        for line in kept:
            self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush to disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _is_resume(line: bytes) -> bool:
    return line.startswith(b'{"event": "resume"') and line.endswith(b"}\n")


def tail(path: Path, most: int = 8192) -> dict | None:
    """The last whole event of a log, or None; reads only the end of the file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        if line.endswith(b"\n"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue
    return None
