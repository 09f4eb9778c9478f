"""How an arm looks: its colour, marker and dash, the same in every figure of every suite."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from reports.records.labels import bare
from reports.report.tree import FLOOR, NULL, PILOTS

INK = "#123456"  # stands for the page's ink while matplotlib draws
# Okabe and Ito's palette for the colour-blind, without its yellow, which white swallows.
GREY, BLUE, ORANGE, GREEN = "#8c8c8c", "#0072B2", "#E69F00", "#009E73"
RED, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
MARKERS, DASHES = ("o", "s", "^", "D"), ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Style:
    """How an arm looks, in every figure of every suite."""

    colour: str
    marker: str = "o"
    dash: str = "-"


STYLES = {NULL: Style(GREY, "D"), FLOOR: Style(GREY), PILOTS: Style(GREY, "o", ":")}
STYLES |= {"inv_sqrt2": Style(BLUE, "s"), "constant": Style(ORANGE, "^"), "learnable": Style(GREEN, "D")}
OTHERS = [Style(colour, marker, "-.") for marker in MARKERS for colour in (RED, PURPLE, SKY, BLUE, ORANGE, GREEN)]


def style(method: str, arms: Sequence[str] = (), baseline: str = "none") -> Style:
    """The style of an arm, ink for the baseline; arms of one method share its colour and differ in marker and dash."""
    name = bare(method)
    own = Style(INK) if name == bare(baseline) else STYLES.get(name) or OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]
    same = [arm for arm in arms if bare(arm) == name]
    step = same.index(method) if method in same else 0
    marker = MARKERS[(MARKERS.index(own.marker) + step) % len(MARKERS)]
    return Style(own.colour, marker, DASHES[(DASHES.index(own.dash) + step + step // len(MARKERS)) % len(DASHES)])
