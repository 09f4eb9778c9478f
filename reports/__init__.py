"""From run folders to conclusions. Reads files only: needs neither torch nor the harness.

    reports.Curve(seed, images, fid, status="complete")         one run's evaluations
    reports.crossing(images, fid, target)                       where a curve comes down to a target
    reports.compare(baseline, arm, levels, budget)              paired statistics of two lists of curves
    reports.pool(comparisons)                                   every arm over its cells, with the interval that decides
    reports.load(root, suite)                                   one row per run, as a DataFrame
    reports.write(root, suite)                                  tables, figures, report.json and index.html
    reports.check(root, suite)                                  every failed check, in one line each
    reports.unfinished(root, suite)                             the state of every run that has no result
    reports.failed(root, suite)                                 why every failed run ended, and where its traceback is
    reports.agreement(root, suite)                              whether a suite agrees with its committed reference
    reports.compare_sweeps(root, suite, other_root, other)      where two sweeps differ, and whether by more than noise

A name is imported when it is first used, so that reading run folders starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.analysis.comparisons import Comparison, compare
    from reports.analysis.curves import Crossing, Curve, crossing
    from reports.analysis.pooling import Pooled, pool
    from reports.report.output import agreement, check, failed, load, missing, progress, unfinished, verdicts, write
    from reports.report.sweeps import compare_sweeps

_HOMES = {
    "analysis.comparisons": ("Comparison", "compare"),
    "analysis.curves": ("Crossing", "Curve", "crossing"),
    "analysis.pooling": ("Pooled", "pool"),
    "report.output": ("agreement", "check", "failed", "load", "missing", "progress", "unfinished", "verdicts", "write"),
    "report.sweeps": ("compare_sweeps",),
}
__all__ = [
    "Comparison", "Crossing", "Curve", "Pooled", "agreement", "check", "compare", "compare_sweeps", "crossing",
    "failed", "load", "missing", "pool", "progress", "unfinished", "verdicts", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"reports.{home}"), name)
    raise AttributeError(f"module 'reports' has no attribute {name!r}")
