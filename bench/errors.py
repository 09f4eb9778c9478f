"""The one exception that means "the user's input is wrong": the command line prints its line and exits with 2."""

from __future__ import annotations

from collections.abc import Iterable


class BadInput(ValueError):
    """Wrong input. The message is one line that names the field, the value and, where they exist, the valid choices."""


def unknown(field: str, value: object, choices: Iterable[object]) -> BadInput:
    """The error for a value that is none of the valid choices."""
    return BadInput(f"{field}: {value!r} is unknown; choose from {', '.join(map(str, choices))}")


def is_bad_input(error: Exception) -> bool:
    """Whether an error speaks of the user's input: a ValueError of a class of this project, wherever it comes out, a
    worker process too; or a plain one that this project raised itself.

    One that comes out of a library is a fault of ours, and keeps its traceback.
    """
    if isinstance(error, ValueError) and _ours(type(error).__module__):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return type(error) is ValueError and _ours(raised_in)


def _ours(module: str) -> bool:
    return module.partition(".")[0] in ("bench", "models", "datasets", "reports")
