"""Result tables and figures of README and docs, from runs/SUITE where it is complete, else from the committed reference.

    python -m reports.embed README.md docs/*.md           write them (`make tables`)
    python -m reports.embed --check README.md docs/*.md   exit 1 if one is stale against the reference

A file says what it wants by a pair of comments; what lies between them is made:

    <!-- table quick speedup -->              <!-- figure quick curves-digits-uvit-xs docs/curves.svg -->
    <!-- end -->                              <!-- end -->
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reports import reference
from reports.build import build
from reports.figures import figures
from reports.records.suite_records import read
from reports.tables import MADE

WANTED = re.compile(r"(<!-- (?P<kind>table|figure) (?P<suite>[\w.-]+) (?P<name>[\w.-]+)(?: (?P<path>[\w./-]+))? -->\n)(?P<old>.*?)(<!-- end -->)", re.DOTALL)

Source = Callable[[str], dict[str, Any]]


def from_reference(suite: str) -> dict[str, Any]:
    """The committed result of a suite; ValueError, one line, if there is none."""
    if (found := reference.load(suite, reference.FOLDER)) is None:
        raise ValueError(f"suite: {suite!r} has no reference in {reference.FOLDER}; complete its runs and call: make tables")
    return found


def from_runs(root: Path) -> Source:
    """Reports of complete sweeps under root, which become the reference; else the committed reference."""
    def source(suite: str) -> dict[str, Any]:
        if not (root / suite / "suite.json").is_file():
            return from_reference(suite)
        records = read(root, suite)
        if records.missing or any(run["status"] == "running" for run in records.runs.values()):
            return from_reference(suite)
        report = dict(build(records))
        reference.save(report, reference.FOLDER)
        return report
    return source


def renew(text: str, home: Path, source: Source) -> tuple[str, dict[Path, str]]:
    """The text of a file in `home` with every wanted table and figure made anew, and the figure files that belong to it."""
    reports: dict[str, dict[str, Any]] = {}
    files: dict[Path, str] = {}

    def make(match: re.Match) -> str:
        if match["suite"] not in reports:
            reports[match["suite"]] = source(match["suite"])
        report = reports[match["suite"]]
        made = _table(report, match["name"]) if match["kind"] == "table" else _figure(report, match, home, files)
        return f"{match[1]}{made}{match[7]}"

    return WANTED.sub(make, text), files


def _table(report: dict[str, Any], name: str) -> str:
    if name not in MADE:
        raise ValueError(f"table: {name!r} is unknown; choose from {', '.join(MADE)}")
    table = MADE[name](report)
    return f"\n{table.markdown()}\n{table.caption}\n\n"


def _figure(report: dict[str, Any], match: re.Match, home: Path, files: dict[Path, str]) -> str:
    drawn = {figure.name: figure for figure in figures(report)}
    if match["name"] not in drawn or not match["path"]:
        raise ValueError(f"figure: {match['name']!r} with the file {match['path']!r} cannot be made; name a file and choose from {', '.join(drawn)}")
    path = Path(match["path"])
    files[path] = drawn[match["name"]].svg
    return f"\n![{drawn[match['name']].group} {drawn[match['name']].title}]({os.path.relpath(path, home)})\n\n"


def stale(files: Sequence[Path], top: Path) -> list[str]:
    """The files under `top` whose tables or figures are not those of the reference, in one line each."""
    found = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        made, figures_of = renew(text, path.parent.relative_to(top), from_reference)
        found += [f"{path}: its tables are stale; call: make tables"] if made != text else []
        found += [f"{top / name}: the figure is stale; call: make tables" for name, svg in figures_of.items()
                  if not (top / name).is_file() or (top / name).read_text(encoding="utf-8") != svg]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; paths are relative to where it is called, the root of the repository."""
    parser = argparse.ArgumentParser(prog="python -m reports.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is stale against the reference")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            print(*(found := stale([path.resolve() for path in options.files], Path.cwd())), sep="\n", end="\n" if found else "")
            return int(bool(found))
        for path in options.files:
            text, made = renew(path.read_text(encoding="utf-8"), path.parent, from_runs(options.root))
            path.write_text(text, encoding="utf-8")
            for name, svg in made.items():
                name.parent.mkdir(parents=True, exist_ok=True)
                name.write_text(svg, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
