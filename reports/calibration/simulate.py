"""Simulated suites, thousands at a time: how often intervals hold their truth, words are false, and plans keep power.

Distances and images are logs. R repetitions, S runs of one side, E evaluations, K levels of the band. What the report
computes for one suite at a time is computed here on arrays.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from reports.analysis import planning, verdicts
from reports.analysis.bands import BOTTOM, LEVELS, NARROWEST, TOP
from reports.analysis.curves import TIE, Array, cross

SLOPE = 0.5  # the distance falls as images^-SLOPE and is 1 at the budget for a run of log time 0
MEMORY = 0.3  # log images over which a run's own fluctuation is correlated
PILOTS, CELLS, ARMS = 3, 2, 4
REPEATS = 4  # evaluations of a pilot's last weights
NEVER = 50.0  # log time of a run that fails
PAIRS = (3, 6, 12)
CLAIM = 1.5
LOOKS = (6, 12, 24)
# Suites with looks; the pairs of `quick` are correlated by .79 to .99, and its null arm's by about 0.
SEQUENTIAL = [("pairs as in quick", 0.9), ("pairs that differ more", 0.3)]
PLANNED = [(cells, 0.05 / m, sd) for cells in (1, 2) for m in (1, 3) for sd in (0.1, 0.2)]

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """One kind of suite: two cells, up to four arms of one true speedup. finding: what is known to go wrong in it."""

    name: str
    speedup: float = 1.0
    skewed: bool = False  # log times: chi-square with four degrees of freedom, skewness 1.4; else normal
    sd: float = 0.15  # of the baseline's log times over seeds
    arm_sd: float = 0.15
    correlation: float = 0.3  # of log times within pairs
    drift: float = 0.03  # sd of a run's own fluctuation of log distance, which neighbouring evaluations share
    noise: float = 0.02  # sd of one evaluation's log distance
    evaluations: int = 30
    late: float = 1.0  # images that the pairs of a cell need, over those of its pilots
    late_cells: int = CELLS  # cells in which pairs are late
    failing: float = 0.0  # share of an arm's runs that never come down
    finding: str = ""

    @property
    def grid(self) -> Array:
        """Log images of the evaluations (E,), from a tenth of the budget to 0, the budget."""
        return np.linspace(math.log(0.1), 0.0, self.evaluations)

    def standard(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Numbers of mean 0 and variance 1, distributed as log times over seeds."""
        return (rng.chisquare(4, shape) - 4) / math.sqrt(8) if self.skewed else rng.standard_normal(shape)


def curves(setting: Setting, times: Array, rng: np.random.Generator) -> Array:
    """Log distances (..., E) of runs with log times (...), with fluctuation and noise."""
    grid = setting.grid
    keep = math.exp((grid[0] - grid[1]) / MEMORY)
    drift, noise = rng.standard_normal((2, *times.shape, len(grid)))
    for k in range(1, len(grid)):
        drift[..., k] = keep * drift[..., k - 1] + math.sqrt(1 - keep**2) * drift[..., k]
    logs: Array = SLOPE * (times[..., None] - grid) + setting.drift * drift + setting.noise * noise
    return logs


def pairs(setting: Setting, cell: int, shape: tuple[int, int], arms: int, rng: np.random.Generator) -> Array:
    """Log distances (1 + arms, R, S, E) of the baseline and of the arms of a cell, paired."""
    return curves(setting, paired_times(setting, cell, shape, arms, rng), rng)


def paired_times(setting: Setting, cell: int, shape: tuple[int, int], arms: int, rng: np.random.Generator) -> Array:
    """Log times (1 + arms, R, S) of the baseline and of the arms of a cell, paired."""
    shared, own = setting.standard(shape, rng), setting.standard((1 + arms, *shape), rng)
    times: Array = math.sqrt(setting.correlation) * shared + math.sqrt(1 - setting.correlation) * own
    times[0] *= setting.sd
    times[1:] = setting.arm_sd * times[1:] - math.log(setting.speedup)
    times += math.log(setting.late) * (cell < setting.late_cells)
    times[1:][rng.random((arms, *shape)) < setting.failing] = NEVER
    return times


def bands(setting: Setting, pilots: Array, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Log levels (R, K) and whether they are usable (R,), from pilots (R, PILOTS, E): `derive_band` on arrays."""
    fitted, freedom = isotonic(pilots.mean(axis=1)), PILOTS * (REPEATS - 1)
    top, bottom = (np.array([np.interp(math.log(x), setting.grid, row) for row in fitted]) for x in (TOP, BOTTOM))
    late = (isotonic(pilots)[..., -1] > bottom[:, None] + TIE).sum(axis=1)
    noise_sd = setting.noise * np.sqrt(rng.chisquare(freedom, len(pilots)) / freedom)
    usable = (late < 2) & (top - bottom >= np.maximum(3 * noise_sd, math.log(NARROWEST)))
    return np.linspace(top, bottom, LEVELS, axis=-1), usable


def isotonic(logs: Array) -> Array:
    """Decreasing isotonic fits of log distances (..., E)."""
    rows = [isotonic_regression(row, increasing=False).x for row in logs.reshape(-1, logs.shape[-1])]
    return np.stack(rows).reshape(logs.shape)


def restricted(fitted: Array, grid: Array, levels: Array) -> tuple[Array, Mask]:
    """log T_k and whether it is censored, (..., R, S, K), of fits (..., R, S, E) at levels (R, K): see `log_times`."""
    _, times = cross(np.exp(grid), fitted, levels[:, None])
    return np.log(np.minimum(times, 1.0)), np.isinf(times)


def intervals(d: Array, usable: Mask, alpha: float) -> tuple[Array, Array]:
    """Mean and half width (ARMS, R) of d (CELLS, ARMS, R, S) over usable cells (CELLS, R): `pool_cells` on arrays."""
    used = np.broadcast_to(usable[:, None], d.shape[:-1])
    sds = np.where(np.ptp(d, axis=-1) > TIE, d.std(axis=-1, ddof=1), 0.0)
    with np.errstate(invalid="ignore"):
        mean = (used * d.mean(axis=-1)).sum(axis=0) / used.sum(axis=0)
    return mean, planning.half_width(*planning.standard_error(sds, d.shape[-1], used), alpha)


def estimand(setting: Setting, cell: int, levels: Array, runs: int, rng: np.random.Generator) -> tuple[Array, float]:
    """E[d | band] (R,) for bands of log levels (R, K), from `runs` pairs; and the baseline's share of censored levels.

    The mean restricted log time is a smooth function of the level: it is computed on a grid of levels, and read there.
    """
    fine = np.linspace(levels.min(), levels.max(), 100)
    fits = isotonic(pairs(setting, cell, (1, runs), 1, rng)).reshape(2, -1, 1, 500, setting.evaluations)
    found = [[restricted(block, setting.grid, fine[None]) for block in side] for side in fits]
    (base, missed), (arm, _) = (np.mean(side, axis=(0, 2, 3)) for side in found)
    return np.interp(levels, fine, base - arm).mean(axis=-1), float(np.interp(levels, fine, missed).mean())


def settings() -> list[Setting]:
    """Every setting of settings.yaml with each of its speedups."""
    found = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text(encoding="utf-8"))
    speedups = [one.pop("speedups", (1, 1.5)) for one in found]
    return [Setting(speedup=x, **one) for one, those in zip(found, speedups, strict=True) for x in those]


def sequential() -> list[Setting]:
    """The settings of suites with looks: effects, correlations within pairs, normal and skewed times."""
    every = itertools.product(SEQUENTIAL, (1.0, 1.1, 1.5), (False, True))
    return [Setting(name, speedup, skewed, correlation=r) for (name, r), speedup, skewed in every]


def study(setting: Setting, repetitions: int, seed: int, truth_runs: int = 20_000) -> list[dict[str, Any]]:
    """A row for each number of pairs, a smaller suite being the first pairs of a larger one: `setting`, and shares.

    cell, pooled: coverage of the first cell's and of the pooled 95 % interval; false_m: suites of m arms with a false
    word; unusable: cells; missed_1, _2: the baseline's levels not reached, by cell; estimand: pooled, as a ratio.
    """
    rng = np.random.default_rng(seed)
    pilots = [curves(setting, setting.sd * setting.standard((repetitions, PILOTS), rng), rng) for _ in range(CELLS)]
    levels, usable = map(np.array, zip(*(bands(setting, those, rng) for those in pilots), strict=True))
    known = [estimand(setting, c, levels[c], truth_runs, rng) for c in range(CELLS)]
    shape = (repetitions, max(PAIRS))
    fits = [isotonic(pairs(setting, c, shape, ARMS, rng)) for c in range(CELLS)]
    found = [restricted(fitted, setting.grid, levels[c]) for c, fitted in enumerate(fits)]
    times, missed = (np.array([both[i].mean(axis=-1) for both in found]) for i in (0, 1))
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


def decided(setting: Setting, repetitions: int, seed: int) -> list[dict[str, Any]]:
    """A row for each number of arms: `setting`, and what whole suites with looks do that end where they have a verdict.

    Log times themselves are simulated, without curves. false: suites with a false word; right: suites in which all
    printed intervals hold their truth; verdicts: arms with one; pairs: mean number of an arm's; fixed: pairs of a suite
    without looks in which as many arms have a verdict.
    """
    rng, shape, truth = np.random.default_rng(seed), (repetitions, LOOKS[-1]), math.log(setting.speedup)
    times = np.array([paired_times(setting, c, shape, ARMS, rng) for c in range(CELLS)])
    d, usable, rows = times[:, :1] - times[:, 1:], np.ones((CELLS, repetitions), dtype=bool), []
    for arms in range(1, ARMS + 1):
        alpha, pairs = planning.ALPHA / arms, np.zeros((arms, repetitions), dtype=int)
        mean, half, going = np.empty(pairs.shape), np.empty(pairs.shape), np.ones(pairs.shape, dtype=bool)
        for n, share in zip(LOOKS, verdicts.SHARES[len(LOOKS)], strict=True):
            there = intervals(d[:, :arms, :, :n], usable, alpha * share)
            mean, half = (np.where(going, new, old) for new, old in zip(there, (mean, half), strict=True))
            pairs[going] = n
            going &= ~_has_verdict(*there)
        counts = range(LOOKS[0], LOOKS[-1] + 1)
        power = [_has_verdict(*intervals(d[:, :arms, :, :n], usable, alpha)).mean() for n in counts]
        wrong = _wrong(np.exp(mean - half), np.exp(mean + half), pairs, 0.0, 0.0, truth).any(axis=0)
        found = {"arms": arms, "false": wrong.mean(), "right": (np.abs(mean - truth) <= half).all(axis=0).mean()}
        found |= {"verdicts": 1 - going.mean(), "pairs": pairs.mean()}
        fixed = next((n for n, share in zip(counts, power, strict=True) if share >= found["verdicts"]), LOOKS[-1])
        rows.append(asdict(setting) | found | {"fixed": fixed})
    return rows


def _has_verdict(mean: Array, half: Array) -> Mask:
    """Whether intervals of log ratios are faster, slower or equivalent."""
    clear, same = math.log(verdicts.CLEAR), math.log(verdicts.SAME)
    found: Mask = (np.abs(mean) - half > clear) | (np.abs(mean) + half <= same)
    return found


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
