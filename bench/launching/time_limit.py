"""Time limits as SLURM reads them, and in words."""

from __future__ import annotations

import math
import re

FORMS = "MINUTES, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


def minutes(text: object) -> int:
    """Whole minutes, rounded up as SLURM does; ValueError, one line, for none, and for what is not of its forms."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", str(text), re.ASCII)
    parts = [int(part) for part in found[2].split(":")] if found else []
    if found and not found[1] and len(parts) < 3:
        parts = [0, *parts]  # the first of them are minutes
    days, hours, mins, seconds = [int(found[1] or 0) if found else 0, *parts, 0, 0, 0][:4]
    if not (total := math.ceil((days * 24 + hours) * 60 + mins + seconds / 60)):
        raise ValueError(f"{str(text)!r} is no time limit; give {FORMS}")
    return total


def words(limit: int) -> str:
    """So many minutes in days, hours and minutes."""
    amounts = {"day": limit // 1440, "hour": limit // 60 % 24, "minute": limit % 60}
    return " ".join(f"{amount} {unit}{'s' * (amount != 1)}" for unit, amount in amounts.items() if amount)
