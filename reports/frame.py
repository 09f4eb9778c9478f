"""`load`: one row per run, for whoever wants to compute something of their own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from reports.cells import run_row
from reports.records.suite_records import read

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("run", "dataset", "backbone", "method", "seed", "role", "status", "images", "target", "crossing", "low", "high",
           "final_fid", "seconds", "params", "flops")


def load(root: Path | str, suite: str) -> DataFrame:
    """One row per listed run, in the suite's order, with COLUMNS.

    role: pilot | paired | null. status: complete | diverged | running | missing. target: frozen for its cell, nan before.
    crossing, low, high: images at which the target is crossed and the evaluations around it, inf if not reached.
    seconds: on the training clock. flops: of one forward pass of one image. ValueError, one line, if there is no such suite.
    """
    import pandas

    records = read(Path(root), suite)
    rows = []
    for entry in records.suite["runs"]:
        row = run_row(records, entry)
        row["target"] = (records.frozen(row["cell"]) or {}).get("target")
        crossing = row["crossing"] or dict.fromkeys(("images", "low", "high"), math.nan)
        row |= {"crossing": crossing["images"], "low": crossing["low"], "high": crossing["high"]}
        rows.append({key: math.nan if row[key] is None else row[key] for key in COLUMNS})
    return pandas.DataFrame(rows, columns=list(COLUMNS))
