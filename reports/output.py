"""Writing a report to a folder, and checking what the records of a suite must pass."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.build import build, encode
from reports.figures import Figure
from reports.formats import finite, plural
from reports.records.suite_records import Records, read, with_baseline
from reports.sentences import PROGRESS
from reports.table import Table, inline

SECTIONS = (  # of report.md, in the order of the page: title, tables, groups of figures
    ("Speedup to target", ("pooled", "speedup", "details", "sensitivity"), ("speedup",)),
    ("Speedup over the ladder of targets", ("ladder", "targets"), ("ladder",)), ("Curves", (), ("curves",)), ("Pair by pair", (), ("pairs",)),
    ("At the full budget", ("final",), ()), ("Images, seconds, FLOPs", ("axes", "needed"), ()), ("Performance profile", (), ("profile",)),
    ("Stability", ("measured", "growth", "probed", "responses", "ranks", "learnt"),
     ("norms", "blocks", "shares", "growth", "gradients", "gradient-blocks", "response", "gates")),
    ("A/A", ("aa",), ("aa",)), ("Matching", ("networks", "weights"), ()), ("Gates", ("failures", "gates"), ()), ("Claims of the paper", ("claims",), ()),
)
COMPARED = {"Speedup to target", "Speedup over the ladder of targets", "Pair by pair", "At the full budget", "Images, seconds, FLOPs",
            "Performance profile", "A/A"}  # what a suite of measurements, without pilots, has not


def write(root: Path | str, suite: str, out: Path | str | None = None, baseline: str | None = None) -> Path:
    """Write report.json, index.html, report.md, tables/ (md, tex, csv) and figures/ (svg) to `out`; returns the path of index.html.

    out: by default ROOT/SUITE/report. baseline: another arm to compare with. ValueError, one line, if there is no run at
    all. A part of a suite gives a report of that part.
    """
    from reports import page
    from reports.figures import figures
    from reports.tables import tables

    own = read(Path(root), suite)
    if not own.runs:
        raise ValueError(f"suite: {suite!r} has no run in {root} yet; start it with: python -m bench run {suite}")
    records = with_baseline(own, baseline)
    report = build(records, own_baseline=records is own)
    folder = Path(out) if out else Path(root) / suite / "report"
    drawn, made = figures(report), tables(report)
    for name in ("figures", "tables"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for table in made:
        _table(folder / "tables", table)
    for figure in drawn:
        _put(folder / "figures" / f"{figure.name}.svg", figure.svg)
    _put(folder / "report.md", markdown(report, made, drawn))
    _put(folder / "index.html", page.render(report, made, drawn, page.grids(own.folder, report)))
    _put(folder / "report.json", encode(report))  # last: by it `sync` knows a report that is whole
    return folder / "index.html"


def markdown(report: Mapping[str, Any], made: Sequence[Table], drawn: Sequence[Figure]) -> str:
    """The report as one Markdown file that shows the figures beside it."""
    by_name = {table.name: table for table in made}
    parts = [f"# {inline(report['title'])}\n", *([f"> **{inline(report['banner'])}**\n"] if report["banner"] else []),
             "\n".join(f"- {inline(verdict['text'])}" for verdict in report["verdicts"]) + "\n"]
    for title, tables, groups in SECTIONS:
        shown = [by_name[name] for name in tables if by_name[name].rows]
        pictures = [figure for figure in drawn if figure.group in groups]
        if (shown or pictures) and (report["seeds"]["pilots"] or title not in COMPARED) and (report["stability"] or title != "Stability"):
            parts.append(f"## {title}\n")
            parts += [f"![{figure.group} {inline(figure.title)}](figures/{figure.name}.svg)\n" for figure in pictures]
            parts += [f"{inline(table.caption)}\n\n{table.markdown()}" for table in shown]
    return "\n".join(parts)


def check(root: Path | str, suite: str) -> list[str]:
    """One line per failed gate; in a miniature suite also per cell whose training got nowhere."""
    from reports.gates import failures

    records = read(Path(root), suite)
    return [*map(str, failures(records)), *_too_small(records)]


def agreement(root: Path | str, suite: str) -> tuple[list[str], str]:
    """How a suite agrees with its committed reference: a line per speedup that does not, and one that counts them or says why
    none was compared."""
    from reports import reference

    found = reference.of(read(Path(root), suite))
    if found["note"]:
        return [], f"not compared with the reference: {found['note']}"
    return found["outside"], f"{found['compared'] - len(found['outside'])} of {plural(found['compared'], 'speedup')} within the reference's interval"


def missing(root: Path | str, suite: str) -> str:
    """How many runs of a suite are not there or not done; "" if none."""
    records = read(Path(root), suite)
    running, listed = sum(run["status"] == "running" for run in records.runs.values()), len(records.suite["runs"])
    said = [f"{count} of {plural(listed, 'run')} {what}" for count, what in ((len(records.missing), "missing"), (running, "not finished")) if count]
    return ", ".join(said)


def progress(root: Path | str, suite: str) -> list[str]:
    """One line per cell whose baselines are done: how far the distance fell, by which `check` judges a miniature suite."""
    return [_said(name, ratio) for name, ratio in _progress(read(Path(root), suite)).items()]


def _too_small(records: Records) -> list[str]:
    """Cells of too little training. A trial concludes nothing; a tenth of a published budget is far down the curve."""
    if records.suite["scale"] != "mini" or records.suite.get("trial"):
        return []
    return [f"{_said(name, ratio)}; more than a third is too small a suite" for name, ratio in _progress(records).items() if ratio > PROGRESS]


def _progress(records: Records) -> dict[str, float]:
    """cell -> the distance at the end over that after a tenth of the budget, the mean over complete baselines."""
    from reports.cells import cell

    found = {name: cell(records, name)["progress"] for name in records.cells} if records.suite["seeds"]["pilots"] else {}
    return {name: ratio for name, ratio in found.items() if finite(ratio)}


def _said(cell: str, ratio: float) -> str:
    return f"{cell}: progress: the distance at the end is {ratio:.2f} of that after a tenth of the budget"


def _table(folder: Path, table: Table) -> None:
    _put(folder / f"{table.name}.md", f"{inline(table.caption)}\n\n{table.markdown()}")
    _put(folder / f"{table.name}.tex", table.latex())
    _put(folder / f"{table.name}.csv", table.csv())


def _put(path: Path, text: str) -> None:
    """Write beside, then rename: whoever looks meanwhile sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
