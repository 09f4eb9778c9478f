"""The committed result of a suite, reports/reference/SUITE.json, and whether a fresh run agrees with it.

Agreement is within a prediction interval, not in bits: another machine gives other bits. The content is report.json's.
"""

from __future__ import annotations

import math
from pathlib import Path

from scipy import stats

from reports.analysis.comparisons import Comparison
from reports.analysis.verdicts import INTERVAL_PAIRS
from reports.report.formats import ratio
from reports.report.sections import put
from reports.report.tree import Agreement, Report, decode, encode

FOLDER = Path(__file__).parents[1] / "reference"
LEVEL = 0.01  # that any comparison of an agreeing suite falls outside, over all of them (Bonferroni)


def load(suite: str) -> Report | None:
    """The reference of a suite, None if there is none; ValueError, one line, if it is of another schema."""
    path = FOLDER / f"{suite}.json"
    return decode(path) if path.is_file() else None


def save(report: Report, name: str = "") -> Path:
    """Make a report the reference of its suite, or of another name."""
    put(path := FOLDER / f"{name or report.suite}.json", encode(report))
    return path


def agreement(report: Report) -> Agreement:
    """How many speedups lie within the reference's prediction interval for a mean of as many pairs; which do not."""
    try:
        reference = load(report.suite)
    except ValueError as error:
        return Agreement(str(error), refused=True)
    if reference is None:
        return Agreement("no reference")
    if {run.run for run in report.runs} != {run.run for run in reference.runs}:
        note = "the committed reference is of another configuration; make it again with: make tables"
        return Agreement(note, refused=True)
    mine, theirs = _usable(report), _usable(reference)
    both, outside = [key for key in mine if key in theirs], []
    if not both:
        return Agreement(f"no speedup that both have, of {INTERVAL_PAIRS} pairs or more")
    for cell, method in both:
        one, known = mine[cell, method], theirs[cell, method]
        spread = known.sd.value * math.sqrt(1 / known.n + 1 / one.n)
        half = float(stats.t.ppf(1 - LEVEL / len(both) / 2, known.n - 1)) * spread + 1e-9
        low, high = math.exp(known.mean - half), math.exp(known.mean + half)
        if not low <= one.speedup <= high:
            around = f"the prediction interval [{low:.2f}, {high:.2f}] of the reference's {ratio(known.speedup)}"
            outside.append(f"{cell}: reference: {method} is at {ratio(one.speedup)}, outside {around}.")
    data, known_data = (one.made.get("data", "") for one in (report, reference))
    unknown = set(data.split("; ")) - set(known_data.split("; "))  # half a sweep has seen only some datasets
    others = f"the reference was trained on other data: {known_data}, here {data}" if unknown else ""
    return Agreement(others, len(both), tuple(outside))


def _usable(report: Report) -> dict[tuple[str, str], Comparison]:
    """The comparisons with enough pairs, by cell and method."""
    arms = [arm for arm in report.comparisons if arm.role != "floor"]
    return {(arm.cell, arm.method): arm.result for arm in arms if arm.result and arm.result.n >= INTERVAL_PAIRS}
