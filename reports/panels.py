"""What the panels of all figures share: their size, the names of rows, legends, notes below and ticks of a vertical axis."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reports.styles import Style, style
from reports.svg import QUIET, Canvas, Scale

Report = dict[str, Any]
Panels = Iterator[tuple[str, Canvas]]  # title and drawing
WIDTH, ROW = 460, 26
LABELS = 146  # width of the column with names of rows
LETTERS, LINE = 19, 14  # of a name in that column: letters a line, pixels a line


def _lines(name: str) -> list[str]:
    return textwrap.wrap(name, LETTERS)


def row_height(names: Iterable[str], least: float = ROW) -> float:
    """The height of a row, so that the longest name finds room in it."""
    return max(least, 4 + LINE * max(len(_lines(name)) for name in names))


def row_name(canvas: Canvas, y: float, name: str) -> None:
    """The name of a row, in as many lines as it needs, around y."""
    lines = _lines(name)
    for i, line in enumerate(lines):
        canvas.text(LABELS - 10, y + 4 + LINE * (i - (len(lines) - 1) / 2), line, "end")


def note(canvas: Canvas, text: str) -> None:
    """A line or more below all else."""
    for line in textwrap.wrap(text, 56):
        canvas.height += LINE + 4
        canvas.text(62, canvas.height - 8, line, colour=QUIET)


def thin(scale: Scale, candidates: Sequence[float]) -> list[float]:
    """Ticks of a vertical axis, whose labels need less room than those of a horizontal one."""
    kept: list[float] = []
    for value in sorted((c for c in candidates if scale.low <= c <= scale.high), key=lambda c: (c != 1, c)):
        if all(abs(scale(value) - scale(other)) >= 18 for other in kept):
            kept.append(value)
    return sorted(kept)


def legend(canvas: Canvas, methods: Sequence[str], report: Report, y: float) -> None:
    """Methods beside their line and marker."""
    names(canvas, {method: style(method, report["arms"]) for method in methods}, y)


def names(canvas: Canvas, looks: dict[str, Style], y: float) -> None:
    """Names beside their line and marker, in as many lines as they need; the canvas grows with them."""
    x = 62.0
    for method, look in looks.items():
        width = 34 + 7.2 * len(method)
        if x + width > canvas.width and x > 62:
            x, y = 62.0, y + 20
        canvas.line([(x, y - 4), (x + 22, y - 4)], look.colour, 2, look.dash)
        canvas.mark(x + 11, y - 4, look.marker, look.colour, size=4)
        canvas.text(x + 28, y, method)
        x += width + 12
    canvas.height = max(canvas.height, y + 8)
