"""The words, rule by rule."""

import math

import pytest

from reports.words import claim, word

NAN = math.nan


@pytest.mark.parametrize(("arguments", "expected"), [
    ((1.1, 1.3, 0.01, 6), "faster"), ((1.1, 1.3, 0.06, 6), "inconclusive"), ((0.7, 0.9, 0.01, 6), "slower"),
    ((1.01, 1.3, 0.01, 6), "inconclusive"), ((1.02, 1.3, 0.01, 6), "inconclusive"), ((1.03, 1.09, 0.01, 6), "faster"),
    ((0.95, 1.05, 0.9, 6), "no detectable difference"), ((1 / 1.1, 1.1, 0.9, 6), "no detectable difference"),
    ((1.03, 1.09, 0.06, 6), "no detectable difference"), ((0.95, 1.05, 0.9, 6, ">="), "inconclusive"),
    ((1.1, 1.3, 0.01, 6, ">="), "faster"), ((1.1, 1.3, 0.01, 6, "<="), "inconclusive"),
    ((0.7, 0.9, 0.01, 6, ">="), "inconclusive"), ((0.7, 0.9, 0.01, 6, "<="), "slower"),
    ((1.1, 1.3, 0.01, 6, "mixed"), "inconclusive"), ((NAN, NAN, NAN, 6), "inconclusive"),
    ((1.1, 1.3, 0.01, 5), "preliminary"), ((1.1, 1.3, 0.01, 3), "preliminary"), ((1.1, 1.3, 0.01, 2), "points only"),
])
def test_words(arguments, expected):
    assert word(*arguments) == expected


@pytest.mark.parametrize(("arguments", "expected"), [
    ((1.3, 1.7), "supported"), ((1.6, 1.9), "stronger"), ((1.1, 1.3), "weaker"), ((0.8, 1.01), "contradicted"),
    ((0.9, 1.6), "inconclusive"), ((NAN, NAN), "inconclusive"), ((1.6, 1.9, ">="), "stronger"),
    ((1.3, 1.7, ">="), "inconclusive"), ((0.8, 1.01, ">="), "inconclusive"), ((0.8, 1.01, "<="), "contradicted"),
    ((1.3, 1.7, "<="), "inconclusive"), ((1.6, 1.9, "mixed"), "inconclusive"),
])
def test_claims(arguments, expected):
    assert claim(*arguments[:2], 1.5, *arguments[2:]) == expected
