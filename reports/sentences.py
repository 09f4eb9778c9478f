"""Verdicts in sentences: what holds, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports import formats, words
from reports.targets import FLAT, TOO_SMALL

PROGRESS = 1 / 3  # the distance at the end over that after a tenth of the budget: above this a suite is too small
MEASURED = ("probe", "probe_range", "growth", "bounded")  # tests of claims that probes decide
SAID = {
    words.FASTER: "faster than {baseline}", words.SLOWER: "slower than {baseline}",
    words.NO_DIFFERENCE: "no detectable difference from {baseline}", words.INCONCLUSIVE: "inconclusive",
    words.PRELIMINARY: "preliminary", words.POINTS: "points only", words.IDENTICAL: "identical in every pair",
}
LABELS = {
    TOO_SMALL: "budget too small: a pilot does not reach the target within it, so that no word is given",
    FLAT: "flat here: the pilots' curve hardly falls at the target, so that no time can be read off it",
    "targets not frozen": "targets not frozen: the pilots are not done",
}


def banner(report: dict[str, Any]) -> str:
    """The warning on top of a report, empty if there is nothing to warn of."""
    aa = report["aa"]
    if not aa["failed"]:
        return ""
    return (f"The A/A test failed: {report['null_method']} against itself under other seeds differs by {formats.ratio(aa['speedup'])} "
            f"(p {formats.p(aa['p'])}, level 0.001). Read every number below with that in mind.")


def verdicts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What holds, a sentence per arm, then the A/A arm, and what is missing, diverged or failed; each with its runs."""
    return [{"text": text, "runs": runs} for text, runs in _verdicts(report)]


def _verdicts(report: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    targets = bool(report["seeds"]["pilots"])
    if targets:
        for row in report["pooled"]:
            yield _arm(row, report), row["runs"]
        yield _aa(report), report["aa"]["runs"]
    else:
        yield "A suite of measurements, without pilots: nothing is compared with a target.", []
        yield from _measured(report)
    if report["reference"]["compared"]:
        yield _reference(report["reference"]), []
    for cell in report["cells"] if targets else ():
        if cell["label"]:
            yield f"{cell['cell']} has the label {LABELS.get(cell['label'], cell['label'])}.", cell["runs"]
        if formats.finite(cell["progress"]) and cell["progress"] > PROGRESS:
            yield (f"{cell['cell']}: the distance at the end is {cell['progress']:.2f} of that after a tenth of the budget, more than a "
                   "third: too little training to say much."), cell["runs"]
    if unread := [run for run in report["runs"] if run["unread"]]:
        yield (f"{formats.plural(len(unread), 'run')} with evaluations without a finite distance, which are left out: "
               f"{sum(run['unread'] for run in unread)} of them."), [run["run"] for run in unread]
    if report["diverged"]:
        what = "counted as not reaching the target" if targets else "are left out"
        yield f"{formats.plural(len(report['diverged']), 'run')} diverged and {what}.", report["diverged"]
    if report["missing"]:
        yield (f"{len(report['missing'])} of {len(report['runs'])} runs are missing: this is the report of a part of the suite, and its "
               "pairs without both runs are left out."), report["missing"]
    if report["failures"]:
        runs = sorted({run for failure in report["failures"] for run in failure["runs"]})
        yield f"{formats.plural(len(report['failures']), 'gate failure')}: the numbers they touch are not shown.", runs


def _measured(report: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The claims that probes decide, a sentence each: the verdict of every method, once where it is the same for all."""
    claims: dict[str, list[dict[str, Any]]] = {}
    for claim in report["claims"]:
        if claim["test"] in MEASURED and claim["runs"]:
            claims.setdefault(claim["id"].partition(" (")[0], []).append(claim)
    for name, rows in claims.items():
        words_said = {row["verdict"] for row in rows}
        text = rows[0]["text"].removesuffix(".")
        head = f"Claim {name}, {text[0].lower()}{text[1:]}:"
        if len(words_said) == 1:
            head += f" {formats.scaled(words_said.pop(), report['scale'])}."
        else:
            head += "".join(f" {formats.scaled(row['verdict'], report['scale'])} for {_method(row)}{';' if row is not rows[-1] else '.'}" for row in rows)
        yield f"{head} {'; '.join(map(_evidence, rows))}.", sorted({run for row in rows for run in row["runs"]})


def _method(claim: dict[str, Any]) -> str:
    return claim["id"].partition(" (")[2].removesuffix(")")


def _evidence(claim: dict[str, Any]) -> str:
    """With the method in front, if it does not stand there."""
    method = _method(claim)
    return claim["evidence"] if claim["evidence"].startswith(method) else f"{method}: {claim['evidence']}"


def _arm(row: dict[str, Any], report: dict[str, Any]) -> str:
    method = row["method"]
    if not row["cells"]:
        said = "no headline in any cell" if row["word"] == words.NO_HEADLINE else formats.scaled(SAID[row["word"]], report["scale"])
        return f"{method}: {said}. {_unsaid(method, report)}"
    said = SAID[row["word"]].format(baseline=report["baseline"])
    head = f"{method}: {formats.scaled(said, report['scale'])}. Speedup to target {formats.interval(row)}"
    head += f" over {formats.plural(len(row['cells']), 'cell')}, {formats.plural(row['n'], 'seed')} each"
    head += f"; Holm p {_equals(row['p_holm'])}." if formats.finite(row["p_holm"]) else "."
    if row["left_out"]:
        head += f" Without {', '.join(row['left_out'])}."
    if row["seeds_needed"]:
        head += f" Would need about {row['seeds_needed']} seeds per cell."
    return head


def _equals(p: float) -> str:
    text = formats.p(p)
    return text if text.startswith("<") else f"= {text}"


def _unsaid(method: str, report: dict[str, Any]) -> str:
    """Why the cells of an arm have no headline, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for c in report["comparisons"]:
        if c["method"] == method and c["role"] == "paired":
            reasons.setdefault(unsaid(c, report["baseline"]), []).append(c["cell"])
    return "; ".join(f"{', '.join(cells)}: {reason}" for reason, cells in reasons.items()) + "."


def unsaid(row: dict[str, Any], baseline: str) -> str:
    """Why a comparison has no headline, or none that enters a result over cells; if there is none, how many runs reached the target."""
    if row["withheld"] or row["label"]:
        return row["withheld"] or row["label"]
    if not row["n"]:
        return "no pair with both runs"
    if row["word"] != words.NO_HEADLINE:
        return f"{row['word']}, {formats.plural(row['n'], 'pair')}"
    return f"{row['word']}, {row['reached']['baseline']} of {row['n']} runs of {baseline} and {row['reached']['arm']} of the arm reached the target"


def _reference(found: dict[str, Any]) -> str:
    inside = found["compared"] - len(found["outside"])
    return (f"{inside} of {formats.plural(found['compared'], 'speedup')} within the prediction interval of the committed reference."
            + "".join(f" {text}." for text in found["outside"]))


def _aa(report: dict[str, Any]) -> str:
    aa = report["aa"]
    if not aa["cells"]:
        return "A/A: not tested, for want of runs with a headline."
    off = f"{len(aa['missing_one'])} of {formats.plural(len(aa['cells']), 'cell')} with a 95 % interval that misses 1"
    return (f"A/A: {'failed' if aa['failed'] else 'passed'}. {report['null_method']} against itself under other seeds: {formats.interval(aa)} "
            f"at 99.9 %, p {_equals(aa['p']) if formats.finite(aa['p']) else formats.DASH}; {off}, {aa['expected']:.2g} expected by chance.")
