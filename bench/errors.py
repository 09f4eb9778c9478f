"""Wrong input of the user: the command line prints one line and exits with 2."""

from __future__ import annotations

import dis
import errno
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
    worker process too; a plain one that a `raise` of this project raised; an OSError of a path in one of the `given`
    folders that the system does not let us use. What else comes out of a library, or of an expression of ours, as
    `a, b = line.split()`, is a fault of ours, and keeps its traceback.
    """
    if isinstance(error, OSError) and error.errno in UNUSABLE and isinstance(error.filename, str):
        return any(Path(error.filename).resolve().is_relative_to(folder.resolve()) for folder in given)
    if type(error) is not ValueError:
        return isinstance(error, ValueError) and _ours(type(error).__module__)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or last.tb_frame.f_code.co_code[last.tb_lasti] != dis.opmap["RAISE_VARARGS"]:  # no `raise`
        return False
    return _ours(last.tb_frame.f_globals.get("__name__", ""))


def _ours(module: str) -> bool:
    return module.partition(".")[0] in ("bench", "models", "datasets", "reports")
