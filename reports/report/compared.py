"""From records to comparisons: every arm against the baseline, by cell and over cells, and whether it may be shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from reports.analysis import controls, pooling, verdicts
from reports.analysis.bands import Band
from reports.analysis.comparisons import Comparison, Interval, compare, ratio
from reports.analysis.curves import TIE, Array, Curve
from reports.analysis.planning import ALPHA, standard_error
from reports.records.event_log import number
from reports.records.suite_records import Listed, Records, Result, Role, parse
from reports.report.tree import CLAIMED, FLOOR, NULL, Arm, Control, Failure, Pool, Spread

Bands = Mapping[str, Band]  # by cell


def read_bands(records: Records) -> dict[str, Band]:
    """The frozen band of every cell that has one; ValueError, one line, if protocol.json is broken."""
    path = Path(records.folder) / "protocol.json"
    names = [cell.name for cell in records.suite.cells if records.frozen.get(cell.name) is not None]
    return {name: parse(Band, records.frozen[name], f"{path}: {name}") for name in names}


def curve(run: Result, seed: int) -> Curve:
    """The curve of a run under its pair's seed; an evaluation counted twice stands once, for its check to fail."""
    points = {evaluation.images: evaluation.fid for evaluation in reversed(run.evaluations)}
    status = run.status if run.status in ("complete", "diverged") else "missing"
    return Curve(seed, sorted(points), [points[images] for images in sorted(points)], status)


def curves(records: Records, cell: str, role: Role, method: str) -> list[Curve]:
    """The curves of an arm; one without a result is missing."""

    def one(listed: Listed) -> Curve:
        seed = listed.seed if listed.pair is None else listed.pair
        run = records.results.get(listed.run)
        return curve(run, seed) if run else Curve(seed, [], [], "missing")

    return [one(listed) for listed in records.listed(cell, role, method)]


def versus(records: Records, band: Band, cell: str, baseline: str, arm: str, role: Role = "paired") -> Comparison:
    """One arm against another in a cell. The noise floor is on the first pairs only, and the others miss nothing."""
    base, other = curves(records, cell, "paired", baseline), curves(records, cell, role, arm)
    seeds = {curve.seed for curve in (base if role == "paired" else other)}
    return compare([one for one in base if one.seed in seeds], other, band.levels, band.budget, band.first)


def arms(records: Records, bands: Bands, failures: Sequence[Failure]) -> list[Arm]:
    """Per cell: every arm against the baseline, then null arm and noise floor against the runs of their method."""
    found = []
    for cell, baseline in ((cell.name, records.suite.baseline) for cell in records.suite.cells):
        for method in (method for method in records.suite.arms if method != baseline):
            found.append(_arm(records, bands, failures, cell, method, "paired", baseline))
        for role in ROLES:
            for method in dict.fromkeys(run.method for run in records.listed(cell, role)):
                found.append(_arm(records, bands, failures, cell, method, role, method))
    return found


ROLES: dict[Role, str] = {"null": NULL, "floor": FLOOR}


def _arm(
    records: Records, bands: Bands, failures: Sequence[Failure], cell: str, method: str, role: Role, baseline: str
) -> Arm:
    base, other = records.found(cell, "paired", baseline), records.found(cell, role, method)
    label, band, names = ROLES.get(role, method), bands.get(cell), [run.run for run in (*base, *other)]
    checks = [one.check for one in failures if one.cell == cell and one.method in (label, "")]
    failed = f"check failed: {checks[0]}" if checks else ""
    if failed or band is None or not band.levels:
        return Arm(cell, label, role, names, failed, None, (math.nan, math.nan), Interval(), Interval())
    result = versus(records, band, cell, baseline, method, role)
    by_seed = [{run.seed if run.pair is None else run.pair: run for run in runs} for runs in (base, other)]
    pairs = [(one, by_seed[0][one.seed], by_seed[1][one.seed]) for one in result.pairs]

    def axis(price: Callable[[Result], float], *same: str) -> Interval:
        """The speedup where an image has a price; none where pairs differ in what must be the same."""
        alike = [pair for pair in pairs if all(pair[1].start.get(key) == pair[2].start.get(key) for key in same)]
        prices = [(one.d, price(b), price(a)) for one, b, a in alike]
        d = np.array([d + math.log(b / a) for d, b, a in prices if b > 0 and a > 0])
        return ratio(d) if len(d) == result.n else Interval()

    logs = [np.array([getattr(one, side) for one in result.pairs]) for side in ("baseline", "arm")]
    images = [math.exp(log.mean()) if pairs else math.nan for log in logs]
    flops = axis(lambda run: number(run.start.get("flops")))
    return Arm(cell, label, role, names, "", result, (images[0], images[1]), axis(pace, "device_name"), flops)


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
    error, freedom = map(float, standard_error(sds, sizes))
    half = float(stats.t.ppf(1 - alpha / 2, freedom)) * error * len(groups) / many if error > 0 else 0.0
    return Interval(mean, mean - half, mean + half)


def pace(run: Result) -> float:
    """Training seconds per image, nan before the first."""
    return run.seconds / run.images if run.images else math.nan


def pools(records: Records, bands: Bands, compared: Sequence[Arm]) -> list[Pool]:
    """Every arm over its usable cells; where a check failed in one of them, there is a gap instead of a number."""
    methods = [method for method in records.suite.arms if method != records.suite.baseline]
    unusable = [cell for cell, band in bands.items() if not band.usable]
    paired = [arm for arm in compared if arm.role == "paired"]
    mine = {method: {arm.cell: arm for arm in paired if arm.method == method} for method in methods}
    gaps = {method: gap(those, bands) for method, those in mine.items()}
    results = {method: {cell: arm.result for cell, arm in mine[method].items() if arm.result} for method in methods}
    whole = pooling.pool(results, unusable)
    found = []
    for method in methods:
        one = whole[method]
        runs = sorted({run for cell, arm in mine[method].items() if cell in one.cells for run in arm.runs})
        claim = verdicts.claim(one.low, one.high, CLAIMED, one.n, one.censored)
        found.append(Pool(method, None if gaps[method] else one, gaps[method], "" if gaps[method] else claim, runs))
    return found


def gap(those: Mapping[str, Arm], bands: Bands) -> str:
    """Why an arm has no number over cells; "" if it has."""
    usable = {cell: arm for cell, arm in those.items() if cell in bands and bands[cell].usable}
    failed = [f"{cell}: {arm.withheld}" for cell, arm in usable.items() if arm.withheld]
    if failed:
        return "; ".join(failed)
    if not any(band.usable for band in bands.values()):
        return "; ".join(f"{cell}: {bands[cell].reason if cell in bands else NOT_FROZEN}" for cell in those)
    late = [cell for cell in those if cell not in bands]
    return f"{', '.join(late)}: {NOT_FROZEN}" if late else ""


NOT_FROZEN = "without a band yet: its pilots are not done"


def null_test(bands: Bands, compared: Sequence[Arm]) -> pooling.NullTest | None:
    """The one test of the null arm over the usable cells in which no check failed."""
    cells = {arm.cell: arm.result for arm in compared if arm.role == "null" and arm.result and bands[arm.cell].usable}
    return pooling.null_test(cells) if any(one.n for one in cells.values()) else None


def spreads(compared: Sequence[Arm]) -> list[Spread]:
    """The standard deviations of d of the noise floor, of every arm and of the null arm, per cell and over cells."""
    found = []
    shown = [arm for arm in compared if arm.result and arm.result.n > 1]
    for label in sorted(dict.fromkeys(arm.method for arm in shown), key=lambda name: (name != FLOOR, name == NULL)):
        mine = [(arm.cell, arm.result) for arm in shown if arm.method == label and arm.result]
        found += [Spread(cell, label, one.sd, one.n) for cell, one in mine]
        whole = controls.spread([one for _, one in mine])
        found += [Spread("all cells", label, whole, sum(one.n for _, one in mine))] * (len(mine) > 1)
    return found


def positive_controls(records: Records, bands: Bands, compared: Sequence[Arm]) -> list[Control]:
    """Pilots and baselines slowed down, against the unchanged null arm, over usable cells where no check failed."""
    found = []
    for factor in controls.FACTORS:
        cells: dict[str, Comparison] = {}
        for cell in (arm.cell for arm in compared if arm.role == "null" and arm.result and bands[arm.cell].usable):
            method, band = records.listed(cell, "null")[0].method, bands[cell]
            pilots = [curve(run, run.seed) for run in records.found(cell, "pilot")]
            base, null = (curves(records, cell, role, method) for role in ("paired", "null"))
            sd = math.nan if band.noise_sd is None else band.noise_sd
            one = controls.positive_control(pilots, base, null, band.budget, sd, factor)
            cells |= {cell: one} if one else {}
        if cells:
            found.append(Control(factor, pooling.pool_cells(cells, ALPHA)))
    return found
