"""What the command line asks of a suite: its report, its checks, agreement with its reference, and one row per run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.records.files import read_json
from reports.records.run_folder import RunFolder, State
from reports.records.suite_records import OWN, WITH_ARMS, Records, parse, read, read_suite, widest, with_baseline
from reports.report import checks, formats, looks
from reports.report.build import build, cell_row, run_row
from reports.report.tree import CellRow

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ["run", "dataset", "backbone", "method", "seed", "role"]  # of a listed run
COLUMNS += ["status", "images", "final_fid", "seconds", "params", "flops"]  # of its result

REPORTS = {OWN: "report", WITH_ARMS: "report-arms"}  # folders


def folder(baseline: str | None = None, listing: str = OWN) -> str:
    """The folder of a suite's report; one that compares with another arm leaves that of the suite as it is."""
    return REPORTS[listing] + (f"-over-{formats.slug(baseline)}" if baseline else "")


def write(
    root: Path | str, suite: str, out: Path | str | None = None, baseline: str | None = None, listing: str = OWN
) -> Path | None:
    """Write report.json, index.html, report.md, tables/ (md, tex, csv) and figures/ (svg) to `out`; returns index.html.

    baseline: another arm to compare with. out: by default in ROOT/SUITE, see `folder`.
    A part of a suite gives a report of that part. ValueError if no run has begun; None if that is because they failed.
    """
    from reports.report import page  # figures take a second to import, which `check` and `load` need not wait for

    own = read(root, suite, listing)
    if not own.results and failed(root, suite):
        return None
    if not own.results:
        raise ValueError(f"suite: {suite!r} has no run in {root} yet; start it with: python -m bench run {suite}")
    records = with_baseline(own, baseline)
    return page.write(
        build(records, records is own), records, Path(out) if out else own.folder / folder(baseline, listing)
    )


def listings(root: Path | str, suite: str, baseline: str | None = None) -> list[str]:
    """What a suite has reports of: its own runs, and these with added arms, if there are any; of another baseline, that
    which it is an arm of."""
    found = list(dict.fromkeys([OWN, widest(root, suite)]))
    if baseline is None:
        return found
    return [listing for listing in found if baseline in read_suite(root, suite, listing).arms][:1] or found[-1:]


NO_REPORT = "none: its runs failed; call the same again once that is mended"  # instead of a report's page


def verdicts(root: Path | str, suite: str, arms: Collection[str]) -> list[str]:
    """One line per arm, some of which were added: its speedup over all cells, the verdict, and what is missing."""
    report = build(read(root, suite, WITH_ARMS))
    pools = {pool.method: pool for pool in report.pooled if pool.method in arms}
    return [
        f"{method}: {formats.interval(pool.result)}, {formats.scaled(pool.result.verdict, report.scale)}"
        if pool.result
        else f"{method}: {pool.withheld}"
        for method, pool in pools.items()
    ]


def load(root: Path | str, suite: str) -> DataFrame:
    """One row per listed run, in the suite's order, with COLUMNS; ValueError, one line, if there is no such suite.

    role: pilot | paired | null | floor | tuning. status: see `State`; missing has no record. seconds: on the
    training clock. flops: forward pass of one image.
    """
    import pandas

    records = read(root, suite)
    return pandas.DataFrame([asdict(run_row(records, listed)) for listed in records.suite.runs])[COLUMNS]


def check(root: Path | str, suite: str) -> list[str]:
    """One line per failed check; in a miniature suite also per cell whose training got nowhere.

    A trial concludes nothing; a tenth of a published budget is far down the curve. Added arms are checked too.
    """
    records = read(root, suite, widest(root, suite))
    small = [cell for cell in _cells(records) if cell.too_small and records.suite.scale == "mini"]
    late = [f"{formats.progress(cell)}; more than a third is too small a suite" for cell in small]
    return [*map(str, checks.failures(records)), *late * (not records.suite.trial)]


def agreement(root: Path | str, suite: str) -> tuple[list[str], str]:
    """A line per speedup outside the committed reference, or that it is of another configuration; and one line that
    counts the speedups or says why none was compared."""
    found = build(read(root, suite)).reference
    if found.refused:
        return [f"reference: {found.note}"], ""
    if not found.compared:
        return [], f"not compared with the reference: {found.note}"
    inside = found.compared - len(found.outside)
    counted = f"{inside} of {formats.plural(found.compared, 'speedup')} within the reference's interval"
    return list(found.outside), "; ".join(filter(None, (counted, found.note)))


def unfinished(root: Path | str, suite: str, listing: str | None = None) -> dict[str, State]:
    """The state of every listed run that is needed and has no result: failed, stopped, running or missing. listing: by
    default with added arms."""
    records = read(root, suite, listing or widest(root, suite))
    runs = looks.planned(records, looks.looked(records)).suite.runs
    states = {run.run: RunFolder(records.folder / run.run).state() for run in runs}
    return {run: state for run, state in states.items() if not state.done}


def failed(root: Path | str, suite: str) -> dict[str, str]:
    """What ended every run that failed, and where its traceback is."""
    names = (run for run, state in unfinished(root, suite).items() if state is State.FAILED)
    errors = {run: RunFolder(Path(root) / suite / run).error for run in names}
    told = {run: parse(dict[str, Any], read_json(path), path).get("error") for run, path in errors.items()}
    return {run: f"failed: {told[run]}; its traceback is in {path}" for run, path in errors.items()}


def missing(root: Path | str, suite: str) -> str:
    """What the checks do not cover: how many runs have no result, by their state, and cells that got nowhere in a suite
    that is not judged by that; "" if nothing."""
    records, counts = read(root, suite, widest(root, suite)), Counter(unfinished(root, suite).values())
    left = [f"{n} of {formats.plural(len(records.suite.runs), 'run')} {state}" for state, n in counts.items()]
    why = "a trial" if records.suite.trial else "" if records.suite.scale == "mini" else "a suite of full scale"
    small = sum(cell.too_small for cell in _cells(records)) if why else 0
    left += [f"progress of {formats.plural(small, 'cell')} is not judged in {why}"] * bool(small)
    return ", ".join(left)


def progress(root: Path | str, suite: str) -> list[str]:
    """One line per cell whose baselines are done: how far the distance fell, by which `check` judges a miniature; and
    how many of them no finite distance tells of."""
    cells = _cells(read(root, suite))
    unread = {cell.cell: formats.plural(len(cell.unread), "baseline") for cell in cells if cell.unread}
    known = [formats.progress(cell) for cell in cells if formats.finite(cell.progress)]
    return known + [f"{cell}: progress: {n} left out, without a finite distance" for cell, n in unread.items()]


def _cells(records: Records) -> list[CellRow]:
    """What is known of the cells, where there are pilots."""
    return [cell_row(records, cell, {}) for cell in records.suite.cells if records.suite.seeds.pilots]
