"""Reading and writing the files of a run: JSON that is checked as it is read, files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO

# The keys that a file must hold, and the type of each.
Keys = dict[str, type | UnionType]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` when the block ends without an error.

    It is written beside, flushed to the disk and renamed: a reader sees the old content or the new one. Its folder is
    made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename durable, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, whole or not at all."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def read_json(path: Path) -> Any:
    """A JSON file; ValueError, one line, if it is not there or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: not there") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def read_object(path: Path, keys: Keys) -> dict[str, Any]:
    """A JSON object that has at least `keys`, of their types; ValueError, one line, naming the first that it lacks."""
    return checked(path, read_json(path), keys)


def checked(where: object, content: Any, keys: Keys) -> dict[str, Any]:
    """The content, if it is an object with `keys`, of their types; else ValueError names `where` and the key."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: holds no object but {type(content).__name__}")
    for key, kind in keys.items():
        if key not in content:
            raise ValueError(f"{where}: lacks {key!r}; needed are {', '.join(keys)}")
        if not isinstance(content[key], kind):
            name = getattr(kind, "__name__", kind)
            raise ValueError(f"{where}: {key} is {str(content[key])[:40]!r}, not of the type {name}")
    return content
