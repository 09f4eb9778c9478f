"""The verb `perf --recipe`: does a suite's recipe let its baseline learn steadily, and as fast as it then can.

A recipe is chosen on runs of the baseline alone, of seeds in no pair and no pilot, before any arm is trained. The rule:
in every run the distance falls steadily once 0.3 of the budget is over (its isotonic fit explains at least 95 % of the
variance of its logarithm from there on) and ends at under a third of what it was after a tenth; of half, one and two
times the learning rate, the suite's is the fastest that does so. Rates within 10 % of the fastest count as fast. A
suite of measurements compares the networks of a family: there it is the fastest at which all of them do.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import BadInput
from bench.launching import local
from bench.planning.plan import plan
from bench.planning.suite import SeedKeys, SuiteFile
from bench.runs.run_spec import Run
from reports.analysis import bands
from reports.analysis.curves import Curve, fit, log_times
from reports.records import labels
from reports.records.files import read_json
from reports.report.stability import family

SEEDS = list(range(200, 212))
RATES = (0.5, 1.0, 2.0)  # of the suite's own learning rate
NEIGHBOURS = 4  # seeds at most at the two other rates
SETTLED, EXPLAINED, FALL, FAST = 0.3, 0.95, 1 / 3, 1.1


@dataclass(frozen=True)
class Rung:
    """The baseline's runs of one cell at one learning rate.

    explained: least share of the variance of a run's log distance that its fit explains, from 0.3 of the budget on.
    fall: largest last distance over the first. log_images: of each run to the band of the suite's own rate.
    """

    cell: str
    factor: float
    rate: float
    explained: float
    fall: float
    log_images: list[float]

    @property
    def steady(self) -> bool:
        """Whether every run does what the rule asks."""
        return self.explained >= EXPLAINED and self.fall < FALL


def show(suite: SuiteFile, root: Path, data: Path, workers: int | None, seeds: int = len(SEEDS)) -> int:
    """Train what is missing in ROOT/SUITE-recipe, print a line per cell and rate; 1 if a recipe breaks the rule."""
    if not 2 <= seeds <= len(SEEDS):
        raise BadInput(f"--seeds: {seeds} is not from 2 to {len(SEEDS)}")
    study = ladder(suite, seeds)
    runs = [run for run in plan(study) if _factor(run) == 1 or run.spec.seed in SEEDS[:NEIGHBOURS]]
    if code := local.run(study, root, data, ",".join(f"run={run.id}" for run in runs), workers, 0):
        return code
    print(f"{'cell':22}{'lr':>8}  seeds  explained  end / tenth  steady  speed  sd of L")
    cells = dict.fromkeys(run.spec.cell for run in runs)
    measured = {cell: measure([run for run in runs if run.spec.cell == cell], root) for cell in cells}
    verdicts = []
    for cell, rungs in measured.items():
        for rung in rungs:
            print(
                f"{cell:22}{rung.rate:8g}{len(rung.log_images):7}{rung.explained:11.3f}{rung.fall:13.3f}"
                f"{'yes' if rung.steady else 'no':>8}{_speed(rung, rungs):6.2f}x{np.std(rung.log_images, ddof=1):9.3f}"
            )
        kin = [] if suite.seeds.pilots else [other for other in measured if family(other) == family(cell)]
        verdicts.append(judge(rungs, {rung.factor for other in kin for rung in measured[other] if not rung.steady}))
    print("\n".join(said for _, said in verdicts))
    return int(not all(kept for kept, _ in verdicts))


def ladder(suite: SuiteFile, seeds: int = len(SEEDS)) -> SuiteFile:
    """The study of a suite: tuning runs of its baseline at each rate, and nothing else."""
    if labels.split(suite.baseline)[1] != 1:
        raise BadInput(f"--recipe: the baseline {suite.baseline!r} of {suite.name} has a rate of its own")
    keys = SeedKeys.model_construct(paired=[], pilots=[], tuning=SEEDS[:seeds])
    path = suite.path.with_name(f"{suite.name}-recipe.yaml")
    study = {"path": path, "arms": [suite.baseline], "rates": [*RATES], "seeds": keys, "looks": [], "probes": False}
    return suite.model_copy(update=study)


def measure(runs: list[Run], root: Path) -> list[Rung]:
    """One cell's rungs, slowest rate first."""
    curves = {run.id: bands.curve(read_json(run.folder(root).result)) for run in runs}
    budget = float(runs[0].spec.budget)
    band = bands.derive_band([curves[run.id] for run in runs if _factor(run) == 1], budget, math.nan)
    rungs = []
    for factor in RATES:
        those = [run for run in runs if _factor(run) == factor]
        found = [curves[run.id] for run in those]
        log_images = log_times(found, band.levels, band.first or 1.0, budget).mean.tolist()
        falls = [float(one.points[1][-1] / one.points[1][0]) for one in found]
        explained = min(_explained(one, budget) for one in found)
        rungs.append(Rung(those[0].spec.cell, factor, those[0].spec.optimizer.lr, explained, max(falls), log_images))
    return rungs


def judge(rungs: list[Rung], unsteady: Collection[float] = ()) -> tuple[bool, str]:
    """Whether the suite's own rate keeps the rule in one cell, and a line that says so. unsteady: factors at which a
    network that shares the rate does not learn steadily."""
    own = next(rung for rung in rungs if rung.factor == 1)
    if not own.steady:
        return False, f"{own.cell}: the rule is broken: not every run falls steadily at {own.rate:g}"
    faster = [rung for rung in rungs if rung.steady and rung.factor not in unsteady and _speed(rung, rungs) > FAST]
    if faster:
        return False, f"{own.cell}: the rule is broken: {faster[-1].rate:g} is as steady, and faster"
    return True, f"{own.cell}: keeps the rule"


def _speed(rung: Rung, rungs: list[Rung]) -> float:
    """How many times faster than the suite's own rate, over the seeds that both have."""
    own = next(one for one in rungs if one.factor == 1)
    return math.exp(float(np.mean(own.log_images[:NEIGHBOURS]) - np.mean(rung.log_images[:NEIGHBOURS])))


def _explained(curve: Curve, budget: float) -> float:
    """The share of the variance of log distance that the isotonic fit explains, once the run has settled."""
    grid, fitted = fit(*curve.points)
    late = grid >= SETTLED * budget
    logs = np.log(curve.points[1][np.isfinite(curve.points[1])])[late]
    return 1 - float(np.var(logs - fitted[late]) / np.var(logs))


def _factor(run: Run) -> float:
    """Of the suite's own learning rate."""
    return labels.split(run.label)[1]
