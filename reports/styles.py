"""How a method looks: the same colour everywhere, in every figure of every suite, told apart without colours too."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from reports.records.labels import bare

# Okabe and Ito's palette for the colour-blind, without its yellow, which white swallows.
BLACK, GREY, BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#000000", "#8c8c8c", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("circle", "square", "triangle", "diamond")
DASHES = ("", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Style:
    """Colour, marker and dash of a method."""

    colour: str
    marker: str = "circle"
    dash: str = ""


METHODS = {
    "none": Style(BLACK), "A/A": Style(GREY, "diamond"), "pilots": Style(GREY, "circle", "2 3"),
    "inv_sqrt2": Style(BLUE, "square"), "constant": Style(ORANGE, "triangle"), "learnable": Style(GREEN, "diamond"),
    "learnable_per_skip": Style(RED, "diamond", "7 3"), "constant_reversed": Style(PURPLE, "triangle", "7 3"), "no_skip": Style(SKY, "square", "7 3"),
    "residual_inv_sqrt2": Style(SKY, "circle"), "mp_cat": Style(RED, "square"), "norm_cat": Style(PURPLE, "circle"),
    "scalar": Style(BLUE, "circle", "2 3"), "sigmoid_scalar": Style(ORANGE, "circle", "2 3"), "rezero": Style(GREEN, "circle", "2 3"),
    "layerscale": Style(RED, "circle", "2 3"), "skip_tuning": Style(PURPLE, "square", "2 3"), "freeu": Style(SKY, "triangle", "2 3"),
}
OTHERS = [Style(colour, marker, "9 3 2 3") for marker in MARKERS for colour in (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)]


def style(method: str, arms: Sequence[str] = ()) -> Style:
    """The style of an arm; arms of one method share its colour and differ in marker and dash."""
    name = bare(method)
    own = METHODS.get(name) or OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]
    same = [arm for arm in arms if bare(arm) == name]
    step = same.index(method) if method in same else 0
    if not step:
        return own
    return Style(own.colour, MARKERS[(MARKERS.index(own.marker) + step) % len(MARKERS)],
                 DASHES[(DASHES.index(own.dash) + step + step // len(MARKERS)) % len(DASHES)])
