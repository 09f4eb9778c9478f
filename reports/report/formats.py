"""Numbers as people read them, the same in tables, sentences and figures. What is not there is a dash."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from reports.analysis.verdicts import SHARES

DASH = "–"


def finite(value: Any) -> bool:
    """Whether there is a number to show."""
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: Any, form: str = ".2f") -> str:
    """A number in a form of Python's format language: 0.12; above 100, three digits are enough."""
    return f"{value:{form if abs(value) < 100 or form != '.2f' else '.3g'}}" if finite(value) else DASH


def ratio(value: Any) -> str:
    """1.23x."""
    return number(value) + "x" * finite(value)


def significant(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent where it can be helped."""
    if not finite(value) or value == 0 or not 1e-4 <= abs(value) < 1e6:
        return number(value, f".{digits}g")
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def interval(one: Any, unit: str = "x", form: str = ".2f") -> str:
    """1.23x [1.10, 1.38]; only what there is. one: an Interval, or anything with a speedup."""
    value = getattr(one, "value", getattr(one, "speedup", math.nan))
    ends = f" [{number(one.low, form)}, {number(one.high, form)}]" if finite(value) and finite(one.low) else ""
    return number(value, form) + unit * finite(value) + ends


def percent(value: Any, form: str = ".0f") -> str:
    """12 %."""
    return f"{100 * value:{form}} %" if finite(value) else DASH


def p(value: Any) -> str:
    """p values: three decimals, small ones as a limit."""
    return "< 0.001" if finite(value) and value < 0.001 else number(value, ".3f")


def count(value: Any) -> str:
    """1,234."""
    return number(value, ",.0f")


def compact(value: Any) -> str:
    """Three digits and a prefix: 250, 20.5k, 1.5M, 186G."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if finite(value) and abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return number(value, ".3g")


def scaled(word: str, scale: str) -> str:
    """A word, followed by "at mini scale" in a miniature suite."""
    return f"{word} at mini scale" if scale == "mini" and word not in ("", "not tested") else word


def levels(report: Any) -> str:
    """The level of the deciding intervals: 98.3 %; with looks 99.7 % after 6 pairs, 99.2 % after 24."""
    shares = SHARES.get(len(report.looks), ())
    each = [percent(1 - share * (1 - report.level), ".3g") for share in shares]
    said = ", ".join(f"{one} after {pairs}" for one, pairs in zip(each, report.looks, strict=True))
    return said.replace(",", " pairs,", 1) or percent(report.level, ".3g")


def slug(text: str) -> str:
    """A label as part of a file's name; a minus sign is told from a dash."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower().replace("=-", "-minus-")).strip("-")


def plural(n: int, what: str) -> str:
    """1 cell, 2 cells."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def seeds(numbers: Iterable[int]) -> str:
    """Which seeds, so that none reads as a count."""
    found = sorted(set(numbers))
    return f"seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}" if found else DASH


def progress(cell: Any) -> str:
    """How far the distance fell in a cell."""
    return f"{cell.cell}: progress: the distance at the end is {cell.progress:.2f} of that after a tenth of the budget"
