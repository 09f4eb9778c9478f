"""What a run folder says of itself, and writing JSON beside what is read. Needs neither torch nor the suite file."""

from __future__ import annotations

import json
import os
from pathlib import Path


def state(folder: Path) -> str:
    """done (complete or diverged), failed (an error stopped it), begun, or absent."""
    if (folder / "result.json").is_file():
        return "done"
    if (folder / "error.json").is_file():
        return "failed"
    return "begun" if (folder / "events.jsonl").is_file() else "absent"


def write_json(path: Path, content: dict) -> None:
    """Write beside, flush, rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
