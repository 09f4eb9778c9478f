"""Numbers as people read them, the same in tables, sentences and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reports.stats import Interval
from reports.words import NO_HEADLINE, NOT_TESTED

DASH = "–"
BOUNDS = {">=": "≥ ", "<=": "≤ ", "mixed": "~ ", "": ""}


def finite(value: Any) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def ratio(value: Any) -> str:
    """1.23x, or a dash."""
    return f"{value:.2f}x" if finite(value) else DASH


def significant(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent where it can be helped, or a dash."""
    if not finite(value):
        return DASH
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def prefixed(value: Any) -> str:
    """A large number with a prefix: 186G."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if finite(value) and abs(value) >= size:
            return f"{significant(value / size)}{unit}"
    return significant(value)


def interval(row: Interval | Mapping[str, Any], bound: str | None = None) -> str:
    """≥ 1.23x [1.10, 1.38]; only what there is. row: an estimate, or anything with a speedup."""
    row = vars(row) if isinstance(row, Interval) else row
    value = row["value"] if "value" in row else row.get("speedup")
    ends = f" [{row['low']:.2f}, {row['high']:.2f}]" if finite(row.get("low")) and finite(row.get("high")) else ""
    return f"{BOUNDS[row.get('bound', '') if bound is None else bound] if finite(value) else ''}{ratio(value)}{ends}"


def spread(row: Mapping[str, Any], digits: int = 3) -> str:
    """A difference with its sign and interval: -0.12 [-0.20, -0.04]."""
    if not finite(row["value"]):
        return DASH
    ends = f" [{significant(row['low'], digits)}, {significant(row['high'], digits)}]" if finite(row["low"]) else ""
    return f"{'+' if row['value'] > 0 else ''}{significant(row['value'], digits)}{ends}"


def p(value: Any) -> str:
    """p values: three decimals, small ones as a limit."""
    return DASH if not finite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: Any) -> str:
    """1,234, or a dash."""
    return f"{value:,.0f}" if finite(value) else DASH


def digest(value: Any) -> str:
    """The first twelve digits of a hash."""
    return str(value)[:12] if value else DASH


def hours(value: float) -> str:
    """A time spent, in the unit that fits."""
    return f"{value:,.1f} h" if value >= 1 else f"{60 * value:.1f} min"


def scaled(word: str, scale: str) -> str:
    """A word, followed by "at mini scale" in a miniature suite."""
    return f"{word} at mini scale" if scale == "mini" and word not in ("", NO_HEADLINE, NOT_TESTED) else word


def plural(n: int, what: str) -> str:
    """1 cell, 2 cells."""
    return f"{n} {what}{'' if n == 1 else 's'}"
