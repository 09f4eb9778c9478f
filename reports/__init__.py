"""From run folders to conclusions. Reads files only: needs neither torch nor the harness.

    reports.Curve(seed, images, fid, status="complete")      one run's evaluations
    reports.crossing(images, fid, target)                    where a curve comes down to a target
    reports.compare(baseline, arm, target, budget)           paired statistics of two lists of curves
    reports.load(root, suite)                                one row per run, as a DataFrame
    reports.write(root, suite)                               tables, figures, report.json and index.html
    reports.check(root, suite)                               every failed gate, in one line each
    reports.agreement(root, suite)                           whether a suite agrees with its committed reference
    reports.compare_sweeps(root, suite, root, suite)         where two sweeps differ, and whether by more than noise

What needs scipy, pandas or jinja2 is imported when it is first used, so that reading run folders starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reports.crossing import Crossing, Curve, crossing

if TYPE_CHECKING:
    from reports.comparison import Comparison, compare
    from reports.frame import load
    from reports.output import agreement, check, missing, progress, write
    from reports.sweeps import compare_sweeps

__all__ = ["Comparison", "Crossing", "Curve", "agreement", "check", "compare", "compare_sweeps", "crossing", "load", "missing", "progress", "write"]

_HOMES = {"Comparison": "comparison", "compare": "comparison", "load": "frame", "write": "output", "check": "output", "progress": "output",
          "agreement": "output", "missing": "output",
          "compare_sweeps": "sweeps"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reports.{_HOMES[name]}"), name)
