"""From the records of a suite to the tree of its report."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pandas import DataFrame, concat

from reports.analysis.planning import ALPHA
from reports.records.reading import PROTOCOL, short
from reports.records.run_folder import RunFolder
from reports.records.suite_records import CellRecord, Listed, Records, Result
from reports.report import checks, claims, compared, reference, sentences, tree
from reports.report.stability import stability

TENTH = 0.1  # of the budget: where training starts to be measured
COMPUTED = ("device", "device_name", "threads", "precision", *checks.COMPUTE)  # how runs were computed
INCEPTION = "inception"  # the one extractor whose distance is plainly called FID


def build(records: Records, own_baseline: bool = True) -> tree.Report:
    """The whole report. The paper's claims and the reference are about the suite's own baseline only."""
    suite, failures = records.suite, checks.failures(records)
    bands = compared.read_bands(records)
    arms = compared.arms(records, bands, failures)
    runs = [run_row(records, listed) for listed in suite.runs]
    probed, drawn = stability(records)
    lines = [line for cell in suite.cells for line in curves(records, cell.name, failures)]
    lines += [line for arm in arms for line in levels(arm)] + drawn
    report = tree.Report(
        schema=tree.SCHEMA,
        protocol=PROTOCOL,
        suite=suite.suite,
        title=suite.title,
        scale=suite.scale,
        baseline=suite.baseline,
        null_method=next((run.method for run in suite.runs if run.role == "null"), suite.baseline),
        arms=list(suite.arms),
        seeds={role: list(seeds) for role, seeds in vars(suite.seeds).items()},
        level=1 - ALPHA / max(len(suite.arms) - 1, 1),
        banner="",
        question="",
        answers=[],
        notes=checks.computed(records),
        cells=[cell_row(records, cell, bands) for cell in suite.cells],
        comparisons=arms,
        pooled=compared.pools(records, bands, arms),
        null=compared.null_test(bands, arms),
        spreads=compared.spreads(arms),
        controls=compared.positive_controls(records, bands, arms),
        lines=lines,
        checks=[
            tree.CheckRow(key, rule, sum(one.check == key for one in failures)) for key, rule in checks.RULES.items()
        ],
        failures=failures,
        missing=records.missing,
        diverged=[run.run for run in runs if run.status == "diverged"],
        runs=runs,
        networks=list(networks(records)),
        claims=claims.judge(records, bands, arms) if own_baseline else [],
        stability=probed,
        made=made(records),
        reference=tree.Agreement("not compared with another baseline", 0, []),
    )
    if own_baseline:
        report = replace(report, reference=reference.agreement(report))
    return sentences.complete(report)


def cell_row(records: Records, cell: CellRecord, bands: compared.Bands) -> tree.Cell:
    """What belongs to a cell and no arm."""
    runs = [run for run in records.results.values() if run.cell == cell.name]
    noisy = [run for run in runs if len(run.noise) > 1]
    varied = [float(np.std(run.noise, ddof=1) / np.mean(run.noise)) for run in noisy]
    band = bands.get(cell.name)
    state = compared.NOT_FROZEN if band is None else "usable" if band.usable else f"unusable: {band.reason}"
    state = state if records.suite.seeds.pilots else "without pilots"
    return tree.Cell(
        cell.name, cell.dataset, cell.backbone, cell.budget, len(cell.evaluations), band, state,
        measure(runs[0]) if runs else None, progress(records, cell), float(np.mean(varied)) if varied else math.nan,
        [run.run for run in noisy],
    )  # fmt: skip


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


def progress(records: Records, cell: CellRecord) -> float:
    """Mean over complete baselines: the last distance over the one nearest to a tenth of the budget."""
    ratios = []
    for run in records.found(cell.name, "paired", records.suite.baseline) + records.found(cell.name, "pilot"):
        if run.status == "complete" and len(run.evaluations) > 1:
            early = min(run.evaluations, key=lambda one: abs(math.log(one.images / (TENTH * run.budget))))
            last = max(run.evaluations, key=lambda one: one.images)
            ratios.append(last.fid / early.fid if early.fid else math.nan)
    return float(np.mean(ratios)) if ratios else math.nan


def run_row(records: Records, listed: Listed) -> tree.Run:
    """One listed run."""
    if (run := records.results.get(listed.run)) is None:  # it may have failed before its first event
        return tree.Run(**vars(listed), status=str(RunFolder(records.folder / listed.run).state()))
    known: dict[str, Any] = {key: getattr(run, key) for key in ("status", "reason", "images", "seconds", "resumes")}
    known |= {key: run.start.get(key) for key in ("params", "flops")}
    if run.status == "complete" and run.evaluations:
        known["final_fid"] = max(run.evaluations, key=lambda one: one.images).fid
    return tree.Run(**vars(listed), **known, unread=sum(not math.isfinite(one.fid) for one in run.evaluations))


def curves(records: Records, cell: str, failures: Sequence[tree.Failure]) -> Iterator[tree.Line]:
    """Distance over images of each arm, of the null arm and of the pilots, over their seeds.

    As long as runs are missing, arms keep to the seeds that all have. Runs that failed a check are left out: what was
    measured in another way shares no axis with the others.
    """
    odd = {run for failure in failures for run in failure.runs}
    hidden = {failure.method for failure in failures if failure.cell == cell}
    groups = {method: records.found(cell, "paired", method) for method in records.suite.arms}
    groups |= {tree.NULL: records.found(cell, "null"), tree.PILOTS: records.found(cell, "pilot")}
    shown = [
        (arm, run) for arm, runs in groups.items() for run in runs if not {arm, ""} & hidden and run.run not in odd
    ]
    rows = [
        (arm, run.run, run.seed, run.status in ("complete", "diverged"), one.images, math.log(one.fid))
        for arm, run in shown
        for one in run.evaluations
        if 0 < one.fid < math.inf
    ]
    points = DataFrame(rows, columns=["arm", "run", "seed", "ended", "images", "log"])
    alone = points.arm.isin([tree.NULL, tree.PILOTS])
    for arm, mine in concat([_shared(points[~alone]), points[alone]]).groupby("arm", sort=False):
        at = mine.groupby("images").log.agg(["mean", "min", "max", "size"])
        seeds, planned = at["size"].tolist(), len(records.listed(cell, "paired", arm))
        span = " to ".join(dict.fromkeys((str(min(seeds)), str(max(seeds)))))
        part = f" ({span} of {planned} seeds)" if min(seeds) < planned else ""
        three = np.exp(at[["mean", "min", "max"]].to_numpy().T)
        yield tree.line(cell, arm, "distance", at.index, three, seeds, list(dict.fromkeys(mine.run)), arm + part)


def _shared(points: DataFrame) -> DataFrame:
    """The points of the seeds that all arms have: of runs that ended, where an arm has such; and at every evaluation of
    the seeds that all arms measured there have. Where arms have no seed in common, their own."""
    by_arm = [arm for _, arm in points.groupby("arm")]
    common = set.intersection(*(set(arm.seed[arm.ended]) or set(arm.seed) for arm in by_arm)) if by_arm else set()
    kept = points[points.seed.isin(common) | (not common)]
    arms = kept.groupby("images").arm.transform("nunique")
    whole = kept.groupby(["images", "seed"]).arm.transform("nunique") == arms
    return kept[whole | ~whole.groupby(kept.images).transform("any")]


def levels(arm: tree.Arm) -> Iterator[tree.Line]:
    """The speedup to each level of the band."""
    if arm.role == "paired" and arm.result and arm.result.n:
        three = [[getattr(level.speedup, key) for level in arm.result.levels] for key in ("value", "low", "high")]
        x = range(1, len(three[0]) + 1)
        yield tree.line(arm.cell, arm.method, "levels", x, three, [arm.result.n] * len(x), arm.runs)


def networks(records: Records) -> Iterator[tree.Network]:
    """Parameters and FLOPs per cell and method, against the first backbone of the dataset with the same method."""
    first: dict[tuple[str, str], list[Any]] = {}
    for cell, method in itertools.product(records.suite.cells, records.suite.arms):
        if runs := records.found(cell.name, "paired", method):
            sizes = [runs[0].start.get(key) for key in ("params", "flops")]
            base = first.setdefault((cell.dataset, method), sizes)
            size, cost = (a / b if a and b else math.nan for a, b in zip(sizes, base, strict=True))
            own = runs[0].start.get("method_params")
            yield tree.Network(cell.name, method, sizes[0], own, sizes[1], size, cost, [run.run for run in runs])


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

    def once(value: Callable[[Result], Any]) -> str:
        return "; ".join(dict.fromkeys(str(found) for run in runs if (found := value(run)) not in (None, "")))

    def code(run: Result) -> str:
        git = run.start.get("git") or {}
        return short(git.get("commit") or "no checkout") + " with uncommitted changes" * bool(git.get("dirty"))

    return {
        "seeds": "; ".join(f"{role} {', '.join(map(str, those))}" for role, those in planned.items() if those),
        "hours over all runs": ", ".join(f"{key} {value:.2f}" for key, value in hours.items())
        + "; energy was not measured",
        "resumes": str(sum(run.resumes for run in runs)),
        **{key.replace("_", " "): once(operator.methodcaller("recorded", key)) for key in COMPUTED},
        "versions": once(lambda run: ", ".join(map(" ".join, run.start.get("versions", {}).items()))),
        "code": once(code),
        "data": once(lambda run: short(run.start.get("data_digest"))),
        "prepared from a part of the originals": once(lambda run: run.dataset * bool(run.start.get("data_partial"))),
    }
