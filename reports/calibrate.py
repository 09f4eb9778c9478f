"""Is a 95 % interval a 95 % interval? Simulated suites through the statistics of the report, with known truths.

    python -m reports.calibrate                            2,000 repetitions of every setting; prints the tables
    python -m reports.calibrate --out docs/calibration.md  writes them too
    python -m reports.calibrate --repetitions 200          a rough look

Every setting: true speedups 1, 1.2, 1.5; 3, 5, 6, 8 seeds; 0, 13, 40 % of the baselines censored; evaluation noise 0.5,
1, 3 %; 12 and 100 evaluations. Exit code 1 if an expectation does not hold.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from reports import stats, words
from reports.comparison import Comparison, bounds, compare
from reports.crossing import Curve
from reports.pooled import bound_of, mean, null_test, pool
from reports.simulate import FIRST, SIGMA, SLOPE, TARGET, Observed, Setting, estimand, log_times, observe
from reports.table import Table

SPEEDUPS, SEEDS, CENSORED, NOISES, GRIDS = (1.0, 1.2, 1.5), (3, 5, 6, 8), (0.0, 0.13, 0.4), (0.005, 0.01, 0.03), (12, 100)
SUITE_CELLS, SUITE_ARMS, SUITE_SEEDS = 2, 3, 6  # of the simulated suites behind the confirmatory words
VERDICTS = (words.FASTER, words.SLOWER)
SELECTION = """A headline is shown only where few baselines are censored. Suites in which it is shown are therefore those whose baselines
happened to be fast: among them the interval covers a little less often than over all repetitions, and where much is censored far
less often. An expectation that does not hold is a finding and stays in the table.
"""


@dataclass(frozen=True)
class Rates:
    """What was found for one setting and number of seeds. Shares of repetitions; nan where there is nothing to count."""

    setting: Setting
    seeds: int
    shown: float  # has a headline
    bounded: float  # of those, marked >= or <=
    covered: float  # the headline's interval, where it is shown, holds the estimand
    covered_all: float  # the same interval over all repetitions
    restricted: float  # the restricted mean's interval holds its own estimand
    restricted_log: float  # and the headline's
    wilson: float  # the interval of the baseline's reach rate holds the true rate
    final: float  # the interval of the final ratio holds the true ratio
    bias: float  # of the headline where it is shown, mean log error
    bias_all: float
    bias_restricted: float
    bias_crossing: float  # mean log error of min(T, tau)
    faster: float  # verdict, of all repetitions
    slower: float


def study(setting: Setting, repetitions: int, seed: int, seeds: Sequence[int] = SEEDS) -> list[Rates]:
    """One setting for several numbers of seeds; the smaller suites are the first pairs of the larger ones."""
    observed = observe(setting, repetitions, max(seeds), np.random.default_rng(seed))
    truths = estimand(setting)
    return [rates(setting, observed, n, truths) for n in seeds]


def rates(setting: Setting, observed: Observed, n: int, truths: tuple[float, float]) -> Rates:
    """The rates of the first n pairs of each repetition. truths: as `estimand` gives them."""
    images, first, final = (values[..., :n] for values in (observed.images, observed.at_first, observed.final))
    times = np.minimum(images, setting.budget)
    d = np.log(times[0]) - np.log(times[1])
    mean, sd = stats.moments(d)
    half, p = stats.t_half(sd, n), stats.t_p(mean, sd, n)
    bound, hidden = _bounds(images, first, n)
    covered = np.abs(mean - truths[0]) <= half
    ratio, ratio_half = stats.restricted_mean(*times)
    said = np.array([words.NO_HEADLINE if h else words.word(*np.exp((m - e, m + e)), q, n, b)
                     for m, e, q, b, h in zip(mean, half, p, bound, hidden, strict=True)])
    final_mean, final_sd = stats.moments(np.log(final[1]) - np.log(final[0]))
    shown = ~hidden
    return Rates(
        setting, n, shown=float(shown.mean()), bounded=_mean((bound != "")[shown]), covered=_mean(covered[shown]), covered_all=_mean(covered),
        restricted=_mean(np.abs(ratio - truths[1]) <= ratio_half), restricted_log=_mean(np.abs(ratio - truths[0]) <= ratio_half),
        wilson=_wilson(setting, np.isfinite(images[0]).sum(axis=-1), n),
        final=_mean(np.abs(final_mean + SLOPE * math.log(setting.speedup)) <= stats.t_half(final_sd, n)),
        bias=_mean((mean - truths[0])[shown]), bias_all=_mean(mean - truths[0]), bias_restricted=_mean(ratio - truths[1]),
        bias_crossing=_mean(np.log(times) - np.minimum(observed.truth[..., :n], math.log(setting.budget))),
        faster=float((said == words.FASTER).mean()), slower=float((said == words.SLOWER).mean()))


def _bounds(images: NDArray, first: NDArray, n: int) -> tuple[NDArray, NDArray]:
    counts = [*np.isinf(images).sum(axis=-1), *first.sum(axis=-1)]
    found = [bounds(*map(int, row), n) for row in zip(*counts, strict=True)]
    return np.array([b for b, _ in found]), np.array([h for _, h in found])


def _wilson(setting: Setting, reached: NDArray, n: int) -> float:
    rate = float(scipy_stats.norm.cdf(math.log(setting.budget) / SIGMA))
    holds = [(w := stats.wilson(k, n)).low <= rate <= w.high for k in range(n + 1)]
    return _mean(np.array(holds)[reached])


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else math.nan


@dataclass(frozen=True)
class SuiteRates:
    """False verdicts of whole suites in which nothing differs, and how often the A/A test of a sound suite fails."""

    repetitions: int
    any_arm: float  # suites in which at least one arm is called faster or slower
    null_arm: float  # suites whose null arm would be
    banner: float  # suites whose A/A test fails at the 99.9 % level


def suites(repetitions: int, seed: int, noise: float = 0.01, evaluations: int = 30) -> SuiteRates:
    """Suites of two cells, three arms and six seeds that all train like the baseline, through `compare` and `pool`."""
    setting = Setting(1.0, 0.0, noise, evaluations)
    rng = np.random.default_rng(seed)
    counts = np.zeros(3)
    gc.freeze()  # statsmodels collects garbage at every correction; let it not look through the libraries each time
    for _ in range(repetitions):
        cells = {f"d/{c}": _null_cell(setting, rng) for c in range(SUITE_CELLS)}
        arms = {arm: {name: found[arm] for name, found in cells.items()} for arm in cells["d/0"]}
        null = arms.pop("null")
        said = [one.word for one in pool(arms).values()]
        counts += [any(word in VERDICTS for word in said), _alone(null) in VERDICTS, null_test(null).failed]
    return SuiteRates(repetitions, *(counts / repetitions).tolist())


def _alone(cells: dict[str, Comparison]) -> str:
    """The word of one arm that is a family of its own, so that Holm changes nothing."""
    one = mean(cells)
    shown = one.interval().exp()
    return words.word(shown.low, shown.high, one.p(), SUITE_SEEDS, bound_of(cells))


def _null_cell(setting: Setting, rng: np.random.Generator) -> dict[str, Comparison]:
    grid = np.geomspace(FIRST * setting.budget, setting.budget, setting.evaluations)

    def curves() -> list[Curve]:
        truth = log_times(setting, (SUITE_SEEDS,), rng)[0]
        fid = TARGET * np.exp(SLOPE * (truth[:, None] - np.log(grid)) + setting.noise * rng.standard_normal((SUITE_SEEDS, len(grid))))
        return [Curve(seed, grid, row) for seed, row in enumerate(fid)]

    base = curves()
    return {name: compare(base, curves(), TARGET, setting.budget) for name in (*map(str, range(SUITE_ARMS)), "null")}


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
        _within("coverage of shown headlines, 0 % censored", [r.covered for r in of((0.0,))], 0.93, 0.97),
        _within("coverage of shown headlines, 13 % censored", [r.covered for r in of((0.13,))], 0.93, 0.97),
        _within("coverage of the headline's interval over all repetitions, 0 and 13 % censored", [r.covered_all for r in usual], 0.93, 0.97),
        _within("coverage of the restricted mean, 40 % censored", [r.restricted for r in heavy], 0.93, 1.0),
        _within("false verdicts of one cell at speedup 1, six seeds or more", [r.faster + r.slower for r in same], 0.0, 0.05),
        _within("suites of equal arms with a verdict, Holm over three arms", [whole.any_arm], 0.0, 0.05),
        _within("suites whose null arm would get a verdict", [whole.null_arm], 0.0, 0.05),
        _within("bias of the crossing", [abs(r.bias_crossing) for r in found], 0.0, 0.01),
    ]


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


COLUMNS = ("covered", "covered_all", "restricted", "restricted_log", "wilson", "final")
BIASES = ("bias", "bias_all", "bias_restricted", "bias_crossing")


def tabulate(found: Sequence[Rates]) -> list[Table]:
    """A row per speedup, censoring and number of seeds: the range over noise and grids."""
    keys = sorted({(r.setting.censored, r.setting.speedup, r.seeds) for r in found})
    groups = {key: [r for r in found if (r.setting.censored, r.setting.speedup, r.seeds) == key] for key in keys}
    heads = ("censored", "speedup", "seeds")
    first = {key: (f"{key[0]:.0%}", f"{key[1]:g}", str(key[2])) for key in keys}
    coverage = [(*first[key], *(_range(getattr(r, name) for r in rows) for name in COLUMNS)) for key, rows in groups.items()]
    bias = [(*first[key], *(_range((getattr(r, name) for r in rows), lambda v: f"{100 * v:+.2f}") for name in BIASES)) for key, rows in groups.items()]
    said = [(*first[key], *(_range(values) for values in ([1 - r.shown for r in rows], [r.bounded for r in rows], [r.faster for r in rows],
                                                          [r.slower for r in rows]))) for key, rows in groups.items()]
    return [
        Table("coverage", "Coverage of nominal 95 % intervals, in %: the headline where it is shown; the same interval where it is not, too; the "
              "restricted mean against its own truth and against the headline's; the reach rate (Wilson); the distance at the full budget.",
              (*heads, "headline shown", "headline, all", "restricted mean", "against the headline's truth", "reach rate", "final distance"), coverage),
        Table("bias", "Bias of point estimates, in %: the headline where it is shown and over all, the restricted mean, and the single crossing.",
              (*heads, "headline shown", "headline, all", "restricted mean", "crossing"), bias),
        Table("verdicts", "In %: headlines suppressed; of those shown, marked >= or <=; verdicts faster and slower of all repetitions (at speedup 1 "
              "false, above it the power). Fewer than six seeds get no verdict.", (*heads, "suppressed", "bounded", "faster", "slower"), said),
    ]


def document(found: Sequence[Rates], whole: SuiteRates, repetitions: int) -> str:
    """The study as Markdown."""
    met = Table("expectations", "", ("expected", "found", "holds"), [(e.what, e.found, "yes" if e.holds else "NO") for e in expectations(found, whole)])
    parts = [
        "# Calibration of the statistics\n",
        f"Made by `make calibrate` (`python -m reports.calibrate --repetitions {repetitions} --out docs/calibration.md`): {repetitions:,} "
        "repetitions of every setting, through the crossing and the statistics of the report.\n",
        f"Times to target are log-normal with a standard deviation of {SIGMA:g} over seeds, independent within pairs; the distance falls as "
        f"images^-{SLOPE:g}; evaluations are log-spaced over the last decade of the budget. Ranges are over evaluation noise of "
        f"{', '.join(f'{100 * n:g}' for n in NOISES)} % and {' and '.join(map(str, GRIDS))} evaluations. The truth of the headline is "
        "E[log min(T_none, tau) - log min(T_arm, tau)], that of the restricted mean log(E min(T_none, tau) / E min(T_arm, tau)), both from "
        f"1,000,000 draws. The standard error of a coverage of 95 % is {100 * math.sqrt(0.95 * 0.05 / repetitions):.1f} points.\n",
        "## Expectations\n", met.markdown(), SELECTION,
        f"Whole suites: {whole.repetitions:,} with {SUITE_CELLS} cells, {SUITE_ARMS} arms and {SUITE_SEEDS} seeds in which nothing differs. "
        f"{whole.any_arm:.1%} call an arm faster or slower, {whole.null_arm:.1%} would call the null arm so, {whole.banner:.2%} fail the A/A test.\n",
    ]
    for table in tabulate(found):
        parts += [f"## {table.name.capitalize()}\n", table.caption + "\n", table.markdown()]
    return "\n".join(parts)


def settings() -> list[Setting]:
    """Every setting of the study."""
    return [Setting(*one) for one in itertools.product(SPEEDUPS, CENSORED, NOISES, GRIDS)]


def run(repetitions: int, workers: int) -> tuple[list[Rates], SuiteRates]:
    """The whole study on several processes; the same numbers whatever their count."""
    chosen, parts = settings(), 10
    with ProcessPoolExecutor(workers) as pool_:
        whole = [pool_.submit(suites, repetitions // parts, 1000 + i) for i in range(parts)]
        found = [rates_ for one in pool_.map(study, chosen, [repetitions] * len(chosen), range(len(chosen))) for rates_ in one]
        done = [future.result() for future in whole]
    shares = [float(np.mean([getattr(part, name) for part in done])) for name in ("any_arm", "null_arm", "banner")]
    return found, SuiteRates(sum(part.repetitions for part in done), *shares)


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
