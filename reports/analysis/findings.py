"""Where the study found intervals or words less reliable than they say; a report names it where its pairs look so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.analysis.comparisons import Comparison

CENSORED, UNEQUAL = 0.5, 2.5  # signs: share of levels not reached; ratio of the sides' standard deviations of L


@dataclass(frozen=True)
class Finding:
    """A kind of suite, within which limits its 95 % intervals hold the truth, and how many say something false."""

    key: str  # in settings.yaml
    name: str
    coverage: tuple[float, float]
    false: float

    @property
    def sentence(self) -> str:
        """What a report says where its own pairs look like this."""
        low, high, false = (f"{100 * x:.0f}" for x in (*self.coverage, self.false))
        held = f"95 % intervals hold the truth in {low} to {high} %, and up to {false} % of suites say something false"
        return f"These pairs look like simulated ones in which {self.name}: there {held}."


FAILING = Finding("failing", "an arm fails in some seeds", (0.84, 0.97), 0.05)
SHORT = Finding("short", "most levels are not reached", (0.90, 0.97), 0.05)
SPREAD = Finding("spread", "one side spreads three times as much as the other", (0.93, 0.97), 0.07)
FINDINGS = (FAILING, SHORT, SPREAD)


def resembles(comparison: Comparison) -> list[Finding]:
    """The findings whose simulated suites a comparison looks like."""
    failed = comparison.levels[0].censored[1]  # runs that did not reach even the band's top
    sides = np.array([[pair.baseline, pair.arm] for pair in comparison.pairs])
    low, high = sorted(sides.std(axis=0)) if comparison.n > 2 else (1.0, 1.0)
    signs = (0 < failed < comparison.n, max(comparison.censored) > CENSORED, high > UNEQUAL * low)
    return [finding for finding, seen in zip(FINDINGS, signs, strict=True) if seen]
