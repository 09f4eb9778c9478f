"""From the records of a suite to the tree of its report."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reports.analysis.planning import ALPHA
from reports.records.reading import short
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import OWN, CellRecord, Listed, Records, Result
from reports.report import checks, claims, compared, distances, looks, reference, sentences, tree, tuning
from reports.report.stability import stability

TENTH = 0.1  # of the budget: where training starts to be measured
PROGRESS = 1 / 3  # the distance at the end over that after a tenth of the budget: above this a suite is too small
COMPUTED = ("device", "device_name", "threads", "precision", *checks.COMPUTE)  # how runs were computed
INCEPTION = "inception"  # the one extractor whose distance is plainly called FID


def build(records: Records, own_baseline: bool = True) -> tree.Report:
    """The whole report. The paper's claims and the reference are about the suite's own baseline only."""
    suite, bands, looked = records.suite, compared.read_bands(records), looks.looked(records)
    runs = [run_row(records, listed) for listed in suite.runs]
    late = [looks.unneeded(records, looked, listed) for listed in suite.runs]
    runs = [replace(run, status=str(State.UNNEEDED)) if over else run for run, over in zip(runs, late, strict=True)]
    records, used = looks.planned(records, looked), looks.used(records, looked)
    failures = checks.failures(records)
    arms = compared.arms(used, bands, failures)
    probed, growth, correlations, drawn = stability(records)
    rates = tuning.tuning(records, bands)
    lines = [line for cell in suite.cells for line in distances.curves(records, cell.name, failures)]
    beside, more = distances.beside(records, failures)
    report = tree.Report(
        suite=suite.suite,
        title=suite.title,
        scale=suite.scale,
        trial=suite.trial,
        baseline=suite.baseline,
        null_method=next((run.method for run in suite.runs if run.role == "null"), suite.baseline),
        arms=list(suite.arms),
        seeds={role: list(seeds) for role, seeds in vars(suite.seeds).items()},
        level=1 - ALPHA / max(len(suite.arms) - 1, 1),
        looks=list(suite.looks),
        notes=checks.computed(records),
        cells=[cell_row(records, cell, bands) for cell in suite.cells],
        comparisons=arms,
        pooled=compared.pools(used, bands, arms, {arm: looks.share(looked, arm, suite.baseline) for arm in suite.arms}),
        null=compared.null_test(bands, arms),
        spreads=compared.spreads(arms),
        tuning=rates,
        controls=compared.positive_controls(used, bands, arms),
        beside=beside,
        lines=[*lines, *more, *levels(arms), *drawn],
        checks=checks.RULES,
        failures=failures,
        missing=records.missing,
        diverged=[run.run for run in runs if run.status == "diverged"],
        runs=runs,
        networks=networks(records),
        claims=claims.judge(used, bands, arms, rates, looked) if own_baseline else [],
        probed=probed,
        growth=growth,
        correlations=correlations,
        made=made(records),
    )
    if own_baseline and records.listing == OWN:
        report = replace(report, reference=reference.agreement(report))
    return sentences.complete(report)


def cell_row(records: Records, cell: CellRecord, bands: compared.Bands) -> tree.CellRow:
    """What belongs to a cell and no arm."""
    runs = [run for run in records.results.values() if run.cell == cell.name]
    noisy = [run for run in runs if len(run.noise) > 1]
    varied = [float(np.std(run.noise, ddof=1) / np.mean(run.noise)) for run in noisy]
    band, (ratio, unread) = bands.get(cell.name), progress(records, cell)
    state = compared.NOT_FROZEN if band is None else "usable" if band.usable else f"unusable: {band.reason}"
    return tree.CellRow(
        cell.name,
        cell.dataset,
        cell.backbone,
        cell.budget,
        len(cell.evaluations),
        band,
        state if records.suite.seeds.pilots else "without pilots",
        measure(runs[0]) if runs else None,
        ratio,
        too_small=ratio > PROGRESS,
        unread=unread,
        noise=float(np.mean(varied)) if varied else math.nan,
        runs=[run.run for run in noisy],
    )


def measure(run: Result) -> tree.Measure:
    """Everything a distance must be stated with."""
    evaluation = run.spec["evaluation"]
    extractor = run.start.get("extractor") or evaluation["extractor"]
    return tree.Measure(
        name="FID" if extractor == INCEPTION else f"Frechet distance ({extractor})",
        extractor=extractor,
        samples=evaluation["samples"],
        reference=run.dataset,
        **{key: run.start.get(key) for key in ("extractor_digest", "reference_size", "reference_digest", "resize")},
        quantisation="8 bits",
        sampler=evaluation["sampler"],
        nfe=next((one.nfe for one in run.evaluations if one.nfe), evaluation.get("steps")),
        ema=", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run.spec.get("ema", {}).items()),
    )


def progress(records: Records, cell: CellRecord) -> tuple[float, list[str]]:
    """Mean over complete baselines of the last distance over the one nearest to a tenth of the budget; and those left
    out because one of both is not finite."""
    baselines = records.found(cell.name, "paired", records.suite.baseline) + records.found(cell.name, "pilot")
    ratios = {}
    for run in (run for run in baselines if run.status == "complete" and len(run.evaluations) > 1):
        early = min(run.evaluations, key=lambda one: abs(math.log(one.images / (TENTH * run.budget))))
        last = max(run.evaluations, key=lambda one: one.images)
        ratios[run.run] = last.fid / early.fid if early.fid else math.nan
    finite = [ratio for ratio in ratios.values() if math.isfinite(ratio)]
    unread = [run for run, ratio in ratios.items() if not math.isfinite(ratio)]
    return float(np.mean(finite)) if finite else math.nan, unread


def run_row(records: Records, listed: Listed) -> tree.RunRow:
    """One listed run."""
    if (run := records.results.get(listed.run)) is None:  # it may have failed before its first event
        return tree.RunRow(**vars(listed), status=str(RunFolder(records.folder / listed.run).state()))
    known: dict[str, Any] = {key: getattr(run, key) for key in ("status", "reason", "images", "seconds", "resumes")}
    known |= {key: run.start.get(key) for key in ("params", "flops")}
    if run.status == "complete" and run.evaluations:
        last = max(run.evaluations, key=lambda one: one.images)
        known |= {"final_fid": last.fid, "final_kid": math.nan if last.kid is None else last.kid}
    return tree.RunRow(**vars(listed), **known, unread=sum(not math.isfinite(one.fid) for one in run.evaluations))


def levels(arms: Sequence[tree.Arm]) -> Iterator[tree.Line]:
    """The speedup of each arm to each level of the band."""
    for arm in arms:
        if arm.role == "paired" and arm.result and arm.result.n:
            three = np.array([list(vars(level.speedup).values()) for level in arm.result.levels]).T
            x = range(1, len(arm.result.levels) + 1)
            yield tree.line(arm.cell, arm.method, "levels", x, three, [arm.result.n] * len(x), arm.runs)


def networks(records: Records) -> list[tree.Network]:
    """Parameters and FLOPs per cell and method, against the first backbone of the dataset with the same method."""
    found: list[tree.Network] = []
    for cell in records.suite.cells:
        for method in records.suite.arms:
            if runs := records.found(cell.name, "paired", method):
                mine = [runs[0].start.get(key) for key in ("params", "flops", "method_params")]
                same = (one for one in found if one.method == method and one.cell.startswith(f"{cell.dataset}/"))
                first = next(((one.params, one.flops) for one in same), mine)
                size, cost = (a / b if a and b else math.nan for a, b in zip(mine[:2], first, strict=False))
                names = [run.run for run in runs]
                found.append(tree.Network(cell.name, method, mine[0], mine[2], mine[1], size, cost, names))
    return found


def made(records: Records) -> dict[str, str]:
    """Versions, hardware, code and data, each value once; seeds; and the time spent."""
    runs, planned = list(records.results.values()), vars(records.suite.seeds)
    hours: dict[str, float] = dict.fromkeys(("training", "evaluation"), 0.0)
    for run in runs:
        spent = run.seconds / 3600, sum(one.eval_seconds or 0 for one in run.evaluations) / 3600
        kind = run.start.get("device", "unknown")
        devices = int(run.recorded("threads" if kind == "cpu" else "processes") or 1)
        for key, value in (("training", spent[0]), ("evaluation", spent[1]), (f"{kind} devices", sum(spent) * devices)):
            hours[key] = hours.get(key, 0.0) + value
    spent_on = ", ".join(f"{key} {value:.2f}" for key, value in hours.items())

    def once(value: Callable[[Result], Any]) -> str:
        return "; ".join(dict.fromkeys(str(found) for run in runs if (found := value(run)) not in (None, "")))

    def code(run: Result) -> str:
        git = run.start.get("git") or {}
        return short(git.get("commit") or "no checkout") + " with uncommitted changes" * bool(git.get("dirty"))

    return {
        "seeds": "; ".join(f"{role} {', '.join(map(str, those))}" for role, those in planned.items() if those),
        "hours over all runs": f"{spent_on}; energy was not measured",
        "resumes": str(sum(run.resumes for run in runs)),
        **{key.replace("_", " "): once(operator.methodcaller("recorded", key)) for key in COMPUTED},
        "versions": once(lambda run: ", ".join(map(" ".join, run.start.get("versions", {}).items()))),
        "code": once(code),
        "data": once(lambda run: short(run.start.get("data_digest"))),
        "prepared from a part of the originals": once(lambda run: run.dataset * bool(run.start.get("data_partial"))),
    }
