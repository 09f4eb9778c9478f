"""The committed result of a suite, reports/reference/SUITE.json, and whether a fresh run agrees with it.

Agreement is within a prediction interval, not in bits: another machine gives other bits. The content is that of
report.json (see `schema`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy import stats

from reports import formats
from reports.records.suite_records import Records

FOLDER = Path(__file__).parent / "reference"
LEAST = 3  # pairs of a speedup that is compared
LEVEL = 0.01  # that any comparison of an agreeing sweep falls outside, over all of them (Bonferroni)


def load(suite: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The reference of a suite, None if there is none; ValueError, one line, if it is of another schema."""
    from reports.records.reading import read_object
    from reports.schema import SCHEMA

    path = folder / f"{suite}.json"
    if not path.is_file():
        return None
    content = read_object(path, {"schema": int, "suite": str, "comparisons": list, "runs": list})
    if content["schema"] != SCHEMA:
        raise ValueError(f"{path}: schema {content['schema']!r}; this reader knows {SCHEMA}; make it again with: make tables")
    return content


def agreement(report: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, Any]:
    """How many comparisons lie within the reference's prediction interval for a mean of as many pairs, and which do not."""
    if reference is None:
        return {"note": "no reference", "compared": 0, "outside": []}
    if {r["run"] for r in report["runs"]} != {r["run"] for r in reference["runs"]}:
        return {"note": "the reference is of another configuration", "compared": 0, "outside": []}
    theirs = {(c["cell"], c["method"]): c for c in reference["comparisons"]}
    both = [(c, theirs[key]) for c in report["comparisons"] if (key := (c["cell"], c["method"])) in theirs and _usable(c) and _usable(theirs[key])]
    if not both:
        return {"note": f"no speedup that both have, of {LEAST} pairs or more", "compared": 0, "outside": []}
    outside = [text for mine, other in both if (text := _outside(mine, other, LEVEL / len(both)))]
    return {"note": "", "compared": len(both), "outside": outside}


def _usable(row: Mapping[str, Any]) -> bool:
    return not row["withheld"] and row["n"] >= LEAST and formats.finite(row["speedup"])


def _outside(mine: Mapping[str, Any], other: Mapping[str, Any], level: float) -> str:
    """A sentence if a speedup lies outside the prediction interval, else ""."""
    half = float(stats.t.ppf(1 - level / 2, other["n"] - 1)) * other["sd"] * math.sqrt(1 / other["n"] + 1 / mine["n"])
    low, high = math.exp(other["mean"] - half - 1e-9), math.exp(other["mean"] + half + 1e-9)
    if low <= mine["speedup"] <= high:
        return ""
    return (f"{mine['cell']}: reference: {mine['method']} is at {formats.ratio(mine['speedup'])}, outside the prediction interval "
            f"[{low:.2f}, {high:.2f}] of the reference's {formats.ratio(other['speedup'])}")


def of(records: Records) -> dict[str, Any]:
    """The agreement of a suite with its reference, from its records."""
    from reports.build import build

    found = load(records.name)
    return agreement(build(records) if found else {}, found)


def save(report: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Make a report the reference of its suite."""
    from reports.build import encode

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report['suite']}.json"
    path.write_text(encode(json.loads(json.dumps(report))), encoding="utf-8")
    return path
