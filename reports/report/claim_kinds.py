"""What a claim of a paper may be about, and how a suite measures it: a speedup, a ratio, an exponent, a share.
`claims` holds the claims themselves.

A claim rests on one number or several, each over cells with the interval that decides; it holds if all of them lie in
its region. All numbers are made on the same seeds.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from reports.analysis import pooling, verdicts
from reports.analysis.comparisons import Interval
from reports.records import labels
from reports.records.event_log import number
from reports.records.suite_records import Records, Result, Role
from reports.report import compared, formats, looks, stability, tree, tuning

ENDED = ("complete", "diverged")
FINAL, SECONDS = "distance at the full budget", "seconds per image"


@dataclass(frozen=True)
class Estimate:
    """A number with its deciding interval, from at least n pairs in a cell."""

    name: str
    interval: Interval
    shown: str
    n: int
    runs: list[str]
    more: str = ""  # what else is to be said of it
    censored: verdicts.Shares = (0.0, 0.0)  # levels not reached
    undecided: bool = False  # for another reason than its interval

    @property
    def said(self) -> str:
        """The number in words."""
        return f"{self.name} {self.shown}{self.more}"


Sides = Mapping[str, tuple[str, ...]]  # the arms behind a number, by what to say where it does not exist


@dataclass(frozen=True)
class Evidence:
    """What claims look at: records, the cells of a claim, all bands, arms and tuned rates, and the level 1 - alpha.

    looked: where the arms stand, of whose looks a number has the smallest share of alpha.
    """

    records: Records
    cells: list[str]
    bands: compared.Bands
    arms: Sequence[tree.Arm]
    rates: Sequence[tree.TuningRow]
    alpha: float
    looked: looks.Looked

    @property
    def baseline(self) -> str:
        """The suite's own."""
        return self.records.suite.baseline

    def label(self, name: str) -> str | None:
        """The arm that a claim means by a name: itself, the one without parameters, else the first of that name.

        A name may say a factor on the learning rate (`constant @ lr 2`); without one, arms with a factor are not meant.
        """
        suite = self.records.suite
        arms = [arm for arm in suite.arms if (labels.bare(arm), labels.read(arm)[1]) == labels.split(name)]
        return name if name in suite.arms else arms[0] if arms else None

    def found(self, label: str, *statuses: str) -> list[str]:
        """The runs of an arm, with these statuses."""
        runs = [run for cell in self.cells for run in self.records.found(cell, "paired", label)]
        return [run.run for run in runs if not statuses or run.status in statuses]

    def clean(self, cell: str, *names: str) -> bool:
        """Whether no check failed for these arms."""
        return not any(arm.withheld for arm in self.arms if arm.cell == cell and arm.method in names)

    def more(self, n: int, cells: int) -> str:
        """Over how many of the claim's cells a number is, where not over all, and that it has few seeds."""
        over = f" over {cells} of {formats.plural(len(self.cells), 'cell')}" * (cells < len(self.cells))
        return over + f" ({formats.plural(n, 'seed')})" * (n < verdicts.INTERVAL_PAIRS)


class Model(BaseModel):
    """What claims.yaml holds: fields that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Values(Model):
    """The arms of a method with a parameter in [least, most]."""

    method: str
    parameter: str
    least: float
    most: float
    default: float

    def value(self, label: str) -> float:
        """The parameter in an arm's label, its default if it is not written; nan for another method or rate."""
        method, factor = labels.read(label)
        given = dict(re.findall(r"(\w+)=([^,)]+)", method))
        same = labels.bare(label) == self.method and factor == 1
        return number(given.get(self.parameter, self.default)) if same else math.nan


class ClaimSpec(Model):
    """A claim: the interval of every number that it rests on must lie within `region`. See claims.yaml."""

    id: str
    text: str
    source: str
    tag: Literal["V", "C", "U"]
    rule: str
    region: tuple[float, float]
    suite: str = "*"
    baseline: str = "none"
    methods: tuple[str, ...] = ("",)
    order: tuple[str, ...] = ()
    tuned: bool = False
    values: Values | None = None
    grid: bool = False
    published: tuple[str, ...] = ()

    def sides(self, evidence: Evidence, method: str) -> Sides:
        """The arms behind each number; empty if the suite has nothing to test the claim by."""
        arms, values = evidence.records.suite.arms, self.values
        if self.order:
            ordered = [arm for name in self.order if (arm := evidence.label(name)) and evidence.found(arm, *ENDED)]
            return {f"{a} over {b}": (a, b) for a, b in itertools.pairwise(ordered) if len(ordered) == len(self.order)}
        if self.tuned:
            best = [arm for one in (method, evidence.baseline) if (arm := tuning.best(evidence.rates, one))]
            ended = len(best) == 2 and all(evidence.found(arm, *ENDED) for arm in best)
            return {f"{best[0]} over {best[1]}": tuple(best)} if ended else {}
        if values:
            within = [arm for arm in arms if values.least <= values.value(arm) <= values.most]
            chosen = sorted((arm for arm in within if evidence.found(arm, *ENDED)), key=values.value)
            named = {f"{values.parameter} {values.value(arm):g}": (arm, evidence.baseline) for arm in chosen}
            return named if len(chosen) > 1 else {}
        return {method: (method, evidence.baseline)}

    @abstractmethod
    def measure(self, evidence: Evidence, name: str, *arms: str) -> Estimate | None:
        """One of the numbers; None if it does not exist."""

    def word(self, one: Estimate) -> str:
        """supported within the region, contradicted outside, else inconclusive; budget too short where it was."""
        (low, high), (value, least, most) = self.region, vars(one.interval).values()
        least, most = (least, most) if math.isfinite(least) else (value, value)
        inside, outside = low < least and most < high, most < low or least > high
        if one.n < verdicts.VERDICT_PAIRS and not one.undecided:
            return verdicts.PRELIMINARY if one.n >= verdicts.INTERVAL_PAIRS else verdicts.POINTS
        if one.undecided or not (inside or outside):
            return verdicts.INCONCLUSIVE
        late = one.censored[0] if outside else max(one.censored) * math.isfinite(high)
        word = verdicts.SUPPORTED if inside else verdicts.CONTRADICTED
        return verdicts.TOO_SHORT if late > verdicts.MOST_CENSORED else word


class Speedup(ClaimSpec):
    """A claim on the speedup of one arm over another; `about` so much, by the protocol's partition for such claims."""

    test: Literal["speedup"]
    about: float | None = Field(None, gt=verdicts.SAME)
    region: tuple[float, float] = (1.0, math.inf)

    def measure(self, evidence: Evidence, name: str, *arms: str) -> Estimate | None:
        """The speedup over the usable cells; None where a check failed or one has no pair."""
        usable = [cell for cell in evidence.cells if cell in evidence.bands and evidence.bands[cell].usable]
        bands, records = evidence.bands, evidence.records
        found = {cell: compared.versus(records, bands[cell], cell, arms[1], arms[0]) for cell in usable}
        if not usable or not all(found[cell].n and evidence.clean(cell, *arms) for cell in usable):
            return None
        one = pooling.pool_cells(found, evidence.alpha)
        sides = [side for cell in usable for side in compared.both_listed(records, cell, arms[1], arms[0])]
        runs = [run.run for side in sides for run in side if run.run in records.results]
        interval, more = Interval(one.speedup, one.low, one.high), evidence.more(one.n, len(usable))
        title = "speedup" if self.about else name
        return Estimate(title, interval, formats.interval(interval), one.n, runs, more, one.censored)

    def word(self, one: Estimate) -> str:
        """With `about`, not by the region."""
        low, high = one.interval.low, one.interval.high
        return verdicts.claim(low, high, self.about, one.n, one.censored) if self.about else super().word(one)


class Ratio(ClaimSpec):
    """A claim on the ratio arm / baseline of a quantity of complete runs; one nearer to 1 than `gap` says nothing."""

    test: Literal["ratio"]
    quantity: str  # distance at the full budget, seconds per image, or the name of a probe
    region: tuple[float, float] = (-math.inf, 1.0)
    gap: float = 0.0

    def measure(self, evidence: Evidence, name: str, *arms: str) -> Estimate | None:
        """The ratio; open where a cell has no pair, or the machine was not quiet by the null arm."""
        title = name if self.values else f"{self.quantity.replace('_', ' ')}, arm / baseline,"
        one = self.ratio(evidence, title, arms[0])
        null = self.ratio(evidence, "null arm", evidence.baseline, "null") if self.quantity == SECONDS else None
        if one and null and (null.interval.low < 1 / self.region[1] or null.interval.high > self.region[1]):
            return replace(one, undecided=True, more=f"{one.more}; the machine was not quiet: {null.said}")
        return one

    def ratio(self, evidence: Evidence, name: str, arm: str, role: Role = "paired") -> Estimate | None:
        """The geometric mean over cells, from pairs of complete runs; None where a check failed in one.

        A cell with planned runs and no such pair leaves it undecided: no cell is left out for what happened in it.
        """
        logs, used, unread, empty, records = [], [], [], [], evidence.records
        if not all(evidence.clean(cell, tree.NULL if role == "null" else arm) for cell in evidence.cells):
            return None
        for cell in evidence.cells:
            base = {run.seed: run for run in records.found(cell, "paired", evidence.baseline)}
            pairs = [(run, base[run.pair]) for run in records.found(cell, role, arm) if run.pair in base]
            ended = [pair for pair in pairs if {run.status for run in pair} == {"complete"}]
            values = {run.run: self.value(run) for pair in ended for run in pair}
            odd = [run for run, value in values.items() if not 0 < value < math.inf]
            read = [(run.run, other.run) for run, other in ended if not {run.run, other.run} & set(odd)]
            logs += [np.array([math.log(values[run] / values[other]) for run, other in read])] if read else []
            used += [run for pair in read for run in pair]
            unread += odd
            empty += [cell] if not read and records.listed(cell, role, arm) else []
        if not logs:
            return None
        mean, n = compared.mean_interval(logs, evidence.alpha), min(map(len, logs))
        interval, more = Interval(*(math.exp(end) for end in vars(mean).values())), evidence.more(n, len(logs))
        if n >= verdicts.INTERVAL_PAIRS:
            whole = sum(group.mean() for group in logs)
            moved = [np.delete(group, i).mean() - group.mean() for group in logs for i in range(len(group))]
            ends = [formats.ratio(math.exp((whole + end) / len(logs))) for end in (min(moved), max(moved))]
            more += f", {' to '.join(ends)} with any one pair left out"
        more += f"; no pair to judge by in {', '.join(empty)}" * bool(empty)
        more += f"; {formats.plural(len(unread), 'run')} without a finite number and left out" * bool(unread)
        small = n >= verdicts.VERDICT_PAIRS and abs(mean.value) < math.log1p(self.gap)
        shown = formats.interval(interval)
        return Estimate(name, interval, shown, n, [*used, *unread], more, undecided=bool(empty) or small)

    def value(self, run: Result) -> float:
        """The quantity of a run."""
        if self.quantity == FINAL:
            return run.evaluations[-1].fid if run.evaluations else math.nan
        return compared.pace(run) if self.quantity == SECONDS else run.probe(self.quantity)


class Exponent(ClaimSpec):
    """A claim on the exponent of depth, arm - baseline, or of the arm's `own` in every family of backbones."""

    test: Literal["exponent"]
    region: tuple[float, float] = (-math.inf, 0.0)
    growing: Literal["late", "start"] = "late"
    own: bool = False

    def sides(self, evidence: Evidence, method: str) -> Sides:
        """One number over the families; of the arm's own, one for each: one that falls makes up for no other."""
        arms = (method,) if self.own else (method, evidence.baseline)
        families = [name for name, those in self.exponents(evidence, *arms).items() if those and self.own]
        return dict.fromkeys(families or ["no seed with every depth of a family, or a single depth"], arms)

    def measure(self, evidence: Evidence, name: str, *arms: str) -> Estimate | None:
        """The mean over families of their exponents."""
        every = self.exponents(evidence, *arms)
        found = {name: every.get(name, {})} if self.own else every
        if not (used := [np.array(list(those.values())) for those in found.values() if those]):
            return None
        behind = [cell for cell in evidence.cells if found.get(stability.family(cell))]
        runs = [run.run for cell in behind for arm in arms for run in stability.measured(evidence.records, cell, arm)]
        lacking = [cell for cell in evidence.cells if found.get(stability.family(cell), True) == {}]
        interval, n = compared.mean_interval(used, evidence.alpha), min(map(len, used))
        title = f"exponent of depth, {name}" if self.own else "exponent of depth, arm - baseline:"
        more = evidence.more(n, len(evidence.cells) - len(lacking))
        return Estimate(title, interval, formats.interval(interval, "", "+.2f"), n, runs, more)

    def exponents(self, evidence: Evidence, arm: str, *baseline: str) -> dict[str, dict[int, float]]:
        """By family and seed: the arm's, or its difference to the baseline."""
        found = {}
        for family in dict.fromkeys(map(stability.family, evidence.cells)):
            mine, *base = (stability.exponents(evidence.records, family, one, self.growing) for one in (arm, *baseline))
            common = [seed for seed in mine if all(seed in those for those in base)]
            found[family] = {seed: mine[seed] - sum(those[seed] for those in base) for seed in common}
        return found


class Parameters(ClaimSpec):
    """A claim on the share of the backbone's parameters that a method adds, in every cell."""

    test: Literal["parameters"]

    def sides(self, evidence: Evidence, method: str) -> Sides:
        """A number for each cell."""
        return {cell: (method,) for cell in evidence.cells if evidence.records.found(cell, "paired", method)}

    def measure(self, evidence: Evidence, name: str, *arms: str) -> Estimate | None:
        """The share in a cell."""
        run = evidence.records.found(name, "paired", arms[0])[-1]
        share = number(run.start.get("method_params")) / number(run.start.get("backbone_params"))
        one = Estimate(name, Interval(share), formats.percent(share, ".2f"), verdicts.VERDICT_PAIRS, [run.run])
        return one if math.isfinite(share) else None


Kinds = Speedup | Ratio | Exponent | Parameters
