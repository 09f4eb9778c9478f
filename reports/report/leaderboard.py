"""The leaderboard: methods on one suite, a committed file each, reports/leaderboard/METHOD.json.

    python -m reports.report.leaderboard 'halved(factor=0.7)'     enter a method that `run quick --arm` has trained

`make tables` then writes its table into docs/leaderboard.md. Every entry is paired with a baseline trained beside it,
on whatever machine, and the interval of each counts all entries.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reports.analysis.comparisons import Comparison
from reports.analysis.planning import ALPHA
from reports.analysis.pooling import pool_cells
from reports.analysis.verdicts import VERDICT_PAIRS
from reports.records.files import read_json
from reports.records.suite_records import Records, read, widest
from reports.report import formats
from reports.report.build import build
from reports.report.sections import Table, put
from reports.report.tree import encode, restore

FOLDER = Path(__file__).parents[1] / "leaderboard"


@dataclass(frozen=True)
class Entry:
    """A method on a suite. baseline: digest of the configurations of the runs it is compared with."""

    method: str
    suite: str
    scale: str
    baseline: str
    cells: dict[str, Comparison]  # by "dataset/backbone", of the usable cells


def enter(root: Path, suite: str, methods: Sequence[str], folder: Path = FOLDER) -> list[Path]:
    """Write the entries of trained arms: all, or none and ValueError, one line, where one allows no verdict."""
    found = {folder / file_name(method): _entry(root, suite, method) for method in methods}
    for path, entry in found.items():
        if path.is_file() and ((other := _read(path)).suite, other.method) != (suite, entry.method):
            told = f"holds {other.method!r} on {other.suite}; rename it to enter {entry.method!r} on {suite}"
            raise ValueError(f"{path}: {told}")
    for path, entry in found.items():
        put(path, encode(entry))
    return list(found)


def file_name(method: str) -> str:
    """Of a method's entry."""
    return f"{re.sub(r'[^a-z0-9.]+', '-', method.lower()).strip('-')}.json"


def _entry(root: Path, suite: str, method: str) -> Entry:
    records = read(root, suite, widest(root, suite))
    if records.suite.looks:
        raise ValueError(f"suite: {suite!r} has looks; enter methods on a suite with a fixed number of pairs")
    if method not in (arms := [arm for arm in records.suite.arms if arm != records.suite.baseline]):
        raise ValueError(f"method: {method!r} is no arm of {root}/{suite}; choose from {', '.join(arms)}")
    report = build(records)
    pool = next(pool for pool in report.pooled if pool.method == method)
    if pool.result is None or pool.result.n < VERDICT_PAIRS:
        pairs = f"{pool.result.n} pairs in a cell, {VERDICT_PAIRS} are needed" if pool.result else pool.withheld
        words = ["run", suite, f"--root={root}", f"--arm={method}"]
        go_on = f"; go on with: python -m bench {shlex.join(words)}" if records.missing else ""
        raise ValueError(f"method: {method!r} is not entered: {pairs}{go_on}")
    found = {arm.cell: arm.result for arm in report.comparisons if arm.method == method and arm.result}
    cells = {cell: replace(found[cell], levels=()) for cell in pool.result.cells}
    return Entry(method, suite, report.scale, _baseline(records), cells)


def _read(path: Path) -> Entry:
    """A committed entry; ValueError, one line, for a file that is none."""
    try:
        entry: Entry = restore(Entry, read_json(path))
        numbers = [number for cell in entry.cells.values() for number in (cell.mean, cell.sd.value, cell.n)]
        if path.name != file_name(entry.method) or not all(map(math.isfinite, numbers)):
            raise TypeError(f"its name is not {file_name(entry.method)}, or a number is missing")
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is no entry ({error}); enter its method again") from None
    return entry


def board(suite: str, folder: Path = FOLDER) -> Table:
    """All entries of a suite, fastest first; ValueError, one line, where they were not compared with one baseline."""
    entries = [_read(path) for path in sorted(folder.glob("*.json"))]
    entries = [entry for entry in entries if entry.suite == suite]
    compared_with = {entry.method: (entry.baseline, *sorted(entry.cells)) for entry in entries}
    common = Counter(compared_with.values()).most_common(1)
    for method, configuration in compared_with.items():
        if configuration != common[0][0]:
            path = folder / file_name(method)
            raise ValueError(f"{path}: compared with another configuration of {suite}; enter all methods again")
    alpha = ALPHA / max(len(entries), 1)
    pooled = [(pool_cells(entry.cells, alpha), entry) for entry in entries]
    pooled.sort(key=lambda one: -one[0].speedup)
    cells = list(entries[0].cells) if entries else []
    rows = [
        [entry.method, formats.interval(pool), formats.scaled(pool.verdict, entry.scale)]
        + [formats.ratio(entry.cells[cell].speedup) for cell in cells]
        for pool, entry in pooled
    ]
    caption = (
        f"Speedup over the baseline on {suite}, all cells; intervals at {100 * (1 - alpha):.2f} %: "
        f"5 % over {len(entries)} methods."
    )
    return Table("leaderboard", caption, ["method", "speedup", "verdict", *cells], rows)


def _baseline(records: Records) -> str:
    """A digest of the configurations of the baseline's runs."""
    listed = [run for run in records.suite.runs if (run.role, run.method) == ("paired", records.suite.baseline)]
    hashes = sorted(records.results[run.run].hash for run in listed if run.run in records.results)
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="an arm as the report names it")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("--suite", default="quick", help="the suite (default: quick)")
    options = parser.parse_args(arguments)
    try:
        print(*enter(options.root, options.suite, options.methods), sep="\n")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print("write the table with: make tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
