"""The figures of speedups: forest plots, the ladder, curves, pairs, the performance profile and the A/A arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import formats as say
from reports.panels import LABELS, LINE, ROW, WIDTH, Panels, Report, legend, names, note, row_height, row_name, thin
from reports.styles import Style, style
from reports.svg import INK, QUIET, RATIOS, SHADE, Canvas, Scale, around, decades
from reports.words import SAME

NUMBERS = 128  # width of a forest plot's column of figures
SEED = 9  # height of a pair's row where every seed has one
CLAIMED = 1.5  # the paper's abstract


def speedup(report: Report) -> Panels:
    """Forest plots: over cells, then each cell with the A/A arm for scale."""
    rows = [(p["method"], p, _interval(p)) for p in report["pooled"] if say.finite(p["speedup"])]
    if rows:
        yield "over cells", _forest(rows, report, "speedup to target over cells")
    for cell in report["cells"]:
        rows = [(c["method"], c, _interval(c)) for c in _shown(report, cell["cell"]) if say.finite(c["speedup"])]
        if rows:
            yield cell["cell"], _forest(rows, report, f"speedup to target, {cell['cell']}")


def null(report: Report) -> Panels:
    """The A/A arm, cell by cell, and pooled with its 99.9 % interval."""
    rows = [(c["cell"], c, _interval(c)) for c in report["comparisons"] if c["role"] == "null" and not c["withheld"] and say.finite(c.get("speedup"))]
    if rows:
        aa = report["aa"]
        rows += [("all, 99.9 %", aa, _interval(aa))] if say.finite(aa["speedup"]) else []
        yield "", _forest(rows, report, "A/A: the baseline against itself", method="A/A")


def _forest(rows: Sequence[tuple[str, dict, str]], report: Report, label: str, method: str = "") -> Canvas:
    height = row_height(name for name, _, _ in rows)
    canvas = Canvas(WIDTH, height * len(rows) + 58, label)
    ends = [x for _, row, _ in rows for x in (row["low"], row["high"], row["speedup"]) if say.finite(x)]
    scale = around([*ends, 1 / SAME, SAME], LABELS, WIDTH - NUMBERS)
    bottom = 12 + height * len(rows)
    canvas.box(scale(1 / SAME), 8, scale(SAME) - scale(1 / SAME), bottom - 8, SHADE)
    canvas.bottom(scale, bottom, 8, scale.ticks(RATIOS), "speedup to target (right of 1: faster)", lambda t: f"{t:g}")
    canvas.line([(scale(1), bottom), (scale(1), 8)], INK, 1)
    if scale.low < CLAIMED < scale.high and not method:
        canvas.line([(scale(CLAIMED), bottom), (scale(CLAIMED), 8)], QUIET, 1, "2 3", "the paper's 1.5")
        canvas.height += LINE + 4
        canvas.text((LABELS + WIDTH - NUMBERS) / 2, canvas.height - 10, "dotted: the 1.5 of the paper's abstract", "middle", QUIET)
    for i, (name, row, text) in enumerate(rows):
        y, look = 12 + height * (i + 0.5), style(method or name, report["arms"])
        row_name(canvas, y, name)
        if say.finite(row["low"]):
            canvas.line([(scale(row["low"]), y), (scale(row["high"]), y)], look.colour, 3, tip=f"{name}: {say.interval(row)}")
        canvas.mark(scale(row["speedup"]), y, look.marker, look.colour, f"{name}: {say.interval(row)}")
        canvas.text(WIDTH, y + 4, text, "end", QUIET)
    return canvas


def _interval(row: dict[str, Any]) -> str:
    return say.interval(row).replace("x", "")


def curves(report: Report) -> Panels:
    """Distance over images: the mean over seeds, its band, the target, and where each seed crosses it."""
    for cell in report["cells"]:
        withheld = _withheld(report, cell["cell"])
        bands = [b for b in report["curves"] if b["cell"] == cell["cell"] and b["method"] in report["arms"] and b["method"] not in withheld]
        bands = bands or [b for b in report["curves"] if b["cell"] == cell["cell"] and b["method"] == "pilots"]
        if bands:
            yield cell["cell"], _curves(report, cell, bands)


def _withheld(report: Report, cell: str) -> dict[str, str]:
    """The arms of a cell that a failed gate keeps out of every figure, with the reason."""
    return {c["method"]: c["withheld"] for c in report["comparisons"] if c["cell"] == cell and c["role"] == "paired" and c["withheld"].startswith("gate")}


def _curves(report: Report, cell: dict, bands: Sequence[dict]) -> Canvas:
    name = cell["measure"]["name"]
    canvas = Canvas(WIDTH, 350, f"{name} over training images, {cell['cell']}")
    x = around([i for b in bands for i in b["images"]], 62, WIDTH - 16, 1.03)
    y = around([v for b in bands for v in b["low"] + b["high"]] + ([cell["target"]] if cell["target"] else []), 268, 8, 1.05)
    canvas.bottom(x, 268, 8, x.ticks(decades(x.low, x.high)), "training images")
    canvas.left(y, 62, WIDTH - 16, thin(y, decades(y.low, y.high)), name)
    for band in bands:
        _band(canvas, x, y, band, style(band["method"], report["arms"]))
    if cell["target"]:
        canvas.line([(x.start, y(cell["target"])), (x.end, y(cell["target"]))], INK, 1, "5 3", f"target {say.significant(cell['target'], 4)}")
        _crossings(canvas, x, y(cell["target"]), report, cell["cell"])
    names(canvas, {_counted(b, report): style(b["method"], report["arms"]) for b in bands}, 322)
    if withheld := _withheld(report, cell["cell"]):
        note(canvas, f"Not drawn ({' and '.join(dict.fromkeys(withheld.values()))}): {', '.join(withheld)}")
    if len({tuple(_seeds(b, report)) for b in bands}) > 1:
        note(canvas, "Not all over the same seeds: compare with care")
    return canvas


def _seeds(band: dict, report: Report) -> list[int]:
    """Behind a band."""
    return sorted(r["seed"] for r in report["runs"] if r["run"] in band["runs"])


def _counted(band: dict, report: Report) -> str:
    """The method of a band, and over how many seeds it is where some are not there yet."""
    planned, counts = len(report["seeds"]["pilots" if band["method"] == "pilots" else "paired"]), sorted({*band["seeds"]})
    return band["method"] + (f" ({' to '.join(map(str, {counts[0]: 0, counts[-1]: 0}))} of {say.plural(planned, 'seed')})" if counts[0] < planned else "")


def _band(canvas: Canvas, x: Scale, y: Scale, band: dict, look: Style) -> None:
    points = list(zip(band["images"], band["mean"], band["low"], band["high"], band["seeds"], strict=True))
    canvas.area([(x(i), y(high)) for i, _, _, high, _ in points] + [(x(i), y(low)) for i, _, low, _, _ in reversed(points)], look.colour)
    canvas.line([(x(i), y(mean)) for i, mean, *_ in points], look.colour, 2, look.dash)
    for images, mean, low, high, seeds in points:
        canvas.mark(x(images), y(mean), look.marker, look.colour,
                    f"{band['method']} at {images:,} images: {say.significant(mean)} ({say.significant(low)} to {say.significant(high)}, {say.plural(seeds, 'seed')})", 2.6)


def _crossings(canvas: Canvas, x: Scale, y: float, report: Report, cell: str) -> None:
    odd = {run for failure in report["failures"] for run in failure["runs"]}
    shown = [r for r in report["runs"] if r["role"] == "paired" and r["run"] not in odd and r["method"] not in _withheld(report, cell)]
    for run in shown:
        if run["cell"] == cell and run["crossing"] and say.finite(run["crossing"]["images"]) and run["status"] == "complete":
            images = run["crossing"]["images"]
            canvas.mark(x(images), y, "tick", style(run["method"], report["arms"]).colour, f"{run['method']}, seed {run['seed']}: target at {images:,.0f} images", 7)


def pairs(report: Report) -> Panels:
    """The ratio of every single pair, a row per arm; and both runs of every pair, a row per seed."""
    for cell in report["cells"]:
        rows = [c for c in _shown(report, cell["cell"]) if c["pairs"]]
        if rows:
            yield cell["cell"], _pairs(report, cell["cell"], rows)
            yield f"{cell['cell']}, both runs of each pair", _both(report, cell, rows)


def _pairs(report: Report, cell: str, rows: Sequence[dict]) -> Canvas:
    tall = row_height((row["method"] for row in rows), ROW + 10)
    canvas = Canvas(WIDTH, tall * len(rows) + 58, f"ratio of images to target of every pair, {cell}")
    scale = around([p["ratio"] for c in rows for p in c["pairs"]] + [1 / SAME, SAME], LABELS, WIDTH - 12)
    bottom = 12 + tall * len(rows)
    canvas.bottom(scale, bottom, 8, scale.ticks(RATIOS), "images to target, baseline over arm", lambda t: f"{t:g}")
    canvas.line([(scale(1), bottom), (scale(1), 8)], INK, 1)
    for i, row in enumerate(rows):
        y, look = 12 + tall * (i + 0.5), style(row["method"], report["arms"])
        row_name(canvas, y, row["method"])
        for j, pair in enumerate(row["pairs"]):
            level = y + (j - (len(row["pairs"]) - 1) / 2) * min(4, 20 / len(row["pairs"]))
            canvas.mark(scale(pair["ratio"]), level, "circle", look.colour, _pair_tip(row, pair), 4.5,
                        hollow="censored" in (pair["baseline"]["status"], pair["arm"]["status"]))
    return canvas


def _both(report: Report, cell: dict, rows: Sequence[dict]) -> Canvas:
    """Images to target of baseline and arm, joined; hollow at the budget where it was not reached."""
    tall = [max(row_height([row["method"]]), SEED * len(row["pairs"]) + 10) for row in rows]
    canvas = Canvas(WIDTH, sum(tall) + 58, f"images to target of both runs of every pair, {cell['cell']}")
    at = [min(p[side]["images"] or cell["tau"], cell["tau"]) for row in rows for p in row["pairs"] for side in ("baseline", "arm")]
    scale, bottom = around([*at, cell["tau"]], LABELS, WIDTH - 12, 1.04), 12 + sum(tall)
    canvas.bottom(scale, bottom, 8, scale.ticks(decades(scale.low, scale.high)), f"images to target ({report['baseline']} black, arm coloured)")
    canvas.line([(scale(cell["tau"]), bottom), (scale(cell["tau"]), 8)], QUIET, 1, "2 3", f"budget: {cell['tau']:,} images")
    top = 12.0
    for row, height in zip(rows, tall, strict=True):
        row_name(canvas, top + height / 2, row["method"])
        for i, pair in enumerate(row["pairs"]):
            _pair(canvas, scale, top + height / 2 + SEED * (i - (len(row["pairs"]) - 1) / 2), pair, cell["tau"], style(row["method"], report["arms"]),
                  _pair_tip(row, pair))
        top += height
    return canvas


def _pair(canvas: Canvas, scale: Scale, y: float, pair: dict, tau: float, look: Style, tip: str) -> None:
    at = {side: scale(min(pair[side]["images"] or tau, tau)) for side in ("baseline", "arm")}
    canvas.line([(at["baseline"], y), (at["arm"], y)], look.colour, 1.5, tip=tip)
    for side, colour, shape in (("baseline", INK, "circle"), ("arm", look.colour, look.marker)):
        canvas.mark(at[side], y, shape, colour, tip, 3, hollow=pair[side]["status"] == "censored")


def _pair_tip(row: dict, pair: dict) -> str:
    def images(side: dict) -> str:
        return f"{side['images']:,.0f}" if say.finite(side["images"]) else "not reached"

    return f"{row['method']}, seed {pair['seed']}: {images(pair['baseline'])} → {images(pair['arm'])} images, {pair['ratio']:.2f}x"


def ladder(report: Report) -> Panels:
    """Speedup over the target ladder; nothing where the pilots' fit is flat, which is said."""
    for cell in report["cells"]:
        rows = [c for c in _shown(report, cell["cell"]) if any(say.finite(r["speedup"]) for r in c["ladder"])]
        if rows:
            yield cell["cell"], _ladder(report, cell["cell"], rows)


def _ladder(report: Report, cell: str, rows: Sequence[dict]) -> Canvas:
    canvas = Canvas(WIDTH, 300, f"speedup over the ladder of targets, {cell}")
    rungs = [r["fraction"] for r in rows[0]["ladder"]]
    ends = [v for c in rows for r in c["ladder"] for v in (r["low"], r["high"], r["speedup"]) if say.finite(v)]
    y = around([*ends, 1.0], 218, 8, 1.05)
    places = {fraction: 62 + (i + 0.5) * (WIDTH - 70) / len(rungs) for i, fraction in enumerate(rungs)}
    canvas.left(y, 62, WIDTH - 8, thin(y, RATIOS), "speedup", lambda t: f"{t:g}")
    canvas.line([(62, y(1)), (WIDTH - 8, y(1))], INK, 1)
    for fraction, at in places.items():
        canvas.text(at, 234, f"{fraction:.0%}", "middle", QUIET)
        if any(r["flat"] for r in rows[0]["ladder"] if r["fraction"] == fraction):
            canvas.text(at, y(1) - 6, "flat here", "middle", QUIET)
    canvas.text((62 + WIDTH - 8) / 2, 252, "target: what the pilots reach at this part of the budget", "middle")
    for i, row in enumerate(rows):
        look, shift = style(row["method"], report["arms"]), (i - (len(rows) - 1) / 2) * min(14, 60 / len(rows))
        for rung in row["ladder"]:
            if say.finite(rung["speedup"]) and not rung["flat"]:
                at, tip = places[rung["fraction"]] + shift, f"{row['method']}, {rung['fraction']:.0%}: {say.interval(rung)}"
                if say.finite(rung["low"]):
                    canvas.line([(at, y(rung["low"])), (at, y(rung["high"]))], look.colour, 2, tip=tip)
                canvas.mark(at, y(rung["speedup"]), look.marker, look.colour, tip)
    legend(canvas, [c["method"] for c in rows], report, 278)
    return canvas


def profile(report: Report) -> Panels:
    """Performance profile over cells and seeds."""
    steps = report["profile"]
    if not steps:
        return
    canvas = Canvas(WIDTH, 300, "performance profile")
    x = around([1.0, 1.3, *(r for s in steps for r in s["ratio"])], 62, WIDTH - 12, 1.0)
    x, y = Scale(1.0, x.high * 1.02, x.start, x.end), Scale(0.0, 1.0, 218, 8, linear=True)
    canvas.bottom(x, 218, 8, x.ticks(RATIOS), "images to target over the fewest of any method", lambda t: f"{t:g}")
    canvas.left(y, 62, WIDTH - 12, [0, 0.25, 0.5, 0.75, 1], "share of cells and seeds", lambda t: f"{t:.0%}")
    for step in steps:
        look, level, points = style(step["method"], report["arms"]), 0.0, [(x(1.0), y(0.0))]
        for ratio, share in zip(step["ratio"], step["share"], strict=True):
            points += [(x(ratio), y(level)), (x(ratio), y(share))]
            level = share
        canvas.line([*points, (x.end, y(level))], look.colour, 2, look.dash, f"{step['method']}: fewest in {_fewest(step):.0%} of {step['problems']}")
    legend(canvas, [s["method"] for s in steps], report, 272)
    yield "", canvas


def _fewest(step: dict) -> float:
    return max((share for ratio, share in zip(step["ratio"], step["share"], strict=True) if ratio <= 1 + 1e-9), default=0.0)


def _shown(report: Report, cell: str) -> list[dict]:
    return [c for c in report["comparisons"] if c["cell"] == cell and c["n"] and not c["withheld"]]
