"""The one list of sections that page and report.md follow (sections.yaml), its texts filled in, and its tables."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from pandas import DataFrame
from pydantic import BaseModel, ConfigDict, TypeAdapter

from reports.records.files import replacing
from reports.report import formats
from reports.report.tree import Report

FILE = Path(__file__).with_name("sections.yaml")


class SectionBlock(BaseModel):
    """A group of figures or a table with its caption; the rest says how lines are drawn, or the table's columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    figure: str = ""
    table: str = ""
    caption: str = ""
    what: str = ""
    x: str = ""
    y: str = ""
    log: str = ""
    bars: bool = False
    of: str = ""
    columns: dict[str, str] = {}


class Section(BaseModel):
    """A section of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    title: str
    prose: str = ""
    folded: bool = False
    only: Literal["", "beside", "comparison", "stability"] = ""
    blocks: tuple[SectionBlock | Literal["samples"], ...] = ()

    def shown(self, report: Report) -> bool:
        """Whether a report has the section."""
        return {
            "": True,
            "beside": bool(report.beside),
            "comparison": report.compares,
            "stability": bool(report.probed),
        }[self.only]


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

    def write(self, folder: Path, head: str = "") -> None:
        """Write it to `folder` as Markdown, below a head or its caption; as LaTeX; and comma-separated."""
        csv = DataFrame(self.rows, columns=self.header).to_csv(index=False, lineterminator="\n")
        put(folder / f"{self.name}.md", f"{head or inline(self.caption)}\n\n{self.markdown()}")
        put(folder / f"{self.name}.tex", self.latex())
        put(folder / f"{self.name}.csv", csv)


def put(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def inline(text: str) -> str:
    """Text that cannot leave its cell in Markdown, nor become markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


@functools.cache
def sections() -> tuple[Section, ...]:
    """All sections, in their order."""
    return TypeAdapter(tuple[Section, ...]).validate_python(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def blocks() -> list[SectionBlock]:
    """All blocks but sample grids, in their order."""
    return [block for section in sections() for block in section.blocks if isinstance(block, SectionBlock)]


def tables(report: Report) -> list[Table]:
    """All tables, in the order of the sections."""
    return [table(report, block.table) for block in blocks() if block.table]


def table(report: Report, name: str) -> Table:
    """One table; ValueError names the choices."""
    known = {block.table: block for block in blocks() if block.table}
    if name not in known:
        raise ValueError(f"table: {name!r} is unknown; choose from {', '.join(known)}")
    columns = {filled(title, report): expression(column) for title, column in known[name].columns.items()}
    columns.pop("", None)
    found = [
        [column(r=report, x=entry) for column in columns.values()]
        for entry in expression(known[name].of)(r=report) or ()
    ]
    rows = [[formats.DASH if value in (None, "") else str(value) for value in row] for row in found]
    return Table(name, filled(known[name].caption, report), list(columns), rows)


@functools.cache
def _environment() -> jinja2.Environment:
    """In which the texts and expressions of the data files stand: with the functions of `formats`; missing is empty."""
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined)
    environment.globals |= {**dict(inspect.getmembers(formats, inspect.isfunction)), "exp": math.exp}
    return environment


@functools.cache
def expression(text: str) -> Callable[..., Any]:
    """An expression over the report r and an entry x of it; missing is None."""
    return _environment().compile_expression(text)


def filled(text: str, report: Report, entry: Any = None) -> str:
    """A text about the report r and an entry x of it, with what stands in braces filled in."""
    return _environment().from_string(text).render(r=report, x=entry).strip()
