"""The leaderboard: methods on one suite, a committed file each, reports/leaderboard/SUITE-METHOD.json.

    python -m reports.report.leaderboard 'halved(factor=0.7)'     enter a method that `run quick --arm` has trained

`make tables` then writes its table into docs/leaderboard.md. Every entry is paired with a baseline trained beside it,
on whatever machine, and the interval of each counts all entries.
"""

from __future__ import annotations

import argparse
import hashlib
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

FAR = 10.0  # a log ratio that no comparison has
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
    found = {folder / file_name(suite, method): _entry(root, suite, method) for method in methods}
    if len(found) < len(set(methods)):
        raise ValueError(f"method: two of {', '.join(map(repr, methods))} would be one file; register one otherwise")
    for path, entry in found.items():
        if path.is_file() and (other := _read(path)).method != entry.method:
            raise ValueError(f"{path}: holds {other.method!r}; register {entry.method!r} under another name")
    for path, entry in found.items():
        put(path, encode(entry))
    return list(found)


def file_name(suite: str, method: str) -> str:
    """Of a method's entry."""
    return f"{formats.slug(suite)}-{formats.slug(method)}.json"


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
        go_on = "; call the run that trains it again" * bool(records.missing)
        raise ValueError(f"method: {method!r} is not entered: {pairs}{go_on}")
    found = {arm.cell: arm.result for arm in report.comparisons if arm.method == method and arm.result}
    cells = {cell: replace(found[cell], levels=()) for cell in pool.result.cells}
    return Entry(method, suite, report.scale, _baseline(records), cells)


def _read(path: Path) -> Entry:
    """A committed entry; ValueError, one line, for a file that is none."""
    try:
        entry: Entry = restore(Entry, read_json(path))
        if path.name != (name := file_name(entry.suite, entry.method)):
            raise TypeError(f"its name is not {name}")
        for cell, one in entry.cells.items():
            if not (abs(one.mean) < FAR and 0 <= one.sd.value < FAR and one.n >= VERDICT_PAIRS):
                raise TypeError(f"cells: {cell}: mean, sd or n is out of range")
        if entry.scale not in (scales := ("mini", "full")):
            raise TypeError(f"scale: {entry.scale!r}: choose from {', '.join(scales)}")
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
            path = folder / file_name(suite, method)
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
