"""The figures of what probes measured: norms over training and per block, growth with depth, responses and gates."""

from __future__ import annotations

from collections.abc import Callable

from reports import formats as say
from reports.panels import LINE, WIDTH, Panels, Report, legend, names, thin
from reports.styles import OTHERS, style
from reports.svg import QUIET, Canvas, Scale, around, decades


def norms(report: Report) -> Panels:
    """The feature norm over training with its band: the paper's figure 1."""
    yield from _over_training(report, "feature", "norm of a hidden feature")


def gradients(report: Report) -> Panels:
    """The gradient's norm over training."""
    yield from _over_training(report, "gradient", "norm of the gradient")


def _over_training(report: Report, name: str, label: str) -> Panels:
    series = (report["stability"] or {}).get("series", [])
    for cell in dict.fromkeys(s["cell"] for s in series):
        those = [s for s in series if s["cell"] == cell]
        canvas = Canvas(WIDTH, 350, f"{label} over training images, {cell}")
        x = Scale(0, max(max(s["images"]) for s in those), 62, WIDTH - 34, linear=True)
        y = around([v for s in those for end in ("low", "high") for v in s[name][end]], 268, 8, 1.05)
        canvas.bottom(x, 268, 8, [x.high * k / 4 for k in range(5)], "training images", lambda t: f"{t:,.0f}")
        canvas.left(y, 62, WIDTH - 34, thin(y, decades(y.low, y.high)), label)
        for s in those:
            look, points = style(s["method"], report["arms"]), list(zip(s["images"], *(s[name][k] for k in ("mean", "low", "high")), strict=True))
            canvas.area([(x(i), y(high)) for i, _, _, high in points] + [(x(i), y(low)) for i, _, low, _ in reversed(points)], look.colour)
            canvas.line([(x(i), y(mean)) for i, mean, _, _ in points], look.colour, 2, look.dash)
            for i, mean, low, high in points[::8]:
                canvas.mark(x(i), y(mean), look.marker, look.colour,
                            f"{s['method']} at {i:,} images: {say.significant(mean)} ({say.significant(low)} to {say.significant(high)})", 3)
        legend(canvas, [s["method"] for s in those], report, 322)
        yield cell, canvas


def blocks(report: Report) -> Panels:
    """The feature norm of every decoder block, its oscillation as a bar."""
    yield from _per_block(report, "feature", "norm of a hidden feature", "decoder block, 1 the shallowest", lambda values, n: values)


def gradient_blocks(report: Report) -> Panels:
    """The gradient's norm of every block, in the order of computation."""
    yield from _per_block(report, "gradient", "norm of the gradient", "blocks as computed: encoder, middle, decoder",
                          lambda values, n: values[:-n] + values[-n:][::-1])


def _per_block(report: Report, name: str, label: str, below: str, order: Callable[[list[float], int], list[float]]) -> Panels:
    rows = [r for r in (report["stability"] or {}).get("rows", []) if r["blocks"][name]["norm"]]
    for cell in dict.fromkeys(r["cell"] for r in rows):
        those = [(r["method"], *(order(r["blocks"][name][key], r["skips"]) for key in ("norm", "oscillation"))) for r in rows if r["cell"] == cell]
        canvas = Canvas(WIDTH, 350, f"{label} of every block, {cell}")
        count = len(those[0][1])
        x = Scale(0.5, count + 0.5, 62, WIDTH - 16, linear=True)
        y = around([v for _, norms, bands in those for n, b in zip(norms, bands, strict=True) for v in (n / 2, n + b)], 268, 8, 1.05)
        canvas.bottom(x, 268, 8, range(1, count + 1, 1 + count // 16), below, lambda t: f"{t:g}")
        canvas.left(y, 62, WIDTH - 16, thin(y, decades(y.low, y.high)), label)
        for i, (method, norms, bands) in enumerate(those):
            look, shift = style(method, report["arms"]), (i - (len(those) - 1) / 2) * 0.08
            canvas.line([(x(k + shift), y(n)) for k, n in enumerate(norms, 1)], look.colour, 1, look.dash)
            for k, (n, b) in enumerate(zip(norms, bands, strict=True), 1):
                canvas.line([(x(k + shift), y(n - b)), (x(k + shift), y(n + b))], look.colour, 2)  # down to the axis at most
                canvas.mark(x(k + shift), y(n), look.marker, look.colour, f"{method}, block {k}: {say.significant(n)}, oscillation {say.significant(b)}", 3)
        legend(canvas, [method for method, *_ in those], report, 322)
        yield cell, canvas


def shares(report: Report) -> Panels:
    """How much of a decoder block's output its skip makes, skip by skip."""
    rows = [r for r in (report["stability"] or {}).get("rows", []) if r["shares"]]
    for cell in dict.fromkeys(r["cell"] for r in rows):
        those = [r for r in rows if r["cell"] == cell]
        canvas = Canvas(WIDTH, 350, f"share of the skip in each decoder block, {cell}")
        count = len(those[0]["shares"])
        x, y = Scale(0.5, count + 0.5, 62, WIDTH - 16, linear=True), Scale(0, max(1.0, *(v for r in those for v in r["shares"])), 268, 8, linear=True)
        canvas.bottom(x, 268, 8, range(1, count + 1, 1 + count // 16), "skip, 1 the shallowest", lambda t: f"{t:g}")
        canvas.left(y, 62, WIDTH - 16, [0, 0.25, 0.5, 0.75, 1], "share", lambda t: f"{t:.0%}")
        for r in those:
            look = style(r["method"], report["arms"])
            canvas.line([(x(k), y(v)) for k, v in enumerate(r["shares"], 1)], look.colour, 1, look.dash)
            for k, v in enumerate(r["shares"], 1):
                canvas.mark(x(k), y(v), look.marker, look.colour, f"{r['method']}, skip {k}: {v:.0%}", 3)
        legend(canvas, [r["method"] for r in those], report, 322)
        yield cell, canvas


def growth(report: Report) -> Panels:
    """The feature norm over the number of long skips, per family of backbones."""
    found = (report["stability"] or {}).get("growth", [])
    for family in dict.fromkeys(g["family"] for g in found):
        those = [g for g in found if g["family"] == family]
        start = [g | g["start"] | {"points": g["start_points"]} for g in those if g["start_points"]]
        if start:
            yield f"{family}, at the start", _grown(report, start, f"{family}, at the start")
        yield family, _grown(report, those, family)


def _grown(report: Report, those: list[dict], name: str) -> Canvas:
    points = [point for g in those for point in g["points"]]
    canvas = Canvas(WIDTH, 350, f"feature norm over the number of long skips, {name}")
    x, y = around([n for n, _ in points], 62, WIDTH - 16, 1.1), around([v for _, v in points], 268, 8, 1.1)
    canvas.bottom(x, 268, 8, sorted({n for n, _ in points}), "long skips")
    canvas.left(y, 62, WIDTH - 16, thin(y, decades(y.low, y.high)), "feature norm")
    for g in those:
        look = style(g["method"], report["arms"])
        canvas.line([(x(n), y(v)) for n, v in g["points"]], look.colour, 2, look.dash)
        for n, v in g["points"]:
            canvas.mark(x(n), y(v), look.marker, look.colour, f"{g['method']}, {n} skips: {say.significant(v)}; exponent {g['exponent']:.2f}", 4)
    legend(canvas, [g["method"] for g in those], report, 322)
    return canvas


def response(report: Report) -> Panels:
    """The response to a small change of the input over the level of noise: worst direction with its band, and a random one, hollow."""
    found = (report["stability"] or {}).get("response", [])
    for cell in dict.fromkeys(r["cell"] for r in found):
        those = [r for r in found if r["cell"] == cell]
        canvas = Canvas(WIDTH, 350, f"response to a perturbed input, {cell}")
        x = Scale(0, 1, 62, WIDTH - 16, linear=True)
        y = around([r[kind] for r in those for kind in ("random", "worst_low", "worst_high")], 268, 8, 1.1)
        canvas.bottom(x, 268, 8, sorted({r["t"] for r in those}), "diffusion time t", lambda t: f"{t:g}")
        canvas.left(y, 62, WIDTH - 16, thin(y, decades(y.low, y.high)), "|f(x+d) - f(x)| / |d|")
        methods = list(dict.fromkeys(r["method"] for r in those))
        for method in methods:
            look, mine = style(method, report["arms"]), [r for r in those if r["method"] == method]
            canvas.area([(x(r["t"]), y(r["worst_high"])) for r in mine] + [(x(r["t"]), y(r["worst_low"])) for r in reversed(mine)], look.colour)
            canvas.line([(x(r["t"]), y(r["worst"])) for r in mine], look.colour, 2, look.dash)
            canvas.line([(x(r["t"]), y(r["random"])) for r in mine], look.colour, 1, look.dash)
            for r in mine:
                tip = (f"{method} at t = {r['t']:g}: worst {say.significant(r['worst'])} ({say.significant(r['worst_low'])} to "
                       f"{say.significant(r['worst_high'])}), random {say.significant(r['random'])}")
                canvas.mark(x(r["t"]), y(r["worst"]), look.marker, look.colour, tip, 4)
                canvas.mark(x(r["t"]), y(r["random"]), look.marker, look.colour, tip, 4, hollow=True)
        legend(canvas, methods, report, 322)
        canvas.height += LINE + 6
        canvas.text(62, canvas.height - 8, "filled: the worst direction; hollow: a random one", colour=QUIET)
        yield cell, canvas


def gates(report: Report) -> Panels:
    """The learnt gates over training, a line per skip."""
    found = (report["stability"] or {}).get("gates", [])
    for cell, method in dict.fromkeys((g["cell"], g["method"]) for g in found):
        those = [g for g in found if (g["cell"], g["method"]) == (cell, method)]
        canvas = Canvas(WIDTH, 350, f"gates of {method} over training images, {cell}")
        x, y = Scale(0, max(those[0]["images"]), 62, WIDTH - 34, linear=True), Scale(0, 1, 268, 8, linear=True)
        canvas.bottom(x, 268, 8, [x.high * k / 4 for k in range(5)], "training images", lambda t: f"{t:,.0f}")
        canvas.left(y, 62, WIDTH - 34, [0, 0.25, 0.5, 0.75, 1], "gate")
        looks = {f"skip {g['skip']}": OTHERS[i % len(OTHERS)] for i, g in enumerate(those)}
        for g, (name, look) in zip(those, looks.items(), strict=True):
            points = list(zip(g["images"], g["low"], g["middle"], g["high"], strict=True))
            canvas.area([(x(i), y(high)) for i, _, _, high in points] + [(x(i), y(low)) for i, low, _, _ in reversed(points)], look.colour)
            canvas.line([(x(i), y(middle)) for i, _, middle, _ in points], look.colour, 2, look.dash)
            for i, low, middle, high in points:
                canvas.mark(x(i), y(middle), look.marker, look.colour,
                            f"{method}, {name} at {i:,} images: median {middle:.2f} ({low:.2f} to {high:.2f})", 3)
        names(canvas, looks, 322)
        yield f"{cell}-{method}", canvas
