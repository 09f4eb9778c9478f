"""Learning rates that tuning runs tried, on seeds in no band and no pair, and which of them is the best of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reports.analysis.bands import Band
from reports.analysis.comparisons import Interval
from reports.analysis.curves import log_times
from reports.analysis.planning import ALPHA
from reports.records import labels
from reports.records.suite_records import Records
from reports.report import compared, tree


def tuning(records: Records, bands: compared.Bands) -> list[tree.TuningRow]:
    """Every method at every rate, over the usable cells; a rate has no number while a run or a band is missing.

    The best is the one that reaches the target band first on average over cells, once all rates have a number.
    """
    cells = [cell.name for cell in records.suite.cells if cell.name not in bands or bands[cell.name].usable]
    arms = dict.fromkeys(run.method for cell in cells for run in records.listed(cell, "tuning"))
    found = [_row(records, bands, cells, arm) for arm in arms]
    rows = []
    for row in found:
        values = [one.speedup.value for one in found if one.method == row.method]
        best = all(map(math.isfinite, values)) and row.speedup.value == max(values)
        rows.append(tree.TuningRow(**vars(row) | {"best": best}))
    return rows


def best(rows: Sequence[tree.TuningRow], method: str) -> str | None:
    """The arm of a method at its best rate; None if the suite did not tune it, or not to the end."""
    return next((labels.join(row.method, row.rate) for row in rows if row.best and row.method == method), None)


def _row(records: Records, bands: compared.Bands, cells: list[str], arm: str) -> tree.TuningRow:
    method, rate = labels.read(arm)
    runs = [run for cell in cells for run in records.found(cell, "tuning", arm)]
    log_images = [[_log_images(records, bands.get(cell), cell, label) for label in (arm, method)] for cell in cells]
    speedup = Interval()
    if all(len(mine) and mine.keys() == own.keys() for mine, own in log_images):
        logs = [np.array([own[seed] - mine[seed] for seed in own]) for mine, own in log_images]
        mean = compared.mean_interval(logs, ALPHA)
        speedup = Interval(*(math.exp(end) for end in vars(mean).values()))
    diverged = sum(run.status == "diverged" for run in runs)
    return tree.TuningRow(method, rate, speedup, False, diverged, [run.run for run in runs])


def _log_images(records: Records, band: Band | None, cell: str, arm: str) -> dict[int, float]:
    """Of each run that ended, by its seed, the log images to the band; empty before the band is frozen."""
    curves = compared.curves(records, cell, "tuning", arm)
    ended = [curve for curve in curves if curve.status != "missing" and band and band.levels]
    if not (band and ended):
        return {}
    means = log_times(ended, band.levels, band.first or 1.0, band.budget).mean.tolist()
    return dict(zip([curve.seed for curve in ended], means, strict=True))
