"""A small canvas for vector figures: scales with readable ticks, marks that tell their number when hovered, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, QUIET, GRID, SHADE = "#1a1a1a", "#555555", "#e2e2e2", "#f1f1f1"
FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:13px"
RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)  # ticks of a ratio's axis
LEAST_GAP = 34  # between the labels of ticks, px


@dataclass(frozen=True)
class Scale:
    """From numbers in [low, high] to pixels in [start, end], by their logarithm unless linear."""

    low: float
    high: float
    start: float
    end: float
    linear: bool = False

    def __call__(self, value: float) -> float:
        to = float if self.linear else math.log
        span = to(self.high) - to(self.low)
        return self.start + (to(min(max(value, self.low), self.high)) - to(self.low)) / span * (self.end - self.start)

    def ticks(self, candidates: Sequence[float]) -> list[float]:
        """The candidates inside, thinned until their labels do not touch; 1 is kept, if it is there."""
        inside = [c for c in candidates if self.low <= c <= self.high]
        kept: list[float] = [1] if 1 in inside else inside[:1]
        for value in sorted(inside, key=lambda c: abs(self(c) - self(kept[0])) if kept else 0):
            if all(abs(self(value) - self(other)) >= LEAST_GAP for other in kept):
                kept.append(value)
        return sorted(kept)


def around(values: Sequence[float], start: float, end: float, pad: float = 1.08, linear: bool = False) -> Scale:
    """A log scale that holds all values with some room; never empty."""
    low, high = min(values), max(values)
    return Scale(low / pad, high * pad, start, end, linear)


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten; where they are fewer than three, every half step in between too."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**k for k in powers for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    if len(found) >= 3:
        return found
    return [m * 10.0**k for k in powers for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9) if low <= m * 10.0**k <= high]


def compact(value: float) -> str:
    """A tick's label: 250, 20k, 1.5M, 5e-4."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    if value >= 1e-3 or not value:
        return f"{value:g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


@dataclass
class Canvas:
    """An SVG under construction; coordinates in pixels from the upper left corner."""

    width: float
    height: float
    label: str  # what it shows, for those who cannot see it
    parts: list[str] = field(default_factory=list)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 2, dash: str = "", tip: str = "") -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._add("polyline", f'points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashed}', tip)

    def area(self, points: Sequence[tuple[float, float]], colour: str, opacity: float = 0.16) -> None:
        """A filled polygon."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polygon", f'points="{path}" fill="{colour}" fill-opacity="{opacity}"', "")

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._add("rect", f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"', "")

    def mark(self, x: float, y: float, shape: str, colour: str, tip: str = "", size: float = 5, hollow: bool = False) -> None:
        """A point: circle, diamond, square, triangle or tick."""
        style = f'fill="#ffffff" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}"'
        if shape == "tick":
            self._add("rect", f'x="{x - 1:.1f}" y="{y - size:.1f}" width="2" height="{2 * size:.1f}" {style}', tip)
        elif shape == "circle":
            self._add("circle", f'cx="{x:.1f}" cy="{y:.1f}" r="{size}" {style}', tip)
        else:
            corners = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in SHAPES[shape])
            self._add("polygon", f'points="{corners}" {style}', tip)

    def text(self, x: float, y: float, words: str, anchor: str = "start", colour: str = INK, bold: bool = False, turn: bool = False) -> None:
        """A line of text with its baseline at y; anchor: start, middle or end; turn: reading upwards."""
        more = (' font-weight="600"' if bold else "") + (f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else "")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{escape(words)}</text>')

    def bottom(self, scale: Scale, y: float, top: float, ticks: Sequence[float], label: str, show: Callable[[float], str] = compact) -> None:
        """A horizontal axis at y with lines up to `top`."""
        for tick in ticks:
            self.line([(scale(tick), y), (scale(tick), top)], GRID, 1)
            self.text(scale(tick), y + 16, show(tick), "middle", QUIET)
        self.line([(scale.start, y), (scale.end, y)], QUIET, 1)
        self.text((scale.start + scale.end) / 2, y + 34, label, "middle")

    def left(self, scale: Scale, x: float, right: float, ticks: Sequence[float], label: str, show: Callable[[float], str] = compact) -> None:
        """A vertical axis at x with lines over to `right`."""
        for tick in ticks:
            self.line([(x, scale(tick)), (right, scale(tick))], GRID, 1)
            self.text(x - 6, scale(tick) + 4, show(tick), "end", QUIET)
        self.line([(x, scale.start), (x, scale.end)], QUIET, 1)
        self.text(14, (scale.start + scale.end) / 2, label, "middle", turn=True)

    def render(self) -> str:
        """The SVG element, complete in itself."""
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" '
                f'height="{self.height:g}" role="img" aria-label="{escape(self.label)}" style="{FONT}">')
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"

    def _add(self, element: str, attributes: str, tip: str) -> None:
        self.parts.append(f"<{element} {attributes}><title>{escape(tip)}</title></{element}>" if tip else f"<{element} {attributes}/>")


SHAPES = {
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
}
