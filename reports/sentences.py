"""Numbers as people read them: verdicts in sentences, and the formats that tables and page share."""

from __future__ import annotations

import math
from typing import Any

from reports.words import claim

CLAIMED = 1.5  # ScaleLong's abstract: "about 1.5x faster"; verified
CLAIMED_METHODS = ("constant", "learnable")  # the methods that the claim is about
NO_SUFFIX = ("points only", "no headline", "identical", "")  # words that say nothing about methods


def banner(report: dict[str, Any]) -> str:
    """The warning on top of a report, empty if there is nothing to warn of."""
    aa = report["aa"]
    if aa["failed"]:
        return (f"The A/A test failed: `none` against itself under other seeds differs by {ratio(aa['speedup'])} "
                f"(p = {aa['p']:.2g}). Read every number below with that in mind.")
    return ""


def verdicts(report: dict[str, Any]) -> list[str]:
    """What holds, a sentence per arm, then the A/A arm, what is missing and what failed."""
    said = [_arm(row, report) for row in report["pooled"]]
    said.append(_aa(report["aa"]))
    said += [f"{c['cell']}: {c['label']}." for c in report["cells"] if c["label"]]
    said += [f"{c['cell']}: the distance at the end is {c['progress']:.2f} of that after a tenth of the budget, more than a third: "
             "too little training to say anything." for c in report["cells"] if math.isfinite(c["progress"]) and not c["progress_ok"]]
    if report["missing"]:
        said.append(f"{len(report['missing'])} of {len(report['runs'])} runs are missing: this is a report of a part of the suite.")
    if report["gates"]:
        said.append(f"{len(report['gates'])} gates failed; the numbers they touch are not shown.")
    return said


def _arm(row: dict[str, Any], report: dict[str, Any]) -> str:
    method = row["method"]
    if not row["cells"]:
        return f"{method}: no headline in any cell."
    cells = f"{len(row['cells'])} cell{'s' if len(row['cells']) > 1 else ''}"
    head = f"{method}: {scaled(row['word'], report['scale'])}. Speedup to target {interval(row)} over {cells}"
    if row["p_holm"] is not None and math.isfinite(row["p_holm"]):
        head += f", Holm p = {row['p_holm']:.2g}"
    head += "."
    if row["seeds_needed"]:
        head += f" About {row['seeds_needed']} seeds per cell would decide."
    if row["word"] not in NO_SUFFIX and row["word"] != "preliminary" and method.partition("(")[0] in CLAIMED_METHODS:
        head += f" The paper's claim of about {CLAIMED:g}x: {scaled(claim(row['low'], row['high'], CLAIMED), report['scale'])}."
    return head


def _aa(aa: dict[str, Any]) -> str:
    if not aa["cells"]:
        return "A/A: not tested."
    off = f"{len(aa['missing_one'])} of {len(aa['cells'])} cells have a 95 % interval that misses 1, {aa['expected']:.1f} expected by chance"
    return f"A/A: {'failed' if aa['failed'] else 'passed'}. `none` against itself: {ratio(aa['speedup'])}, p = {aa['p']:.2g}; {off}."


def scaled(word: str, scale: str) -> str:
    """A word, followed by "at mini scale" in a miniature suite."""
    return f"{word} at mini scale" if scale == "mini" and word not in NO_SUFFIX else word


def finite(value: Any) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def ratio(value: Any) -> str:
    """1.23x, or a dash."""
    return f"{value:.2f}x" if finite(value) else "–"


def interval(row: dict[str, Any]) -> str:
    """>= 1.23x [1.10, 1.38]; only what there is."""
    bound = {">=": "≥ ", "<=": "≤ ", "mixed": "~ "}.get(row.get("bound", ""), "")
    ends = f" [{row['low']:.2f}, {row['high']:.2f}]" if finite(row["low"]) and finite(row["high"]) else ""
    return f"{bound}{ratio(row.get('speedup', row.get('value')))}{ends}"


def headline(row: dict[str, Any]) -> str:
    """The speedup cell of a comparison: the interval, or why there is none."""
    if row["withheld"]:
        return row["withheld"]
    return interval(row) if finite(row.get("speedup")) else "no headline" if row["n"] else "no runs"


def digest(value: Any) -> str:
    """The first twelve digits of a hash."""
    return str(value)[:12] if value else "–"


def count(value: Any) -> str:
    """1,234, or a dash."""
    return f"{value:,.0f}" if finite(value) else "–"
