"""The figures of a report as SVG, drawn from the tree alone: a forest plot, pairs, and lines over an axis.

Ink is `currentColor`, so that a figure follows the page, light or dark. Intervals: 95 % thick, the deciding level thin.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reports.analysis.comparisons import Interval
from reports.analysis.verdicts import SAME
from reports.report.formats import compact, finite, interval, significant
from reports.report.sections import SectionBlock, blocks
from reports.report.styles import INK, OTHERS, Style, style
from reports.report.tree import FLOOR, NULL, PILOTS, Line, Report, speedup

RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)  # ticks of an axis of ratios
INKED = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color", "grid.color")
SETTINGS: Any = dict.fromkeys(INKED, INK)
SETTINGS |= {"svg.fonttype": "none", "svg.hashsalt": "skipbench", "font.size": 11, "legend.frameon": False}
SETTINGS |= {"axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.15, "axes.axisbelow": True}
SETTINGS |= {"axes.titlesize": 9, "lines.markersize": 4.5}
THEME = (
    "<style>.drawn{color:#1a1a1a}.drawn text{font-family:system-ui,'Segoe UI',Roboto,sans-serif!important}"
    "@media screen and (prefers-color-scheme:dark){.drawn{color:#e4e4e4}}</style>"
)


@dataclass(frozen=True)
class Figure:
    """name: of its file; group: what it shows; title: the cell, or what else tells it from the others of its group;
    told: its numbers in words, for those who do not see it."""

    name: str
    group: str
    title: str
    svg: str
    told: str


def figures(report: Report) -> list[Figure]:
    """All figures that there is something to draw for, in the order of the sections."""
    found = []
    with matplotlib.rc_context(SETTINGS):
        for block in (block for block in blocks() if block.figure):
            for title, svg, told in _lines(report, block) if block.what else ROWS[block.figure](report):
                slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
                found.append(Figure(f"{block.figure}-{slug}".strip("-"), block.figure, title, svg, "; ".join(told)))
    return found


Drawn = Iterator[tuple[str, str, list[str]]]  # title, SVG, and its numbers in words


def _forest(report: Report) -> Drawn:
    """Every arm over all cells and in each; and the null arm in each, for scale."""
    rows: list[tuple[str, str, Interval, Interval | None]] = []  # name, method, 95 % interval, deciding interval
    for pool in report.pooled:
        if one := pool.result:
            rows.append((f"{pool.method}, all cells", pool.method, one.descriptive, speedup(pool)))
        rows += [(arm.cell, arm.method, speedup(arm), None) for arm in report.comparisons if arm.method == pool.method]
    rows += [(f"{NULL}, {arm.cell}", NULL, speedup(arm), None) for arm in report.comparisons if arm.role == "null"]
    if not (rows := [row for row in rows if finite(row[2].value)]):
        return
    drawing, axes = _row_axes(0.28, [textwrap.fill(row[0], 26) for row in rows], 4.4)
    axes.axvspan(1 / SAME, SAME, color=INK, alpha=0.07, linewidth=0)
    axes.axvline(1, color=INK, linewidth=1)
    claimed, whose, _ = report.claimed or (1.0, "", "")
    axes.axvline(claimed, color=INK, linewidth=1.3, linestyle=":")
    for y, (_, method, shown, thin) in enumerate(rows):
        look, decides = style(method, report.arms, report.baseline), thin or shown
        axes.plot((shown.low, shown.high), (y, y), color=look.colour, linewidth=6 if thin else 3, solid_capstyle="butt")
        axes.plot((decides.low, decides.high), (y, y), color=look.colour, linewidth=1.4)
        axes.plot(shown.value, y, marker=look.marker, color=look.colour, markersize=10 if thin else 6)
    drawn = np.array([list(vars(one).values()) for *_, shown, thin in rows for one in (shown, thin or shown)])
    low, high = min(np.nanmin(drawn), 1 / SAME), max(np.nanmax(drawn), claimed)
    kept: list[float] = []  # so far apart that labels do not touch
    for tick in (tick for tick in (1, claimed, *RATIOS) if low <= tick <= high):
        if all(abs(math.log(tick / other)) > 0.08 * math.log(high / low) for other in kept):
            kept.append(tick)
    _log(axes, "x", kept)
    axes.set_xlim(low / 1.03, high * 1.03)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [interval(thin or shown) for *_, shown, thin in rows])
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    for label, row in zip([*axes.get_yticklabels(), *right.get_yticklabels()], rows * 2, strict=True):
        label.set_fontweight("bold" if row[3] else "normal")
    axes.set_xlabel(f"speedup (right of 1: fewer images than {report.baseline})")
    if whose:
        said = f"{whose}'s {claimed:g}x"
        axes.annotate(said, (claimed, 1), (0, 4), ("data", "axes fraction"), "offset points", ha="center")
    told = [f"{name if method in name else f'{method}, {name}'}: {interval(b or a)}" for name, method, a, b in rows]
    yield "", _svg(drawing, "speedup of every method, over all cells and in each"), told


def _pairs(report: Report) -> Drawn:
    """Both runs of every pair, joined: images to the band."""
    for cell in report.cells:
        arms = [arm for arm in report.comparisons if arm.cell == cell.cell and arm.role == "paired" and arm.result]
        rows = [(arm.method, i, pair) for arm in arms if arm.result for i, pair in enumerate(arm.result.pairs)]
        if not rows:
            continue
        drawing, axes = _row_axes(0.16, [method * (not i) for method, i, _ in rows], 5.6)
        for y, (method, i, pair) in enumerate(rows):
            look, both = style(method, report.arms, report.baseline), (math.exp(pair.baseline), math.exp(pair.arm))
            if y and not i:
                axes.axhline(y - 0.5, color=INK, alpha=0.2, linewidth=0.8)
            axes.plot(both, (y, y), color=look.colour, linewidth=1.6)
            axes.plot(both[0], y, marker="o", color=INK, markersize=4)
            axes.plot(both[1], y, marker=look.marker, color=look.colour, markersize=6)
        axes.axvline(cell.tau, color=INK, linewidth=1, linestyle="--")
        _log(axes, "x", [tick * 10**power for power in range(12) for tick in (1, 1.5, 2, 3, 5, 7)])
        axes.set_xlabel(f"training images to the band (round: {report.baseline})")
        images = [(method, f"{math.exp(pair.arm):,.0f}", f"{math.exp(pair.baseline):,.0f}") for method, _, pair in rows]
        told = [f"{method} {own} images, {report.baseline} {other}" for method, own, other in images]
        yield cell.cell, _svg(drawing, f"images to the band of both runs of every pair, {cell.cell}"), told


ROWS: dict[str, Callable[[Report], Drawn]] = {"forest": _forest, "pairs": _pairs}


def _lines(report: Report, block: SectionBlock) -> Drawn:
    """Lines with their bands, a figure per cell."""
    cells = {cell.cell: cell for cell in report.cells}
    chosen = [line for line in report.lines if line.what in block.what.split()]
    for title in dict.fromkeys(line.cell for line in chosen):
        every, cell = [line for line in chosen if line.cell == title], cells.get(title)
        lines = [line for line in every if line.method not in (NULL, FLOOR, PILOTS)] or every
        drawing = Drawing(figsize=(6.4, 4.2))
        axes = drawing.add_subplot()
        axes.grid()
        for i, line in enumerate(lines):
            _line(
                axes,
                line,
                OTHERS[i % len(OTHERS)] if line.what == "gates" else style(line.method, report.arms, report.baseline),
                block,
            )
        at = sorted({x for line in lines for x in line.x})
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if name in block.log:
                _log(axes, name, at if name == "x" and len(at) < 7 else ())
            else:
                whole = name == "x" and all(x.is_integer() for x in at)
                axis.set_major_locator(MaxNLocator(7, integer=whole))
                axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        if block.what == "levels":
            _log(axes, "y", RATIOS)
            axes.axhline(1, color=INK, linewidth=1)
            axes.set_ylim(min(axes.get_ylim()[0], 1 / SAME), max(axes.get_ylim()[1], SAME))
        if block.what == "distance" and cell:
            if cell.band and cell.band.levels:
                axes.axhspan(cell.band.levels[-1], cell.band.levels[0], color=INK, alpha=0.1, linewidth=0)
            axes.set_title("\n".join(_doubts(report, lines)))
        axes.set_xlabel(block.x)
        axes.set_ylabel(cell.measure.name if block.y == "distance" and cell and cell.measure else block.y)
        columns = 2 if max(len(line.name) for line in lines) > 18 else 3
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns)
        ends = {
            line.name: [f"{significant(line.middle[i])} at {compact(line.x[i])}" for i in (0, -1)] for line in lines
        }
        told = [f"{name}: {first}, {last}" for name, (first, last) in ends.items()]
        yield title, _svg(drawing, f"{block.y} over {block.x}, {title}"), told


def _line(axes: Axes, line: Line, look: Style, block: SectionBlock) -> None:
    if block.bars:
        lows = [max(low, middle / 9) for low, middle in zip(line.low, line.middle, strict=True)]
        axes.vlines(line.x, lows, line.high, look.colour)
    else:
        axes.fill_between(line.x, line.low, line.high, color=look.colour, alpha=0.15, linewidth=0)
    more: Any = {"markerfacecolor": "none", "linewidth": 1} if line.what == "random" else {"linewidth": 1.8}
    more |= {"marker": look.marker, "markevery": 1 + len(line.x) // 32, "label": line.name}
    axes.plot(line.x, line.middle, look.dash, color=look.colour, **more)


def _doubts(report: Report, lines: Sequence[Line]) -> list[str]:
    """What a reader of curves must know."""
    paired = [arm for arm in report.comparisons if arm.cell == lines[0].cell and arm.role == "paired"]
    hidden = [arm.method for arm in paired if arm.withheld]
    seeds = {run.run: run.seed for run in report.runs}
    uneven = len({tuple(sorted(seeds[run] for run in line.runs)) for line in lines}) > 1
    said = [f"not drawn, a check failed: {', '.join(hidden)}"] * bool(hidden)
    return said + ["not all over the same seeds: compare with care"] * uneven


def _row_axes(height: float, names: Sequence[str], width: float) -> tuple[Drawing, Axes]:
    """An empty drawing with a row per name, from the top down, of so many inches."""
    drawing = Drawing(figsize=(width, height * len(names) + 0.8))
    axes = drawing.add_subplot()
    axes.grid(axis="x")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return drawing, axes


def _log(axes: Axes, name: str, ticks: Sequence[float] = ()) -> None:
    """Make the x or y axis logarithmic, with readable ticks: these, or 1, 2, 5 times powers of ten."""
    axis: Any = getattr(axes, f"{name}axis")
    getattr(axes, f"set_{name}scale")("log")
    axis.set_major_locator(FixedLocator(list(ticks)) if ticks else LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axis.set_minor_locator(NullLocator())


def _svg(drawing: Drawing, label: str) -> str:
    """The SVG element, complete in itself."""
    out = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Type", "Format")) | {"Title": label}
    drawing.savefig(out, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata=metadata)
    text = out.getvalue()[out.getvalue().index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg ", '<svg class="drawn" role="img" ', 1).replace("<defs>", THEME + "<defs>", 1)
