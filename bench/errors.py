"""Wrong input of the user: the command line prints one line and exits with 2."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable
from pathlib import Path

# What the system says of a path that cannot be used.
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)


class BadInput(ValueError):
    """Wrong input. The message is one line that names the field, the value and, where they exist, the valid choices."""


def unknown(field: str, value: object, choices: Iterable[object]) -> BadInput:
    """The error for a value that is none of the valid choices."""
    return BadInput(f"{field}: {value!r} is unknown; choose from {', '.join(map(str, choices))}")


def is_bad_input(error: Exception, given: Iterable[Path] = ()) -> bool:
    """Whether an error speaks of the user's input: a ValueError of a class of this project, wherever it comes out, a
    worker process too; a plain one that this project raised itself; an OSError of a path in one of the `given` folders
    that the system does not let us use. What else comes out of a library is a fault of ours, and keeps its traceback.
    """
    if isinstance(error, OSError) and error.errno in UNUSABLE and isinstance(error.filename, str):
        return any(Path(error.filename).resolve().is_relative_to(folder.resolve()) for folder in given)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_globals.get("__name__", "") if frames else ""
    return (isinstance(error, ValueError) and _ours(type(error).__module__)) or (
        type(error) is ValueError and _ours(raised_in)
    )


def _ours(module: str) -> bool:
    return module.partition(".")[0] in ("bench", "models", "datasets", "reports")
