"""What holds, in sentences: an answer per method with what it excludes, and the question and notes of notes.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from reports.analysis.findings import Finding, resembles
from reports.analysis.verdicts import DECIDED, EQUIVALENT
from reports.report import formats
from reports.report.sections import expression, filled
from reports.report.tree import Arm, Note, Pool, Report

FILE = Path(__file__).with_name("notes.yaml")


def complete(report: Report) -> Report:
    """The report with its sentences, made from the rest of it."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    banner, question = (filled(content[key], report) for key in ("banner", "question"))
    answers = [_answer(pool, report) for pool in report.pooled] if report.compares else []
    notes = [
        Note(filled(note["text"], report, entry), list(expression(note.get("runs", "[]"))(r=report, x=entry) or ()))
        for note in content["notes"]
        if report.compares or "only" not in note
        for entry in expression(note["of"])(r=report)
    ]
    notes = [note for note in notes if note.text]
    notes += [*_doubts(report), *report.notes]
    return replace(report, banner=banner, question=question, answers=answers, notes=notes)


def _answer(pool: Pool, report: Report) -> Note:
    if (one := pool.result) is None or not formats.finite(one.speedup):
        text = one.sentence if one else f"{pool.withheld}."
        return Note(text, pool.runs, pool.method, "no number over cells")
    word, (base, arm) = formats.scaled(one.verdict, report.scale), map(formats.percent, one.censored)
    said = one.sentence.partition(": ")[2] or one.sentence
    text = f"{formats.interval(one)}. {said[0].upper()}{said[1:]}"
    if report.claimed and pool.claim != one.verdict:
        text += f" About {report.claimed[0]:g}x: {formats.scaled(pool.claim, report.scale)}."
    if max(one.censored) > 0:
        missed = f"{base} of the levels were not reached by {report.baseline}, {arm} by the arm"
        text += f" Within the budget: up to {missed}."
    mine = [arm.result for arm in report.comparisons if arm.method == pool.method and arm.cell in one.cells]
    least = "At least " * (len({each.n for each in mine if each}) > 1)
    cells = "each of " * (len(one.cells) > 1) + formats.plural(len(one.cells), "cell")
    pairs = f"{least}{formats.plural(one.n, 'pair')} in {cells}"
    if one.verdict in DECIDED and one.n < max(report.looks, default=0):
        towards = "too near to 1" if one.verdict == EQUIVALENT else "exaggerated"
        pairs += f", after which the arm was not trained on; at such an early stop the estimate is on average {towards}"
    return Note(f"{text} {pairs}.", pool.runs, pool.method, word)


def _doubts(report: Report) -> Iterator[Note]:
    """Where pairs of usable cells look like suites in which the calibration found that intervals cover less."""
    found: dict[Finding, list[Arm]] = {}
    usable = [cell.cell for cell in report.cells if cell.state == "usable"]
    for arm in (one for one in report.comparisons if one.role == "paired" and one.cell in usable):
        for finding in resembles(arm.result) if arm.result and arm.result.n > 1 else ():
            found.setdefault(finding, []).append(arm)
    for finding, arms in found.items():
        where = ", ".join(f"{arm.method} in {arm.cell}" for arm in arms)
        yield Note(f"{where}: {finding.sentence}", [run for arm in arms for run in arm.runs])
