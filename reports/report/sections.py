"""The one list of sections that the page and report.md follow, read from sections.yaml."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from reports.report import formats
from reports.report.tree import Report


class Block(BaseModel):
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
    only: Literal["", "comparison", "stability"] = ""
    blocks: tuple[Block | Literal["samples"], ...] = ()

    def shown(self, report: Report) -> bool:
        """Whether a report has the section."""
        has = {"": True, "comparison": bool(report.seeds["pilots"]), "stability": report.stability is not None}
        return has[self.only]


@functools.cache
def sections() -> tuple[Section, ...]:
    """All sections, in their order."""
    content = yaml.safe_load(Path(__file__).with_name("sections.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Section, ...]).validate_python(content)


def blocks() -> list[Block]:
    """All blocks but sample grids, in their order."""
    return [block for section in sections() for block in section.blocks if isinstance(block, Block)]


def filled(text: str, report: Report) -> str:
    """A text of sections.yaml with its words in braces filled in."""
    distance = " or ".join(sorted({cell.measure.name for cell in report.cells if cell.measure})) or "Distance"
    level = formats.percent(report.level, ".3g")
    return text.format(baseline=report.baseline, null_method=report.null_method, level=level, distance=distance)
