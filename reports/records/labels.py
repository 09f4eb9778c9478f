"""Labels of arms: a method, and what else an arm changes. `constant(kappa=0.7)`, or with twice the learning rate
`constant(kappa=0.7) @ lr 2`.
"""

from __future__ import annotations

import math
import re

FORM = re.compile(r"\s*(?P<method>[^@]*?)\s*(@\s*lr\s+(?P<factor>(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*)?", re.IGNORECASE)


def split(text: str) -> tuple[str, float]:
    """(method, factor on the learning rate) of an arm's text; ValueError, one line, if it has another form."""
    match = FORM.fullmatch(text)
    factor = float(match["factor"] or 1) if match else 0.0
    if match is None or not 0 < factor < math.inf:
        raise ValueError(f"{text!r} is not of the form METHOD or METHOD @ lr FACTOR, the factor a number above 0")
    return match["method"], factor


def join(method: str, factor: float) -> str:
    """The label: `split` turned round; a factor of 1 is left out."""
    return method if factor == 1 else f"{method} @ lr {factor:g}"


def scaled(rate: float, factor: float) -> float:
    """A learning rate times a factor, to twelve digits: 3e-4 * 3 is 9e-4, and divided by 3 it is 3e-4 again."""
    return float(f"{rate * factor:.12g}")


def read(label: str) -> tuple[str, float]:
    """`split` for labels of records, which may come from anywhere: one of another form is all method."""
    try:
        return split(label)
    except ValueError:
        return label, 1.0


def bare(label: str) -> str:
    """The name of an arm's method, without parameters and factor."""
    return read(label)[0].partition("(")[0]
