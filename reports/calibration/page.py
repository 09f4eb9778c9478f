"""The study as one page: what is simulated, a figure, a table of expectations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from reports.analysis.findings import FINDINGS
from reports.analysis.verdicts import VERDICT_PAIRS
from reports.calibration.simulate import ARMS

GOOD, FALSE = (0.93, 0.97), 0.05
WORDS = [f"false_{m}" for m in range(1, ARMS + 1)]


def expectations(rows: pd.DataFrame, powers: pd.DataFrame, looks: pd.DataFrame, repetitions: int) -> pd.DataFrame:
    """What the study must show, what it found, and whether it holds.

    rows of `study`, powers of `power`, looks of `decided`.
    """
    slack = 3 * math.sqrt(FALSE * (1 - FALSE) / repetitions)
    plain = rows[rows.finding == ""]
    many, few = plain[plain.pairs >= VERDICT_PAIRS], plain[plain.pairs < VERDICT_PAIRS]
    found = [
        _line("coverage, interval of one cell", plain.cell, *GOOD),
        _line("coverage, pooled interval, six pairs or more", many.pooled, *GOOD),
        _line("coverage, pooled interval, three pairs", few.pooled, GOOD[0], 0.98),
        _line("suites of one to four arms with a false word", many[WORDS], 0, FALSE, slack),
    ]
    for one in FINDINGS:
        those = rows[rows.finding == one.key]
        found.append(_line(f"{one.name}: coverage", those[["cell", "pooled"]], *one.coverage))
        found.append(_line(f"{one.name}: suites with a false word", those[WORDS], 0, one.false, slack))
    found.append(_line("cells without a usable band", rows.unusable, 0, FALSE))
    for key in ("detectable", "pairs to settle"):
        found.append(_line(f"{key}: power less what is promised, sd known", powers[key], -0.05, 0.05))
        found.append(_line(f"{key}: plans with 80 % power at the sd's upper limit", powers[f"{key}, upper"], 0.75, 1))
    found.append(_line("until it is decided: suites with a false word", looks.false, 0, FALSE))
    found.append(_line("until it is decided: suites with all printed intervals right", looks.right, 0.94, 1))
    return pd.DataFrame(found)


def sequential(looks: pd.DataFrame) -> str:
    """The table of suites with looks: rates over one to four arms, pairs for three with normal times."""
    lines = ["| | true speedup | false words | intervals right | verdicts | pairs | fixed |", "|---" * 7 + "|"]
    for (name, speedup), those in looks.groupby(["name", "speedup"], sort=False):
        one = those[(those.arms == 3) & ~those.skewed].iloc[0]
        rates = f"up to {100 * those.false.max():.1f} % | {100 * those.right.min():.1f} % or more"
        shown = f"{100 * one.verdicts:.0f} % | {one.pairs:.1f} | {one.fixed}"
        lines.append(f"| {name} | {speedup:g}x | {rates} | {shown} |")
    return "\n".join(lines)


def write(out: Path, rows: pd.DataFrame, powers: pd.DataFrame, looks: pd.DataFrame, repetitions: int) -> bool:
    """Write the page to `out`, figure and grid beside it under the same name; whether every expectation holds."""
    found = expectations(rows, powers, looks, repetitions)
    lines = [found.columns, ["---"] * 4, *found.assign(holds=found.holds.map({True: "yes", False: "NO"})).to_numpy()]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    count, error = len(rows) // rows.pairs.nunique(), 100 * math.sqrt(FALSE * (1 - FALSE) / repetitions)
    lowest = rows.set_index("name")[["cell", "pooled"]].min(axis=1).groupby(level=0, sort=False).min()
    low = "; ".join(f"{name} ({100 * x:.1f} %)" for name, x in lowest.items() if x < GOOD[0]) or "none"
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    text = text.format(
        settings=count, repetitions=repetitions, table=table, error=error, low=low, looks=sequential(looks)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    figure(out.with_suffix(".svg"), rows)
    rows.to_csv(out.with_suffix(".csv"), index=False, float_format="%.4g", lineterminator="\n")
    return bool(found.holds.all())


def figure(path: Path, rows: pd.DataFrame) -> None:
    """Coverage of the cell's and the pooled interval: a row per setting, a mark per speedup and number of pairs."""
    from matplotlib import pyplot as plt

    names = list(rows.name.unique())[::-1]
    with matplotlib.rc_context({"svg.hashsalt": "calibration", "svg.fonttype": "none", "font.size": 8}):
        drawn, axes = plt.subplots(1, 2, sharey=True, figsize=(10, 0.22 * len(names) + 1), layout="constrained")
        for axis, key, what in zip(axes, ("cell", "pooled"), ("one cell", "two cells pooled"), strict=True):
            axis.axvspan(*(100 * x for x in GOOD), color="#e4eee4")
            axis.axvline(95, color="#999999", linewidth=0.8)
            for (pairs, those), mark in zip(rows.groupby("pairs"), "^os", strict=True):
                axis.scatter(100 * those[key], those.name.map(names.index), marker=mark, s=16, label=f"{pairs} pairs")
            axis.set(title=f"coverage of 95 % intervals, {what} (%)", xlim=(83, 99), ylim=(-0.7, len(names) - 0.3))
            axis.grid(axis="y", color="#eeeeee")
        axes[0].set_yticks(range(len(names)), names)
        axes[0].legend(loc="upper left")
        drawn.savefig(path, metadata={"Date": None})
        plt.close(drawn)


def _line(what: str, values: Iterable[object], low: float, high: float, slack: float = 0.0) -> dict[str, object]:
    numbers = 100 * np.asarray(values, dtype=float).ravel()
    numbers = numbers[np.isfinite(numbers)]  # three pairs give no words
    limits = f"at most {100 * high:.0f} %" if low == 0 else f"{100 * low:.0f} to {100 * high:.0f} %"
    limits += f", or {100 * slack:.1f} more by chance" * (slack > 0)
    holds = bool((numbers >= 100 * low).all() and (numbers <= 100 * (high + slack)).all())
    return {"": what, "expected": limits, "found": f"{numbers.min():.1f} to {numbers.max():.1f} %", "holds": holds}
