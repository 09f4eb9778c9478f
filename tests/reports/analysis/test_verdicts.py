"""The two partitions, their guard against censoring, and what every sentence says."""

from __future__ import annotations

import math

import pytest
from power_law import BAND, TAU, with_interval

from reports.analysis.comparisons import compare
from reports.analysis.verdicts import claim, sentence, verdict

VERDICTS = {
    (1.03, 1.5): "faster",
    (1.021, 1.09): "faster",
    (0.5, 0.97): "slower",
    (0.92, 1.09): "equivalent",
    (0.985, 1.02): "equivalent",
    (0.79, 1.16): "inconclusive",
    (1.01, 1.3): "inconclusive",
}
CLAIMS = {
    (1.6, 2.0): "stronger",
    (1.1, 1.4): "weaker",
    (1.1, 1.8): "supported",
    (0.8, 1.01): "contradicted",
    (0.79, 1.16): "excluded",
    (0.9, 1.6): "inconclusive",
}


@pytest.mark.parametrize(("interval", "word"), VERDICTS.items())
def test_the_verdict_of_an_interval(interval: tuple[float, float], word: str) -> None:
    assert verdict(*interval, 6) == word
    guarded = "inconclusive: budget too short" if word == "equivalent" else word
    assert verdict(*interval, 6, (0.3, 0.0)) == verdict(*interval, 6, (0.0, 0.3)) == guarded
    assert verdict(*interval, 6, (0.2, 0.2)) == word


@pytest.mark.parametrize(("interval", "word"), CLAIMS.items())
def test_the_verdict_of_a_claim_of_one_and_a_half(interval: tuple[float, float], word: str) -> None:
    assert claim(*interval, 1.5, 6) == claim(*interval, 1.5, 6, (0.2, 0.9)) == word
    guarded = word if word in ("stronger", "supported", "inconclusive") else "inconclusive: budget too short"
    assert claim(*interval, 1.5, 6, (0.3, 0.0)) == guarded


def test_an_interval_that_holds_no_claimed_speedup_excludes_it_unless_the_budget_was_too_short() -> None:
    found = compare(*with_interval(0.79, 1.16), BAND, TAU)
    assert (found.low, found.high) == pytest.approx((0.79, 1.16), abs=0.005)
    word = claim(found.low, found.high, 1.5, found.n, found.censored)
    assert word == "excluded" and sentence(word, found.low, found.high, 1.5).startswith("1.5x is excluded")
    short = claim(found.low, found.high, 1.5, found.n, (0.3, 0.0))
    assert short == "inconclusive: budget too short"
    assert sentence(short, found.low, found.high, 1.5).startswith("The budget was too short")


@pytest.mark.parametrize(("pairs", "word"), [(0, "not tested"), (2, "points only"), (5, "preliminary")])
def test_few_pairs_get_no_verdict(pairs: int, word: str) -> None:
    assert verdict(1.2, 1.4, pairs) == claim(1.2, 1.4, 1.5, pairs) == word
    assert sentence(word, 1.2, 1.4)


def test_pairs_that_do_not_vary() -> None:
    assert verdict(math.nan, math.nan, 6) == claim(math.nan, math.nan, 1.5, 6) == "no variance"


@pytest.mark.parametrize("word", sorted({*VERDICTS.values(), *CLAIMS.values(), "preliminary"}))
def test_every_sentence_says_what_the_interval_excludes(word: str) -> None:
    assert "excludes speedups below 0.79x and above 1.16x" in sentence(word, 0.79, 1.16, 1.5)


def test_a_claim_needs_a_number_that_differs_from_equivalence() -> None:
    with pytest.raises(ValueError, match=r"number: 1\.05 must be above 1\.1"):
        claim(1.0, 1.2, 1.05, 6)
