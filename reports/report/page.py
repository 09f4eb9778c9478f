"""Writing a report to a folder: tables, figures, report.md, the self-contained page, and report.json."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reports.records.suite_records import Records
from reports.report import formats
from reports.report.figures import Figure, figures
from reports.report.samples import grids
from reports.report.sections import blocks, filled, inline, put, sections, tables
from reports.report.styles import INK, style
from reports.report.tree import Report, encode

HERE = Path(__file__).parent


def write(report: Report, records: Records, folder: Path) -> Path:
    """Write everything to `folder`; returns the path of index.html."""
    drawn, made = figures(report), tables(report)
    for name in ("figures", "tables"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for table in made:
        table.write(folder / "tables")
    groups: dict[str, list[Figure]] = {}
    for figure in drawn:
        put(folder / "figures" / f"{figure.name}.svg", figure.svg)
        groups.setdefault(figure.group, []).append(figure)
    content = {"r": report, "figures": groups, "tables": {one.name: one for one in made}}
    content["sections"] = [(one, filled(one.prose, report)) for one in sections() if one.shown(report)]
    content["captions"] = {block.figure: filled(block.caption, report) for block in blocks()}
    content["colours"] = {
        arm: style(arm, report.arms, report.baseline).colour.replace(INK, "currentColor") for arm in report.arms
    }
    put(folder / "report.md", render("page.md", **content))
    put(folder / "index.html", render("page.html", grids=grids(records, report), **content))
    put(folder / "report.json", encode(report))  # last: by it `sync` knows a report that is whole
    return folder / "index.html"


def render(template: str, **content: Any) -> str:
    """A page from its template; nothing in it asks for anything over the network."""
    strict: Any = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    loader, escaped = jinja2.FileSystemLoader(HERE), template.endswith(".html")
    environment = jinja2.Environment(loader=loader, autoescape=escaped, **strict)
    environment.filters |= {"inline": inline, "emphasised": emphasised}
    css = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(css=css, say=formats, **content)


def emphasised(text: str) -> Markup:
    """Text with *words* emphasised."""
    parts = text.split("*")
    return Markup("").join(Markup("<em>{}</em>").format(part) if i % 2 else part for i, part in enumerate(parts))
