"""Distance over images of every arm; and beside the suite's own distance, those under further extractors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
from pandas import DataFrame, concat
from scipy import stats

from reports.records.suite_records import EvaluationRecord, Records, Result
from reports.report import tree

OWN, SPREAD = "fid", "mean_spread"
DATASET = "dataset"  # its line in the figure of spreads


def measured(one: EvaluationRecord, what: str) -> float:
    """The suite's own distance, the spread of image means, or a further extractor's distance; nan if missing."""
    found = {OWN: one.fid, SPREAD: one.mean_spread, **(one.beside or {})}.get(what)
    return math.nan if found is None else found


def curves(
    records: Records,
    cell: str,
    failures: Sequence[tree.Failure],
    what: str = OWN,
    figure: str = "distance",
    of: str = "",
) -> Iterator[tree.Line]:
    """What was measured over images of each arm, of the null arm and of the pilots, over their seeds.

    As long as runs are missing, arms keep to the seeds that all have. Runs that failed a check are left out: what was
    measured in another way shares no axis with the others. of: what follows the cell in the title.
    """
    odd = {run for failure in failures for run in failure.runs}
    hidden = {failure.method for failure in failures if failure.cell == cell}
    groups = {method: records.found(cell, "paired", method) for method in records.suite.arms if "" not in hidden}
    groups |= {tree.NULL: records.found(cell, "null"), tree.PILOTS: records.found(cell, "pilot")} if groups else {}
    rows = [
        (arm, run.run, run.seed, run.status in ("complete", "diverged"), one.images, math.log(measured(one, what)))
        for arm, runs in groups.items()
        for run in runs
        if arm not in hidden and run.run not in odd
        for one in run.evaluations
        if 0 < measured(one, what) < math.inf
    ]
    points = DataFrame(rows, columns=["arm", "run", "seed", "ended", "images", "log"])
    alone = points.arm.isin([tree.NULL, tree.PILOTS])
    for arm, mine in concat([_shared(points[~alone]), points[alone]]).groupby("arm", sort=False):
        at = mine.groupby("images").log.agg(["mean", "min", "max", "size"])
        seeds, planned = at["size"].tolist(), len(records.listed(cell, "paired", arm))
        span = " to ".join(dict.fromkeys((str(min(seeds)), str(max(seeds)))))
        part = f" ({span} of {planned} seeds)" if min(seeds) < planned else ""
        three = np.exp(at[["mean", "min", "max"]].to_numpy().T)
        yield tree.line(cell + of, arm, figure, at.index, three, seeds, list(mine.run.unique()), arm + part)


def _shared(points: DataFrame) -> DataFrame:
    """The points of the seeds that all arms have: of runs that ended, where an arm has such; and at every evaluation of
    the seeds that all arms measured there have. Where arms have no seed in common, their own."""
    by_arm = [arm for _, arm in points.groupby("arm")]
    common = set.intersection(*(set(arm.seed[arm.ended]) or set(arm.seed) for arm in by_arm)) if by_arm else set()
    kept = points[points.seed.isin(common) | (not common)]
    arms = kept.groupby("images").arm.transform("nunique")
    whole = kept.groupby(["images", "seed"]).arm.transform("nunique") == arms
    return kept[whole | ~whole.groupby(kept.images).transform("any")]


def beside(records: Records, failures: Sequence[tree.Failure]) -> tuple[list[tree.Beside], list[tree.Line]]:
    """A row for every further extractor of every cell; their curves, and those of the spread of image means."""
    rows, lines = list[tree.Beside](), list[tree.Line]()
    for cell in (cell.name for cell in records.suite.cells):
        runs = [run for run in records.results.values() if run.cell == cell and run.evaluations]
        names = dict.fromkeys(name for run in runs for name in run.evaluations[0].beside or {})
        for name in names:
            rows.append(_row(cell, name, runs))
            lines += curves(records, cell, failures, name, "beside", f", {name}")
        if names:
            lines += (drawn := [*curves(records, cell, failures, SPREAD, "spread")])
            x = sorted({images for line in drawn for images in line.x})
            values = [rows[-1].data_spread] * len(x)
            lines.append(tree.line(cell, DATASET, "spread", x, [values] * 3, [len(runs)] * len(x), rows[-1].runs))
    return rows, lines


def _row(cell: str, name: str, runs: Sequence[Result]) -> tree.Beside:
    every = [one for run in runs for one in run.evaluations]
    ends = [run.evaluations[-1] for run in runs if run.status == "complete"]
    digest, own = runs[0].start.get("beside", {}).get(name), runs[0].start.get(SPREAD, math.nan)
    spread = median(measured(one, SPREAD) for one in ends) if ends else math.nan
    names = [run.run for run in runs]
    return tree.Beside(cell, name, digest, *_order(every, name), *_order(ends, name), own, spread, names)


def _order(evaluations: Sequence[EvaluationRecord], name: str) -> tuple[float, int]:
    """Spearman's correlation of a further distance with the suite's own, where both are finite, and over how many."""
    pairs = [(measured(one, OWN), measured(one, name)) for one in evaluations]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return (float(stats.spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else math.nan), len(pairs)
