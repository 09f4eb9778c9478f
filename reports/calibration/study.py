"""What is simulated, and how often intervals hold their truth, words are false, and plans keep their power."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reports.analysis import planning, verdicts
from reports.analysis.curves import Array
from reports.calibration import simulate
from reports.calibration.simulate import ARMS, CELLS, PILOTS, Mask, Setting, curves, intervals, isotonic, restricted

PAIRS = (3, 6, 12)
CLAIM = 1.5
PLANNED = [(cells, 0.05 / m, sd) for cells in (1, 2) for m in (1, 3) for sd in (0.1, 0.2)]


def settings() -> list[Setting]:
    """Every setting of settings.yaml with each of its speedups."""
    found = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text(encoding="utf-8"))
    speedups = [one.pop("speedups", (1, 1.5)) for one in found]
    return [Setting(speedup=x, **one) for one, those in zip(found, speedups, strict=True) for x in those]


def study(setting: Setting, repetitions: int, seed: int, truth_runs: int = 20_000) -> list[dict[str, Any]]:
    """A row for each number of pairs, a smaller suite being the first pairs of a larger one: `setting`, and shares.

    cell, pooled: coverage of the first cell's and of the pooled 95 % interval; false_m: suites of m arms with a false
    word; unusable: cells; missed_1, _2: the baseline's levels not reached, by cell; estimand: pooled, as a ratio.
    """
    rng = np.random.default_rng(seed)
    pilots = [curves(setting, setting.sd * setting.standard((repetitions, PILOTS), rng), rng) for _ in range(CELLS)]
    levels, usable = map(np.array, zip(*(simulate.bands(setting, those, rng) for those in pilots), strict=True))
    known = [simulate.estimand(setting, c, levels[c], truth_runs, rng) for c in range(CELLS)]
    times = np.empty((CELLS, 1 + ARMS, repetitions, max(PAIRS)))
    missed = np.empty_like(times)
    for c in range(CELLS):
        for side, logs in enumerate(simulate.pairs(setting, c, times.shape[2:], ARMS, rng)):
            values = restricted(isotonic(logs), setting.grid, levels[c])
            times[c, side], missed[c, side] = (x.mean(axis=-1) for x in values)
    keep = usable.any(axis=0)  # where both cells are unusable there is no pooled number
    d, truths = (times[:, :1] - times[:, 1:])[:, :, keep], np.array([truth for truth, _ in known])[:, keep]
    row = asdict(setting) | {"unusable": 1 - usable.mean(), "missed_1": known[0][1], "missed_2": known[1][1]}
    rates = [_rates(setting, d[..., :n], missed[:, :, keep, :n].mean(axis=-1), usable[:, keep], truths) for n in PAIRS]
    return [row | {"pairs": n} | rate for n, rate in zip(PAIRS, rates, strict=True)]


def is_false(word: str, truth: float) -> bool:
    """Whether a verdict, or a claim of 1.5x, is wrong of this log speedup."""
    clear, same, number = (math.log(x) for x in (verdicts.CLEAR, verdicts.SAME, CLAIM))
    right = {
        verdicts.FASTER: truth >= clear,
        verdicts.SLOWER: truth <= -clear,
        verdicts.EQUIVALENT: abs(truth) <= same,
        verdicts.STRONGER: truth > number,
        verdicts.WEAKER: clear <= truth < number,
        verdicts.SUPPORTED: truth >= clear,
        verdicts.CONTRADICTED: truth < clear,
        verdicts.EXCLUDED: truth < number,
    }
    return not right.get(word, True)


def power(cells: int, alpha: float, sd: float, repetitions: int, seed: int) -> dict[str, float]:
    """The power of both plans less what they promise with the sd known; and how often a plan from six pairs has .8.

    Simulated log ratios of cells with one standard deviation, known or estimated; then its upper 80 % limit is used.
    """
    rng, n = np.random.default_rng(seed), verdicts.VERDICT_PAIRS
    known = planning.plan([sd] * cells, [n] * cells, alpha)
    settle, rates = known.pairs_to_settle or n, []
    for count, shift in ((n, math.log(known.detectable)), (settle, 0.0)):
        d = shift + sd * rng.standard_normal((cells, 1, repetitions, count))
        mean, half = intervals(d, np.ones((cells, repetitions), dtype=bool), alpha)
        clear, same = mean - half > math.log(verdicts.CLEAR), np.abs(mean) + half <= math.log(verdicts.SAME)
        rates.append(float((clear if shift else same).mean()))
    sds = sd * np.sqrt(rng.chisquare(n - 1, (repetitions // 10, cells)) / (n - 1))
    plans = [planning.plan(row.tolist(), [n] * cells, alpha) for row in sds]
    return {
        "detectable": rates[0] - planning.POWER,
        "pairs to settle": rates[1] - planning.equivalence_power([sd] * cells, settle, alpha),
        "detectable, upper": float(np.mean([one.detectable_upper >= known.detectable for one in plans])),
        "pairs to settle, upper": float(np.mean([(one.pairs_to_settle_upper or math.inf) >= settle for one in plans])),
    }


def _rates(setting: Setting, d: Array, missed: Array, usable: Mask, truths: Array) -> dict[str, float]:
    """d (CELLS, ARMS, R, S); missed: shares of levels (CELLS, 1 + ARMS, R); truths: the cells' estimands (CELLS, R)."""
    n, estimand = d.shape[-1], (usable * truths).sum(axis=0) / usable.sum(axis=0)
    found = {"estimand": float(np.exp(estimand.mean()))}
    for key, cells, truth in (("cell", 1, truths[0]), ("pooled", CELLS, estimand)):
        mean, half = intervals(d[:cells], usable[:cells], planning.ALPHA)
        found[key] = float((np.abs(mean - truth) <= half)[np.isfinite(half)].mean())
    worst = np.where(usable[:, None], missed, 0.0).max(axis=0)
    truth = estimand if setting.failing else np.full(len(estimand), math.log(setting.speedup))
    for family in range(1, ARMS + 1) if n >= verdicts.VERDICT_PAIRS else ():
        half = intervals(d[:, :family], usable, planning.ALPHA / family)[1]
        low, high = np.exp(mean[:family] - half), np.exp(mean[:family] + half)
        wrong = [_wrong(low[a], high[a], n, worst[0], worst[1 + a], truth) for a in range(family)]
        found[f"false_{family}"] = float(np.any(wrong, axis=0).mean())
    return found


@np.vectorize
def _wrong(low: float, high: float, n: int, baseline: float, arm: float, truth: float) -> bool:
    """Whether the verdict, or the claim of 1.5x, is false; baseline and arm: their censored shares."""
    words = verdicts.verdict(low, high, n, (baseline, arm)), verdicts.claim(low, high, CLAIM, n, (baseline, arm))
    return any(is_false(word, truth) for word in words)
