"""Figures as SVG: vector, colour-blind safe, the same colour for a method everywhere, the same bytes every time."""

from __future__ import annotations

import io
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.sentences import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; the paper's methods have theirs for good, others draw from the rest by name.
COLOURS = {"none": "#000000", "A/A": "#999999", "inv_sqrt2": "#0072B2", "constant": "#E69F00", "learnable": "#009E73"}
OTHERS = ("#D55E00", "#CC79A7", "#56B4E9", "#8B5A2B", "#5D3FD3", "#808000")


def colour(method: str) -> str:
    """The colour of a method, by its name without parameters."""
    name = method.partition("(")[0]
    return COLOURS.get(name) or OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]


def figures(report: dict[str, Any]) -> dict[str, str]:
    """All figures that there is something to draw for, by name, as SVG text."""
    drawn = {"speedup": speedup, "curves": curves, "pairs": pairs, "ladder": ladder, "profile": profile}
    return {name: svg for name, draw in drawn.items() if (svg := draw(report))}


def speedup(report: dict[str, Any]) -> str:
    """Every arm of every cell, the A/A arm and the pooled result, with intervals."""
    rows = [(f"{c['method']}  ·  {c['cell']}", c, c["method"], "o") for c in report["comparisons"] if finite(c.get("speedup")) and not c["withheld"]]
    rows += [(f"{p['method']}  ·  pooled", p, p["method"], "D") for p in report["pooled"] if finite(p["speedup"])]
    if not rows:
        return ""
    figure, axis = _figure(7.5, 0.8 + 0.3 * len(rows))
    for y, (_, row, method, marker) in enumerate(reversed(rows)):
        if finite(row["low"]):
            axis.plot([row["low"], row["high"]], [y, y], color=colour(method), lw=2, solid_capstyle="butt")
        axis.plot(row["speedup"], y, marker, color=colour(method), ms=7)
        axis.annotate(f"{row['speedup']:.2f}", (row["speedup"], y), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=7)
    axis.axvline(1, color="#444444", lw=1)
    axis.axvline(1.5, color="#444444", lw=1, ls=":")
    axis.set_xscale("log")
    _plain_ticks(axis, [v for _, r, *_ in rows for v in (r["low"], r["high"], r["speedup"], 1.5) if finite(v)])
    axis.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_xlabel("speedup to target in images (right of 1: faster; dotted: the paper's 1.5)")
    return _svg(figure, "Speedup to target of every arm with 95 % intervals")


def curves(report: dict[str, Any]) -> str:
    """Distance against images, a panel per cell: mean over seeds, band from lowest to highest seed, target, crossings."""
    cells = [c for c in report["cells"] if c["measure"]]
    if not cells:
        return ""
    figure, axes = _figure(4.2 * len(cells), 3.6, len(cells))
    for axis, cell in zip(np.atleast_1d(axes), cells, strict=True):
        for method in report["arms"]:
            _band(axis, [r for r in report["runs"] if r["cell"] == cell["cell"] and r["role"] == "paired" and r["method"] == method], method)
        if finite(cell["target"]):
            axis.axhline(cell["target"], color="#444444", lw=1, ls="--")
        axis.set(xscale="log", yscale="log", title=cell["cell"], xlabel="training images", ylabel=cell["measure"]["name"])
    np.atleast_1d(axes)[0].legend(fontsize=7, frameon=False)
    return _svg(figure, "Distance against training images with the spread over seeds and each seed's crossing of the target")


def _band(axis: Axes, runs: list[dict], method: str) -> None:
    values: dict[int, list[float]] = {}
    for run in runs:
        for images, distance in run["evaluations"]:
            if finite(distance) and distance > 0:
                values.setdefault(images, []).append(distance)
        crossing = run["crossing"]
        if crossing and finite(crossing["images"]):
            axis.plot(crossing["images"], run["target"], "|", color=colour(method), ms=9)
    if values:
        images = sorted(values)
        axis.plot(images, [math.exp(np.mean(np.log(values[i]))) for i in images], color=colour(method), lw=1.5, label=method)
        axis.fill_between(images, [min(values[i]) for i in images], [max(values[i]) for i in images], color=colour(method), alpha=0.15, lw=0)


def pairs(report: dict[str, Any]) -> str:
    """The ratio of every single pair, so that one sees the seeds."""
    shown = [c for c in report["comparisons"] if c.get("pairs") and not c["withheld"]]
    if not shown:
        return ""
    figure, axis = _figure(7.5, 0.8 + 0.28 * len(shown))
    for y, comparison in enumerate(reversed(shown)):
        ratios = [pair["ratio"] for pair in comparison["pairs"]]
        axis.plot(ratios, [y] * len(ratios), "o", color=colour(comparison["method"]), ms=5, alpha=0.7, mew=0)
    axis.axvline(1, color="#444444", lw=1)
    axis.set_xscale("log")
    _plain_ticks(axis, [pair["ratio"] for c in shown for pair in c["pairs"]] + [1.0])
    axis.set_yticks(range(len(shown)), [f"{c['method']}  ·  {c['cell']}" for c in reversed(shown)])
    axis.set_xlabel("baseline over arm in images to target, one dot per seed")
    return _svg(figure, "Ratio of images to target for every pair of seeds")


def ladder(report: dict[str, Any]) -> str:
    """Speedup over the target ladder, a panel per cell; hollow where the fit is flat."""
    cells = [c for c in report["cells"] if c["ladder"]]
    if not cells:
        return ""
    figure, axes = _figure(4.2 * len(cells), 3.2, len(cells))
    for axis, cell in zip(np.atleast_1d(axes), cells, strict=True):
        for i, row in enumerate(c for c in report["comparisons"] if c["cell"] == cell["cell"] and c.get("ladder") and not c["withheld"]):
            for rung in row["ladder"]:
                if finite(rung["speedup"]):
                    x = 100 * rung["fraction"] + 1.2 * (i - 2)
                    if finite(rung["low"]):
                        axis.plot([x, x], [rung["low"], rung["high"]], color=colour(row["method"]), lw=1.2)
                    axis.plot(x, rung["speedup"], "o", color=colour(row["method"]), ms=5, mfc="white" if rung["flat"] else None,
                              label=row["method"] if rung is row["ladder"][0] else None)
        axis.axhline(1, color="#444444", lw=1)
        axis.set(title=cell["cell"], xlabel="target: what the pilots reach at this % of the budget", ylabel="speedup", xticks=[20, 40, 60, 80])
    np.atleast_1d(axes)[0].legend(fontsize=7, frameon=False)
    return _svg(figure, "Speedup over the ladder of targets")


def profile(report: dict[str, Any]) -> str:
    """Performance profile (Dolan and More 2002): share of cell x seed on which a method needs at most r times the fewest images."""
    best: dict[tuple[str, int], dict[str, float]] = {}
    for run in report["runs"]:
        if run["role"] == "paired" and run["crossing"] and run["status"] in ("complete", "diverged"):
            images = run["crossing"]["images"]
            best.setdefault((run["cell"], run["seed"]), {})[run["method"]] = images if finite(images) else math.inf
    problems = [times for times in best.values() if len(times) == len(report["arms"]) and min(times.values()) < math.inf]
    if not problems:
        return ""
    figure, axis = _figure(5, 3.2)
    for method in report["arms"]:
        ratios = np.sort([times[method] / min(times.values()) for times in problems])
        finite_ratios = ratios[np.isfinite(ratios)]
        axis.step(np.concatenate([[1], finite_ratios, [max(2.0, *finite_ratios, 1)]]),
                  np.concatenate([[np.mean(ratios <= 1)], (np.arange(len(finite_ratios)) + 1) / len(ratios), [len(finite_ratios) / len(ratios)]]),
                  where="post", color=colour(method), label=method)
    axis.set(xlabel="images to target over the fewest of any method", ylabel="share of cells and seeds", ylim=(0, 1.03))
    axis.legend(fontsize=7, frameon=False)
    return _svg(figure, "Performance profile over cells and seeds")


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "skipbench", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def _plain_ticks(axis: Axes, values: list[float]) -> None:
    """Ticks at readable ratios instead of powers of ten."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = min(values) / 1.1, max(values) * 1.1
    ticks = [t for t in (0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8) if low <= t <= high]
    axis.set_xlim(low, high)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])


def _svg(figure: Figure, title: str) -> str:
    from matplotlib import pyplot

    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg"):]


