"""From records to comparisons: every arm against the baseline, by cell and over cells, and whether it may be shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reports.analysis import controls, pooling, verdicts
from reports.analysis.bands import Band
from reports.analysis.comparisons import Comparison, Interval, compare, ratio
from reports.analysis.curves import TIE, Array, Curve
from reports.analysis.planning import ALPHA, half_width, standard_error
from reports.records.event_log import number
from reports.records.reading import PLACE
from reports.records.suite_records import Listed, Records, Result, Role, parse
from reports.report.tree import CLAIMED, FLOOR, NULL, Arm, Failure, Pool, Spread

Bands = Mapping[str, Band]  # by cell
LABELS: dict[Role, str] = {"null": NULL, "floor": FLOOR}  # of arms that are no methods
NOT_FROZEN = "without a band yet: its pilots are not done"
NOT_LOOKED = "the runs of its first look have not all ended"


def read_bands(records: Records) -> dict[str, Band]:
    """The frozen band of every cell that has one; ValueError, one line, if protocol.json is broken."""
    path = records.folder / "protocol.json"
    cells = [cell.name for cell in records.suite.cells]
    return {cell: parse(Band, records.frozen[cell], f"{path}: {cell}") for cell in cells if records.frozen.get(cell)}


def curve(run: Result | Listed) -> Curve:
    """The curve of a run under its pair's seed; an evaluation counted twice stands once, for its check to fail."""
    seed = run.seed if run.pair is None else run.pair
    if not isinstance(run, Result):
        return Curve(seed, [], [], "missing")
    points = {evaluation.images: evaluation.fid for evaluation in reversed(run.evaluations)}
    status = run.status if run.status in ("complete", "diverged") else "missing"
    return Curve(seed, sorted(points), [points[images] for images in sorted(points)], status)


def curves(records: Records, cell: str, role: Role, method: str) -> list[Curve]:
    """The curves of an arm; one without a result is missing."""
    return [curve(records.results.get(run.run, run)) for run in records.listed(cell, role, method)]


def both_listed(records: Records, cell: str, baseline: str, arm: str, role: Role = "paired") -> list[list[Listed]]:
    """The runs of a baseline and of an arm in a cell, on the pairs that are listed of both."""
    sides = [records.listed(cell, "paired", baseline), records.listed(cell, role, arm)]
    common = set.intersection(*({run.pair for run in side} for side in sides))
    return [[run for run in side if run.pair in common] for side in sides]


def versus(records: Records, band: Band, cell: str, baseline: str, arm: str, role: Role = "paired") -> Comparison:
    """One arm against another in a cell; pairs that are listed of one alone miss nothing."""
    sides = both_listed(records, cell, baseline, arm, role)
    base, other = ([curve(records.results.get(run.run, run)) for run in side] for side in sides)
    return compare(base, other, band.levels, band.budget, band.first)


def arms(records: Records, bands: Bands, failures: Sequence[Failure]) -> list[Arm]:
    """Per cell: every arm against the baseline, then null arm and noise floor against the runs of their method."""
    found, baseline = [], records.suite.baseline
    for cell in (cell.name for cell in records.suite.cells):
        sides: list[tuple[Role, str, str]] = [
            ("paired", arm, baseline) for arm in records.suite.arms if arm != baseline
        ]
        for role in LABELS:
            sides += [(role, arm, arm) for arm in dict.fromkeys(run.method for run in records.listed(cell, role))]
        for role, method, against in sides:
            label, band = LABELS.get(role, method), bands.get(cell)
            checks = [one.check for one in failures if one.cell == cell and one.method in (label, "")]
            listed = both_listed(records, cell, against, method, role)
            both = [[records.results[run.run] for run in side if run.run in records.results] for side in listed]
            result = None
            if not checks and band and band.levels:
                result = versus(records, band, cell, against, method, role)
            withheld = f"check failed: {checks[0]}" if checks else ""
            found.append(
                _arm(Arm(cell, label, role, [run.run for runs in both for run in runs], withheld, result), *both)
            )
    return found


def _arm(arm: Arm, base: list[Result], other: list[Result]) -> Arm:
    """The arm with its other axes: images to the band, and the speedups where an image has a price."""
    if not (result := arm.result):
        return arm
    by_seed = [{curve(run).seed: run for run in runs} for runs in (base, other)]
    pairs = [(by_seed[0][one.seed], by_seed[1][one.seed]) for one in result.pairs]

    def axis(price: Callable[[Result], float]) -> Interval:
        prices = np.array([[price(run) for run in pair] for pair in pairs]).reshape(-1, 2)
        return ratio(result.d + np.log(prices[:, 0] / prices[:, 1])) if (prices > 0).all() else Interval()

    sides = [[one.baseline for one in result.pairs], [one.arm for one in result.pairs]]
    images = [math.exp(np.mean(side)) if pairs else math.nan for side in sides]
    alike = all(
        len({value for run in pair for value in run.computed_with(key)}) == 1 for pair in pairs for key in PLACE
    )
    seconds, flops = axis(pace) if alike else Interval(), axis(lambda run: number(run.start.get("flops")))
    return replace(arm, images=(images[0], images[1]), seconds=seconds, flops=flops)


def mean_interval(groups: Sequence[Array], alpha: float, cells: int | None = None) -> Interval:
    """The mean over cells, equal weights, of independent groups of values, with a t interval at 1 - alpha.

    A cell has one group, or two that are added: then `cells` says how many there are. No interval below three values
    in a group; without variance it has no width.
    """
    many, sizes = cells or len(groups), list(map(len, groups))
    mean = sum(float(group.mean()) for group in groups) / many
    if min(sizes) < verdicts.INTERVAL_PAIRS:
        return Interval(mean)
    sds = [0.0 if np.ptp(group) <= TIE else float(group.std(ddof=1)) for group in groups]
    error, freedom = standard_error(sds, sizes)
    half = float(half_width(error, freedom, alpha)) * len(groups) / many if error > 0 else 0.0
    return Interval(mean, mean - half, mean + half)


def pace(run: Result) -> float:
    """Training seconds per image, nan before the first."""
    return run.seconds / run.images if run.images else math.nan


def pools(
    records: Records, bands: Bands, compared: Sequence[Arm], shares: Mapping[str, float] | None = None
) -> list[Pool]:
    """Every arm over its usable cells; where a check failed in one of them, there is a gap instead of a number.

    shares: as for `pooling.pool`; 0 before the first look at an arm, which has no number yet.
    """
    methods = [method for method in records.suite.arms if method != records.suite.baseline]
    claimed = CLAIMED.get(records.suite.baseline)
    paired = [arm for arm in compared if arm.role == "paired"]
    mine = {method: {arm.cell: arm for arm in paired if arm.method == method} for method in methods}
    results = {method: {cell: arm.result for cell, arm in mine[method].items() if arm.result} for method in methods}
    spent = {method: share for method, share in (shares or {}).items() if share}
    whole = pooling.pool(results, [cell for cell, band in bands.items() if not band.usable], spent)
    found = []
    for method, one in whole.items():
        runs = sorted({run for cell in one.cells for run in mine[method][cell].runs})
        pairs = max(one.n, int(one.verdict == verdicts.POINTS))  # some cells may have pairs where another has none
        claim = verdicts.claim(one.low, one.high, claimed[0], pairs, one.censored) if claimed else ""
        why = gap(mine[method], bands) or NOT_LOOKED * ((shares or {}).get(method) == 0)
        found.append(Pool(method, None, why, "", runs) if why else Pool(method, one, "", claim, runs))
    return found


def gap(those: Mapping[str, Arm], bands: Bands) -> str:
    """Why an arm has no number over cells; "" if it has."""
    usable = [cell for cell in those if cell in bands and bands[cell].usable]
    late = [cell for cell in those if cell not in bands]
    if failed := [f"{cell}: {those[cell].withheld}" for cell in usable if those[cell].withheld]:
        return "; ".join(failed)
    if not any(band.usable for band in bands.values()):
        return "; ".join(f"{cell}: {bands[cell].reason if cell in bands else NOT_FROZEN}" for cell in those)
    return f"{', '.join(late)}: {NOT_FROZEN}" if late else ""


def null_test(bands: Bands, compared: Sequence[Arm]) -> pooling.NullTest | None:
    """The one test of the null arm over the usable cells in which no check failed; None without a pair."""
    cells = {arm.cell: arm.result for arm in compared if arm.role == "null" and arm.result and bands[arm.cell].usable}
    return pooling.null_test(cells) if any(one.n for one in cells.values()) else None


def spreads(compared: Sequence[Arm]) -> list[Spread]:
    """The standard deviations of d of the noise floor, of every arm and of the null arm, per cell and over cells."""
    found = []
    several = [(arm.method, arm.cell, arm.result) for arm in compared if arm.result and arm.result.n > 1]
    labels = dict.fromkeys(label for label, *_ in several)
    for label in sorted(labels, key=lambda name: (name != FLOOR, name == NULL)):
        mine = {cell: one for method, cell, one in several if method == label}
        found += [Spread(cell, label, one.sd, one.n) for cell, one in mine.items()]
        if len(mine) > 1:
            pairs = sum(one.n for one in mine.values())
            found.append(Spread("all cells", label, controls.spread(mine.values()), pairs))
    return found


def positive_controls(records: Records, bands: Bands, compared: Sequence[Arm]) -> dict[str, pooling.Pooled]:
    """By factor: pilots and baselines slowed down, against the unchanged null arm, over sound usable cells.

    Decided at the level of an arm, in a suite with looks at its first: the null arm has the pairs of that look.
    """
    shares = verdicts.SHARES.get(len(records.suite.looks), (1.0,))
    found, alpha = {}, shares[0] * ALPHA / max(len(records.suite.arms) - 1, 1)
    usable = [arm.cell for arm in compared if arm.role == "null" and arm.result and bands[arm.cell].usable]
    for factor in controls.FACTORS:
        cells: dict[str, Comparison] = {}
        for cell in usable:
            method, band = records.listed(cell, "null")[0].method, bands[cell]
            pilots = list(map(curve, records.found(cell, "pilot")))
            base, null = (curves(records, cell, role, method) for role in ("paired", "null"))
            sd = math.nan if band.noise_sd is None else band.noise_sd
            one = controls.positive_control(pilots, base, null, band.budget, sd, factor)
            cells |= {cell: one} if one else {}
        if cells:
            found[f"{factor:g}"] = pooling.pool_cells(cells, alpha)
    return found
