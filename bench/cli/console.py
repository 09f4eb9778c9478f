"""Tables on a terminal, and as wide as they are where there is none."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

WIDTH = 150  # columns where no terminal says how many there are


def console() -> Console:
    """A console as wide as the terminal, and wide enough for any table where there is none."""
    found = Console()
    if not found.is_terminal:
        found.width = max(found.width, WIDTH)
    return found


def table(*left: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table: columns of text, then columns of figures."""
    made = Table(box=None, pad_edge=False)
    for title in left:
        made.add_column(title)
    for title in right:
        made.add_column(title, justify="right")
    return made
