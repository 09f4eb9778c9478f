"""Tables and figures of README and docs, from runs/SUITE where it is complete, else from the committed reference.

    python -m reports.report.embed README.md docs/*.md           write them (`make tables`)
    python -m reports.report.embed --check README.md docs/*.md   exit 1 if one is stale against the reference

A file says what it wants by a pair of comments; what lies between them is made:

    <!-- table quick speedup -->              <!-- figure quick curves-digits-uvit-xs docs/curves.svg -->
    <!-- end -->                              <!-- end -->

by <!-- samples quick docs/samples.png --> the last samples of every arm (only runs have them: without runs the file
stays), and by <!-- board quick --> the leaderboard's table. Suites that a comma joins make one table; SUITE@ARM
compares with that arm.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from reports.records.suite_records import OWN, Records, read, with_baseline
from reports.report import reference
from reports.report.build import build
from reports.report.figures import figures
from reports.report.leaderboard import board
from reports.report.output import unfinished
from reports.report.samples import sheet
from reports.report.sections import Table, put, table
from reports.report.tree import Report

WANTED = re.compile(
    r"(?P<head><!-- (?P<kind>table|figure|samples|board) (?P<suite>[\w.@,-]+)"
    r"(?: (?P<name>[\w.-]+))?(?: (?P<path>[\w./-]+))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)
WIDEST = 125  # characters of an embedded table


def latest(suite: str, root: Path | None) -> Report:
    """The reference of a suite, made again from its sweep under `root` if that is complete; ValueError without one.

    suite: skip-dit@none is the suite skip-dit with its arms compared with none.
    """
    if records := complete(suite, root):
        reference.save(build(records, own_baseline="@" not in suite), suite)
    if (found := reference.load(suite)) is None:
        where = f"no reference in {reference.FOLDER}; complete its runs and call: make tables"
        raise ValueError(f"suite: {suite!r} has {where}")
    return found


def complete(suite: str, root: Path | None) -> Records | None:
    """The records of a suite whose runs under `root` are all over."""
    name, _, baseline = suite.partition("@")
    if root and (root / name / "suite.json").is_file() and not unfinished(root, name, OWN):
        return with_baseline(read(root, name), baseline or None)
    return None


def samples(suite: str, root: Path | None) -> bytes:
    """The sheet of a suite's samples; empty without complete runs under `root`."""
    return sheet(records, build(records)) if (records := complete(suite, root)) else b""


def renew(
    text: str, home: Path, source: Callable[[str], Report], pictures: Callable[[str], bytes] = lambda _: b""
) -> tuple[str, dict[Path, bytes]]:
    """The text of a file in `home` with every table and figure made anew, and the files of its figures.

    pictures: the sheet of a suite's samples; empty if the file that is there is to stay.
    """
    files: dict[Path, bytes] = {}

    def make(match: re.Match[str]) -> str:
        name, path = match["name"], match["path"]
        if match["kind"] == "samples":
            report, file = source(match["suite"]), Path(path or "")
            if drawn := pictures(match["suite"]):
                files[file] = drawn
            elif not file.is_file():
                raise ValueError(f"samples: {str(file)!r} is not there; complete the runs of {match['suite']}")
            cells = " and ".join(sorted(cell.cell for cell in report.cells))
            made = f"![samples]({os.path.relpath(file, home)})\nRows: {cells}. Columns: {', '.join(report.arms)}."
        elif match["kind"] != "figure":
            one = board(match["suite"]) if match["kind"] == "board" else joined(match["suite"].split(","), name, source)
            made = f"{one.markdown()}\n{one.caption}"
            if (width := max(map(len, one.markdown().splitlines()), default=0)) > WIDEST:
                what = f"{one.name!r} of {match['suite']} is {width} characters wide, more than {WIDEST}"
                raise ValueError(f"table: {what}: choose a narrower one")
        else:
            known = {figure.name: figure for figure in figures(source(match["suite"]))}
            if name not in known or not path:
                raise ValueError(f"figure: {name!r} needs a file and must be one of {', '.join(known)}")
            files[Path(path)] = known[name].svg.encode()
            made = f"![{f'{known[name].group} {known[name].title}'.strip()}]({os.path.relpath(path, home)})"
        return f"{match['head']}\n{made}\n\n{match['end']}"

    return WANTED.sub(make, text), files


def joined(suites: Sequence[str], name: str, source: Callable[[str], Report]) -> Table:
    """One table of several suites: the rows of one below those of the other; ValueError if columns or captions differ.

    Where no column says the cell, the first one says the suite.
    """
    made = {suite: table(source(suite), name) for suite in suites}
    first = made[suites[0]]
    if any((one.header, one.caption) != (first.header, first.caption) for one in made.values()):
        what = f"{name!r} has other columns or another caption in {suites[0]}"
        raise ValueError(f"table: {what} than in another of {', '.join(suites)}")
    if len(suites) == 1 or "cell" in first.header:
        return replace(first, rows=[row for one in made.values() for row in one.rows])
    rows = [[suite, *row] for suite, one in made.items() for row in one.rows]
    return replace(first, header=["suite", *first.header], rows=rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; paths are relative to where it is called, the root of the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("--check", action="store_true", help="only say which tables are stale against the reference")
    options = parser.parse_args(arguments)
    root, stale = None if options.check else options.root, []
    source = functools.cache(lambda suite: latest(suite, root))
    try:
        for path in options.files:
            text, made = renew(
                path.read_text(encoding="utf-8"), path.parent, source, lambda suite: samples(suite, root)
            )
            for file, content in {path: text.encode(), **made}.items():
                if not options.check:
                    put(file, content)
                elif not file.is_file() or file.read_bytes() != content:
                    stale.append(file)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for file in stale:
        print(f"{file}: stale; call: make tables")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
