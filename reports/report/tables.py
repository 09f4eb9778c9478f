"""The tables of a report: each column is an expression of sections.yaml over the tree; page, Markdown, LaTeX, CSV."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jinja2
from pandas import DataFrame

from reports.report import formats
from reports.report.sections import blocks, filled
from reports.report.tree import Report


@dataclass(frozen=True)
class Table:
    """A table of text. name: also of its files."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Aligned Markdown; "" without rows."""
        if not self.rows:
            return ""
        escaped = [[inline(text) for text in line] for line in (self.header, *self.rows)]
        widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
        lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in escaped]
        return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"

    def latex(self) -> str:
        """A booktabs tabular with its caption as a comment."""
        table = DataFrame(self.rows, columns=self.header).to_latex(index=False, escape=True)
        table = table.replace("→", r"$\to$").replace("–", "--")
        return f"% {self.caption}\n% needs \\usepackage{{booktabs}}\n{table}"

    def csv(self) -> str:
        """Comma-separated, quoted where needed."""
        return str(DataFrame(self.rows, columns=self.header).to_csv(index=False, lineterminator="\n"))


def inline(text: str) -> str:
    """Text that cannot leave its cell in Markdown, nor become markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def tables(report: Report) -> list[Table]:
    """All tables, in the order of the sections."""
    return [table(report, block.table) for block in blocks() if block.table]


def table(report: Report, name: str) -> Table:
    """One table; ValueError names the choices."""
    known = {block.table: block for block in blocks() if block.table}
    if name not in known:
        raise ValueError(f"table: {name!r} is unknown; choose from {', '.join(known)}")
    block, columns = known[name], known[name].columns
    rows = [
        [_text(_expression(column)(r=report, x=entry)) for column in columns.values()]
        for entry in _expression(block.of)(r=report) or ()
    ]
    return Table(name, filled(block.caption, report), list(columns), rows)


def _text(value: Any) -> str:
    return formats.DASH if value is None or value == "" else str(value)


@functools.cache
def _expression(text: str) -> Callable[..., Any]:
    """An expression over the report r and an entry x of it, with the functions of `formats`; missing is None."""
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined)
    environment.globals |= {**dict(inspect.getmembers(formats, inspect.isfunction)), "exp": math.exp}
    return environment.compile_expression(text)
