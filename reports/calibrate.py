"""Is a 95 % interval a 95 % interval? Simulated suites through the statistics of the report, with known truths.

    python -m reports.calibrate                            2,000 repetitions of every setting; prints the tables
    python -m reports.calibrate --out docs/calibration.md  writes them too
    python -m reports.calibrate --repetitions 200          a rough look

Every setting: true speedups 1, 1.2, 1.5; 3, 5, 6, 8 seeds; 0, 13, 40 % of the baselines censored; evaluation noise 0.5,
1, 3 %; 12 and 100 evaluations. Ten times as many repetitions where 13 % are censored: the headline is withheld in many of
them, and the coverage of those that are shown must be seen as sharply. Exit code 1 if an expectation does not hold.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reports import stats, words
from reports.comparison import SUPPRESS, Comparison, bounds, compare
from reports.crossing import Curve
from reports.pooled import bound_of, mean, null_test, pool
from reports.simulate import FIRST, SIGMA, SLOPE, TARGET, Observed, Setting, Truths, estimand, log_times, observe
from reports.table import Table

SPEEDUPS, SEEDS, CENSORED, NOISES, GRIDS = (1.0, 1.2, 1.5), (3, 5, 6, 8), (0.0, 0.13, 0.4), (0.005, 0.01, 0.03), (12, 100)
SHARPER = 10  # times as many repetitions where few headlines are withheld, for the coverage of those that are shown
POOLED = 2_000  # repetitions at most of which two are pooled: every one takes its own degrees of freedom
SUITE_CELLS, SUITE_ARMS, SUITE_SEEDS = 2, 3, 6  # of the simulated suites behind the confirmatory words
EXACT = ("swapped", "thousands")
VERDICTS = (words.FASTER, words.SLOWER)
SELECTION = """A headline is shown only where few baselines are censored. Suites in which it is shown are therefore those whose baselines
happened to be fast: among them the interval covers a little less often than over all repetitions, and where much is censored far
less often. An expectation that does not hold is a finding and stays in the table.
"""


@dataclass(frozen=True)
class Quantity:
    """A number of the report over repetitions: estimates (r,), half widths of their intervals (r,) if it has one, and the truth."""

    estimate: NDArray
    truth: float | NDArray
    half: NDArray | None = None
    covered: NDArray | None = None  # for intervals that are not symmetric

    def holds(self) -> NDArray | None:
        """Whether each interval holds the truth."""
        return self.covered if self.half is None else np.abs(self.estimate - self.truth) <= self.half


@dataclass(frozen=True)
class Rates:
    """What was found for one setting and number of seeds. Shares of repetitions; nan where there is nothing to count."""

    setting: Setting
    seeds: int
    shown: float  # has a headline
    bounded: float  # of those, marked >= or <=
    faster: float  # verdict, of all repetitions
    slower: float
    coverage: dict[str, float]  # of every printed interval, by COVERAGE and BESIDE
    bias: dict[str, float]  # of every printed estimate, by BIAS; of ratios, of their logs


COVERAGE = ("headline shown", "headline, all", "restricted mean", "against the headline's truth", "two cells, shown", "two cells, all")
BESIDE = ("baseline reached", "arm reached", "final difference", "final ratio", "read low", "read high", "read first")
BIAS = ("headline shown", "headline, all", "restricted mean", "two cells, all", "crossing", "P(faster)", "correlation", "baseline reached",
        "arm reached", "final difference", "final ratio", "read low", "read high", "read first")


def study(setting: Setting, repetitions: int, seed: int, seeds: Sequence[int] = SEEDS) -> list[Rates]:
    """One setting for several numbers of seeds; the smaller suites are the first pairs of the larger ones."""
    observed = observe(setting, repetitions, max(seeds), np.random.default_rng(seed))
    truths = estimand(setting)
    return [rates(setting, observed.pairs(n), n, truths) for n in seeds]


def rates(setting: Setting, observed: Observed, n: int, truths: Truths) -> Rates:
    """The rates over repetitions of n pairs."""
    times = np.minimum(observed.images, setting.budget)
    mean, sd = stats.moments(np.log(times[0]) - np.log(times[1]))
    half, p = stats.t_half(sd, n), stats.t_p(mean, sd, n)
    bound, hidden = _bounds(observed.images, observed.at_first, n)
    said = np.array([words.NO_HEADLINE if h else words.word(*np.exp((m - e, m + e)), q, n, b)
                     for m, e, q, b, h in zip(mean, half, p, bound, hidden, strict=True)])
    found = {"headline, all": Quantity(mean, truths.headline, half), **dict(_beside(setting, observed, times, n, truths))}
    found["headline shown"] = Quantity(mean[~hidden], truths.headline, half[~hidden])
    found |= _two_cells(mean, sd, n, hidden, truths.headline)
    coverage = {name: _mean(holds) for name, one in found.items() if (holds := one.holds()) is not None}
    bias = {name: _mean(one.estimate - one.truth) for name, one in found.items()}
    return Rates(setting, n, float((~hidden).mean()), _mean((bound != "")[~hidden]), float((said == words.FASTER).mean()),
                 float((said == words.SLOWER).mean()), coverage, bias)


def _beside(setting: Setting, observed: Observed, times: NDArray, n: int, truths: Truths) -> Iterator[tuple[str, Quantity]]:
    """Everything that stands beside a headline, by name; times: min(T, tau)."""
    ratio, half = stats.restricted_mean(*times)
    yield "restricted mean", Quantity(ratio, truths.restricted, half)
    yield "against the headline's truth", Quantity(ratio, truths.headline, half)
    log_tau = math.log(setting.budget)
    yield "crossing", Quantity(np.log(times), np.minimum(observed.truth, log_tau))
    for side, name in enumerate(("baseline reached", "arm reached")):
        k, rate = np.isfinite(observed.images[side]).sum(axis=-1), truths.reach[side]
        holds = np.array([(w := stats.wilson(i, n)).low <= rate <= w.high for i in range(n + 1)])
        yield name, Quantity(k / n, rate, covered=holds[k])
    yield "P(faster)", Quantity(np.where(np.isclose(*times, rtol=stats.SAME_NUMBER, atol=0), 0.5, times[1] < times[0]).mean(axis=-1), truths.chance)
    yield "correlation", Quantity(_correlations(np.log(times)), setting.correlation)
    for name, values, truth in (("final difference", observed.final[1] - observed.final[0], truths.final_difference),
                                ("final ratio", np.log(observed.final[1] / observed.final[0]), truths.final_ratio)):
        mean, sd = stats.moments(values)
        yield name, Quantity(mean, truth, stats.t_half(sd, n))
    for name, read in (("read low", np.where(np.isfinite(observed.images), observed.low, setting.budget)), ("read high", observed.high),
                       ("read first", observed.first)):
        logs = np.log(np.minimum(read, setting.budget))
        mean, sd = stats.moments(logs[0] - logs[1])
        yield name, Quantity(mean, truths.headline, stats.t_half(sd, n))


def _correlations(logs: NDArray) -> NDArray:
    """Pearson's correlation of each repetition, logs (2, r, n), where both sides vary."""
    off = logs - logs.mean(axis=-1, keepdims=True)
    spread = np.sqrt((off**2).sum(axis=-1).prod(axis=0))
    return (off[0] * off[1]).sum(axis=-1)[spread > stats.SAME_NUMBER] / spread[spread > stats.SAME_NUMBER]


def _two_cells(mean: NDArray, sd: NDArray, n: int, hidden: NDArray, truth: float) -> dict[str, Quantity]:
    """Each repetition pooled with the next, as two cells of a suite."""
    pairs = [(i, i + 1) for i in range(0, min(len(mean), POOLED) - 1)]
    pooled = [stats.satterthwaite(mean[list(both)], sd[list(both)], [n, n]).interval() for both in pairs]
    values, low, high = np.array([(one.value, one.low, one.high) for one in pooled]).T
    shown = ~np.array([hidden[list(both)].any() for both in pairs])
    covered = (low <= truth) & (truth <= high)
    return {"two cells, all": Quantity(values, truth, covered=covered), "two cells, shown": Quantity(values[shown], truth, covered=covered[shown])}


def _bounds(images: NDArray, first: NDArray, n: int) -> tuple[NDArray, NDArray]:
    counts = [*np.isinf(images).sum(axis=-1), *first.sum(axis=-1)]
    found = [bounds(*map(int, row), n) for row in zip(*counts, strict=True)]
    return np.array([b for b, _ in found]), np.array([h for _, h in found])


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else math.nan


@dataclass(frozen=True)
class SuiteRates:
    """False verdicts of whole suites in which nothing differs, how often the A/A test of a sound suite fails, and what must be exact."""

    repetitions: int
    any_arm: float  # suites in which at least one arm is called faster or slower
    null_arm: float  # suites whose null arm would be
    banner: float  # suites whose A/A test fails, its 99.9 % interval missing 1
    null_bias: float  # of the pooled A/A, mean log
    swapped: float  # largest |speedup x speedup with the arms swapped - 1|
    thousands: float  # largest relative change of speedup and interval with thousands of images


def suites(repetitions: int, seed: int, noise: float = 0.01, evaluations: int = 30) -> SuiteRates:
    """Suites of two cells, three arms and six seeds that all train like the baseline, through `compare` and `pool`."""
    setting = Setting(1.0, 0.0, noise, evaluations)
    rng = np.random.default_rng(seed)
    counts, worst = np.zeros(4), np.zeros(2)
    gc.freeze()  # statsmodels collects garbage at every correction; let it not look through the libraries each time
    for _ in range(repetitions):
        curves = {f"d/{c}": _null_curves(setting, rng) for c in range(SUITE_CELLS)}
        cells = {name: {arm: compare(those["none"], those[arm], TARGET, setting.budget) for arm in those if arm != "none"}
                 for name, those in curves.items()}
        arms = {arm: {name: found[arm] for name, found in cells.items()} for arm in cells["d/0"]}
        null = arms.pop("null")
        said, aa = [one.word for one in pool(arms).values()], null_test(null)
        counts += [any(word in VERDICTS for word in said), _alone(null) in VERDICTS, aa.failed, math.log(aa.speedup)]
        worst = np.maximum(worst, _exactness(curves["d/0"], cells["d/0"]["null"], setting.budget))
    return SuiteRates(repetitions, *(counts / repetitions).tolist(), *worst.tolist())


def _alone(cells: dict[str, Comparison]) -> str:
    """The word of one arm that is a family of its own, so that Holm changes nothing."""
    one = mean(cells)
    shown = one.interval().exp()
    return words.word(shown.low, shown.high, one.p(), SUITE_SEEDS, bound_of(cells))


def _null_curves(setting: Setting, rng: np.random.Generator) -> dict[str, list[Curve]]:
    """Curves of the baseline, of the arms and of the null arm, that differ by chance only."""
    grid = np.geomspace(FIRST * setting.budget, setting.budget, setting.evaluations)

    def curves() -> list[Curve]:
        truth = log_times(setting, (SUITE_SEEDS,), rng)[0]
        fid = TARGET * np.exp(SLOPE * (truth[:, None] - np.log(grid)) + setting.noise * rng.standard_normal((SUITE_SEEDS, len(grid))))
        return [Curve(seed, grid, row) for seed, row in enumerate(fid)]

    return {name: curves() for name in ("none", *map(str, range(SUITE_ARMS)), "null")}


def _exactness(curves: dict[str, list[Curve]], found: Comparison, budget: float) -> tuple[float, float]:
    """How far swapping the arms is from inverting the ratio, and counting thousands of images from changing nothing."""
    base, other = curves["none"], curves["null"]
    turned = compare(other, base, TARGET, budget)
    small = [[Curve(c.seed, c.images / 1000, c.fid) for c in those] for those in (base, other)]
    scaled = compare(*small, TARGET, budget / 1000)
    return (max(abs(found.speedup * turned.speedup - 1), abs(found.low * turned.high - 1)),
            max(abs(getattr(scaled, key) / getattr(found, key) - 1) for key in ("speedup", "low", "high")))


@dataclass(frozen=True)
class Expectation:
    """A requirement on the study, what was found, and whether it holds."""

    what: str
    found: str
    holds: bool


def expectations(found: Sequence[Rates], whole: SuiteRates) -> list[Expectation]:
    """What the study must show; the worst number over the settings it is about."""
    def of(censored: Iterable[float]) -> list[Rates]:
        return [r for r in found if r.setting.censored in censored]

    usual, heavy = of((0.0, 0.13)), of((0.4,))
    same = [r for r in found if r.setting.speedup == 1 and r.seeds >= words.VERDICT_SEEDS]
    return [
        _within("coverage of shown headlines, 0 % censored", [r.coverage["headline shown"] for r in of((0.0,))], 0.93, 0.97),
        _within("coverage of shown headlines, 13 % censored", [r.coverage["headline shown"] for r in of((0.13,))], 0.93, 0.97),
        _within("coverage of the headline's interval over all repetitions, 0 and 13 % censored", [r.coverage["headline, all"] for r in usual], 0.93, 0.97),
        _within("coverage of the restricted mean, 40 % censored", [r.coverage["restricted mean"] for r in heavy], 0.93, 1.0),
        _within("false verdicts of one cell at speedup 1, six seeds or more", [r.faster + r.slower for r in same], 0.0, 0.05),
        _within("suites of equal arms with a verdict, Holm over three arms", [whole.any_arm], 0.0, 0.05),
        _within("suites whose null arm would get a verdict", [whole.null_arm], 0.0, 0.05),
        _within("bias of the crossing", [abs(r.bias["crossing"]) for r in found], 0.0, 0.01),
        _exact("swapped arms invert ratio and interval", whole.swapped),
        _exact("thousands of images instead of images change ratio and interval by", whole.thousands),
    ]


def _exact(what: str, worst: float) -> Expectation:
    return Expectation(f"{what}: to 1e-12", f"{worst:.0e} at most", worst <= 1e-12)


def _within(what: str, values: Sequence[float], low: float, high: float) -> Expectation:
    limit = f"{low:.0%} to {high:.0%}" if low and high < 1 else f"at least {low:.0%}" if low else f"at most {high:.0%}"
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return Expectation(f"{what}: {limit}", "not studied", True)
    outside = sum(not low <= v <= high for v in values)
    return Expectation(f"{what}: {limit}", f"{min(values):.1%} to {max(values):.1%}, {outside} of {len(values)} settings outside", not outside)


def _range(values: Iterable[float], show: Callable[[float], str] = lambda v: f"{100 * v:.1f}") -> str:
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return "–"
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def tabulate(found: Sequence[Rates]) -> list[Table]:
    """A row per speedup, censoring and number of seeds: the range over noise and grids."""
    keys = sorted({(r.setting.censored, r.setting.speedup, r.seeds) for r in found})
    groups = {key: [r for r in found if (r.setting.censored, r.setting.speedup, r.seeds) == key] for key in keys}

    def table(name: str, caption: str, columns: Sequence[str], cell: Callable[[list[Rates], str], str]) -> Table:
        rows = [(f"{key[0]:.0%}", f"{key[1]:g}", str(key[2]), *(cell(those, column) for column in columns)) for key, those in groups.items()]
        return Table(name, caption, ("censored", "speedup", "seeds", *columns), rows)

    said = {"suppressed": lambda r: 1 - r.shown, "bounded": lambda r: r.bounded, "faster": lambda r: r.faster, "slower": lambda r: r.slower}
    return [
        table("coverage", "Coverage of nominal 95 % intervals, in %: the headline where it is shown; the same interval where it is not, too; the "
              "restricted mean against its own truth and against the headline's; two cells pooled (Satterthwaite), where both headlines are "
              "shown and over all.", COVERAGE, lambda those, column: _range(r.coverage[column] for r in those)),
        table("coverage beside the headline", "In %: both reach rates (Wilson); the distance at the full budget, difference and ratio; and the "
              "sensitivity line, T read as the low end of its bracket, the high end, and the first evaluation below, against the headline's truth: "
              "these are checks, and where they cover less the reading is biased.", BESIDE,
              lambda those, column: _range(r.coverage[column] for r in those)),
        table("bias", "Bias of point estimates, in %: of ratios and of the single crossing the mean log error; of chances, rates and the "
              "correlation in points; of the final difference in % of the target.", BIAS,
              lambda those, column: _range((r.bias[column] for r in those), lambda v: f"{100 * v:+.1f}")),
        table("verdicts", "In %: headlines suppressed; of those shown, marked >= or <=; verdicts faster and slower of all repetitions (at speedup 1 "
              "false, above it the power). Fewer than six seeds get no verdict.", tuple(said), lambda those, column: _range(map(said[column], those))),
    ]


def document(found: Sequence[Rates], whole: SuiteRates, repetitions: int) -> str:
    """The study as Markdown."""
    met = Table("expectations", "", ("expected", "found", "holds"), [(e.what, e.found, "yes" if e.holds else "NO") for e in expectations(found, whole)])
    parts = [
        "# Calibration of the statistics\n",
        f"Made by `make calibrate` (`python -m reports.calibrate --repetitions {repetitions} --out docs/calibration.md`): {repetitions:,} "
        "repetitions of every setting, "
        f"{SHARPER * repetitions:,} where 13 % are censored, through the crossing and the statistics of the report.\n",
        f"Times to target are log-normal with a standard deviation of {SIGMA:g} over seeds, independent within pairs; the distance falls as "
        f"images^-{SLOPE:g}; evaluations are log-spaced over the last decade of the budget. Ranges are over evaluation noise of "
        f"{', '.join(f'{100 * n:g}' for n in NOISES)} % and {' and '.join(map(str, GRIDS))} evaluations. The truth of the headline is "
        "E[log min(T_none, tau) - log min(T_arm, tau)], that of the restricted mean log(E min(T_none, tau) / E min(T_arm, tau)), both from "
        f"1,000,000 draws. The standard error of a coverage of 95 % is {100 * math.sqrt(0.95 * 0.05 / repetitions):.1f} points.\n",
        "## Expectations\n", met.markdown(), SELECTION, _sharpness(found, repetitions),
        f"Whole suites: {whole.repetitions:,} with {SUITE_CELLS} cells, {SUITE_ARMS} arms and {SUITE_SEEDS} seeds in which nothing differs. "
        f"{whole.any_arm:.1%} call an arm faster or slower, {whole.null_arm:.1%} would call the null arm so, {whole.banner:.2%} fail the A/A test: "
        f"its 99.9 % interval covers 1 in {1 - whole.banner:.2%}. The A/A speedup is off by {100 * whole.null_bias:+.2f} % on average.\n",
    ]
    for table in tabulate(found):
        parts += [f"## {table.name.capitalize()}\n", table.caption + "\n", table.markdown()]
    return "\n".join(parts)


def _sharpness(found: Sequence[Rates], repetitions: int) -> str:
    """How many headlines stand behind a coverage where some are withheld, and what they would be without more repetitions."""
    fewest = min((r.shown for r in found if _sharper(r.setting)), default=math.nan)
    errors = [100 * math.sqrt(0.95 * 0.05 / (fewest * n)) if fewest > 0 else math.nan for n in (repetitions, SHARPER * repetitions)]
    return (f"Where 13 % are censored as few as {fewest:.0%} of the repetitions have a headline. {repetitions:,} repetitions would give their coverage "
            f"a standard error of {errors[0]:.1f} points; {SHARPER * repetitions:,} give {errors[1]:.1f}.\n")


def _sharper(setting: Setting) -> bool:
    return 0 < setting.censored <= SUPPRESS


def settings() -> list[Setting]:
    """Every setting of the study."""
    return [Setting(*one) for one in itertools.product(SPEEDUPS, CENSORED, NOISES, GRIDS)]


def run(repetitions: int, workers: int) -> tuple[list[Rates], SuiteRates]:
    """The whole study on several processes; the same numbers whatever their count."""
    chosen, parts = settings(), 10
    with ProcessPoolExecutor(workers) as pool_:
        repeated = [repetitions * (SHARPER if _sharper(one) else 1) for one in chosen]
        whole = [pool_.submit(suites, repetitions // parts, 1000 + i) for i in range(parts)]
        found = [rates_ for one in pool_.map(study, chosen, repeated, range(len(chosen))) for rates_ in one]
        done = [future.result() for future in whole]
    shares = [float(np.mean([getattr(part, name) for part in done])) for name in ("any_arm", "null_arm", "banner", "null_bias")]
    return found, SuiteRates(sum(part.repetitions for part in done), *shares, *(max(getattr(part, name) for part in done) for name in EXACT))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reports.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="also write the Markdown here")
    options = parser.parse_args(arguments)
    found, whole = run(options.repetitions, options.workers)
    text = document(found, whole, options.repetitions)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    return int(not all(e.holds for e in expectations(found, whole)))


if __name__ == "__main__":
    sys.exit(main())
