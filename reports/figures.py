"""The figures of a report, each made from report.json: a panel per cell, so that a narrow screen shows them at full size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reports import speed_figures as speed, stability_figures as stability
from reports.panels import Panels, Report

DRAWN: dict[str, Callable[[Report], Panels]] = {
    "speedup": speed.speedup, "ladder": speed.ladder, "curves": speed.curves, "pairs": speed.pairs, "profile": speed.profile, "aa": speed.null,
    "norms": stability.norms, "gradients": stability.gradients, "blocks": stability.blocks, "gradient-blocks": stability.gradient_blocks,
    "shares": stability.shares, "growth": stability.growth, "response": stability.response, "gates": stability.gates,
}


@dataclass(frozen=True)
class Figure:
    """name: of its file; group: the section of the page it belongs to; title: above it."""

    name: str
    group: str
    title: str
    svg: str


def figures(report: Report) -> list[Figure]:
    """All figures that there is something to draw for."""
    found: list[Figure] = []
    for group, draw in DRAWN.items():
        for title, canvas in draw(report):
            slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
            found.append(Figure(f"{group}-{slug}" if slug else group, group, title, canvas.render()))
    return found
