"""What holds, in sentences: the question, an answer per method with what it excludes, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reports.analysis.findings import Finding, resembles
from reports.report import formats
from reports.report.tree import CLAIMED, Arm, Note, Pool, Report

UNDONE = {
    "missing": "are missing: they have not begun",
    "running": "are running: this is the report of a part of the suite",
    "stopped": "stopped: they have begun and nobody trains them, and the same command resumes them",
    "failed": "failed: the traceback is in error.json of each folder",
}  # states of runs without a result
PROGRESS = 1 / 3  # the distance at the end over that after a tenth of the budget: above this a suite is too small


def complete(report: Report) -> Report:
    """The report with its sentences, made from the rest of it."""
    compares = bool(report.seeds["pilots"])
    answers = [_answer(pool, report) for pool in report.pooled] if compares else []
    notes = [*_notes(report, compares), *report.notes]
    return replace(report, banner=_banner(report), question=_question(report, compares), answers=answers, notes=notes)


def _question(report: Report, compares: bool) -> str:
    if not compares:
        return "What do skip factors do to features, gradients and responses? A suite of measurements, without pilots."
    less = f"How many training images fewer than {report.baseline} does a method need"
    return f"{less} to reach the same distance, and is that more than noise?"


def _banner(report: Report) -> str:
    if not (report.null and report.null.failed):
        return ""
    shown, bias = formats.ratio(report.null.speedup), formats.ratio(report.null.smallest_bias)
    failed = f"The null arm failed: {report.null_method} against itself under other seeds differs by {shown}."
    return f"{failed} The test catches a bias of {bias} with probability .8. Read every number below with that in mind."


def _answer(pool: Pool, report: Report) -> Note:
    if (one := pool.result) is None:
        return Note(f"{pool.withheld}.", pool.runs, pool.method, "no number over cells")
    word, (base, arm) = formats.scaled(one.verdict, report.scale), map(formats.percent, one.censored)
    if not formats.finite(one.speedup):
        return Note(one.sentence, pool.runs, pool.method, "no number over cells")
    said = one.sentence.partition(": ")[2] or one.sentence
    text = f"{formats.interval(one)}. {said[0].upper()}{said[1:]}"
    if pool.claim != one.verdict:
        text += f" About {CLAIMED:g}x: {formats.scaled(pool.claim, report.scale)}."
    if max(one.censored) > 0:
        text += (
            f" Within the budget: up to {base} of the levels were not reached by {report.baseline}, {arm} by the arm."
        )
    mine = [arm.result for arm in report.comparisons if arm.method == pool.method and arm.cell in one.cells]
    least = "At least " * (len({each.n for each in mine if each}) > 1)
    cells = "each of " * (len(one.cells) > 1) + formats.plural(len(one.cells), "cell")
    pairs = f"{least}{formats.plural(one.n, 'pair')} in {cells}"
    return Note(f"{text} {pairs}.", pool.runs, pool.method, word)


def _notes(report: Report, compares: bool) -> Iterator[Note]:
    plural = formats.plural
    if compares:
        yield _null(report)
    for cell in report.cells if compares else ():
        if cell.state != "usable":
            text = f"{cell.cell} is {cell.state}; it is shown and in no number over cells."
            yield Note(text, cell.band.pilots if cell.band else [])
        if formats.finite(cell.progress) and cell.progress > PROGRESS:
            yield Note(f"{progressed(cell.cell, cell.progress)}: too little training to say much.", cell.runs)
    yield from _doubts(report)
    if outside := report.reference.outside:
        inside, many = report.reference.compared - len(outside), plural(report.reference.compared, "speedup")
        text = f"{inside} of {many} within the prediction interval of the committed reference."
        yield Note(" ".join([text, *outside]), [])
    unread = {run.run: run.unread for run in report.runs if run.unread}
    failing = sorted({run for failure in report.failures for run in failure.runs})
    counted = "count as not reaching the band" if compares else "are left out"
    evaluations = f"{sum(unread.values())} evaluations without a finite distance"
    texts = {
        f"{plural(len(unread), 'run')} with {evaluations}, left out.": list(unread),
        f"{plural(len(report.diverged), 'run')} diverged and {counted}.": report.diverged,
        f"{plural(len(report.failures), 'failed check')}: the numbers that they touch are not shown.": failing,
    }
    for state, meaning in UNDONE.items():
        those = [run.run for run in report.runs if run.status == state]
        texts[f"{len(those)} of {len(report.runs)} runs {meaning}. Pairs without both runs are left out."] = those
    yield from (Note(text, runs) for text, runs in texts.items() if runs)


def _null(report: Report) -> Note:
    runs, one = [run for arm in report.comparisons if arm.role == "null" for run in arm.runs], report.null
    if one is None:
        return Note("Null arm: not tested, for want of runs in a usable cell.", runs)
    known = formats.finite(one.low)
    word = "failed" if one.failed else "passed" if known else "not decided"
    shown = f"{formats.interval(one)}{' at 99.9 %' * known}"
    caught = f"; a bias of {formats.ratio(one.smallest_bias)} would be caught with probability .8" * known
    return Note(f"Null arm {word}: {report.null_method} against itself under other seeds is {shown}{caught}.", runs)


def _doubts(report: Report) -> Iterator[Note]:
    """Where pairs look like suites in which the calibration found that intervals cover less than they say."""
    found: dict[Finding, list[Arm]] = {}
    for arm in report.comparisons:
        for finding in resembles(arm.result) if arm.result and arm.role == "paired" and arm.result.n > 1 else ():
            found.setdefault(finding, []).append(arm)
    for finding, arms in found.items():
        where = ", ".join(f"{arm.method} in {arm.cell}" for arm in arms)
        yield Note(f"{where}: {finding.sentence}", [run for arm in arms for run in arm.runs])


def progressed(cell: str, progress: float) -> str:
    """How far the distance fell."""
    return f"{cell}: progress: the distance at the end is {progress:.2f} of that after a tenth of the budget"
