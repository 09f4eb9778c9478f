"""Writing a report to a folder, and checking the gates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from reports import gates
from reports.build import build
from reports.reading import Records, records
from reports.sentences import finite
from reports.tables import Table, tables
from reports.words import VERDICT_SEEDS


def write(root: Path | str, suite: str, out: Path | str | None = None) -> Path:
    """Write report.json, index.html, report.md, tables/ (md, tex, csv) and figures/ (svg); returns the path of index.html.

    ValueError, one line, if there is no run at all. A part of a suite gives a report of that part.
    """
    from reports import figures, page

    read = records(Path(root), suite)
    if not read.runs:
        raise ValueError(f"suite: {suite!r} has no run in {root} yet; start it with: python -m bench run {suite}")
    report = build(read)
    folder = Path(out) if out else Path(root) / suite / "report"
    shutil.rmtree(folder / "figures", ignore_errors=True)
    shutil.rmtree(folder / "tables", ignore_errors=True)
    drawn, made = figures.figures(report), tables(report)
    _put(folder / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    for table in made:
        for kind, text in (("md", f"{table.caption}\n\n{table.markdown()}"), ("tex", table.latex()), ("csv", table.csv())):
            _put(folder / "tables" / f"{table.name}.{kind}", text)
    for name, svg in drawn.items():
        _put(folder / "figures" / f"{name}.svg", svg)
    _put(folder / "report.md", markdown(report, made, list(drawn)))
    _put(folder / "index.html", page.render(report, made, drawn, page.grids(Path(root) / suite, report)))
    return folder / "index.html"


def markdown(report: dict[str, Any], made: list[Table], drawn: list[str]) -> str:
    """The report as one Markdown file that shows the figures beside it."""
    parts = [f"# {report['title']}\n"]
    parts += [f"> **{report['banner']}**\n"] if report["banner"] else []
    parts += ["\n".join(f"- {line}" for line in report["verdicts"]) + "\n"]
    parts += [f"## {table.name.capitalize()}\n\n{table.caption}\n\n{table.markdown() if table.rows else ''}" for table in made]
    parts += [f"![{name}](figures/{name}.svg)\n" for name in drawn]
    return "\n".join(parts)


def check(root: Path | str, suite: str) -> list[str]:
    """One line per failed gate; in a suite of verdicts also per cell whose training got nowhere."""
    read = records(Path(root), suite)
    return [str(failure) for failure in gates.failures(read)] + _too_small(read)


def _too_small(read: Records) -> list[str]:
    if len(read.suite["seeds"]["paired"]) < VERDICT_SEEDS:
        return []
    from reports.build import cell

    found = [cell(read, name) for name in read.cells]
    return [f"{c['cell']}: distance at the end is {c['progress']:.2f} of that after a tenth of the budget; more than a third is too small a suite"
            for c in found if finite(c["progress"]) and not c["progress_ok"]]


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
