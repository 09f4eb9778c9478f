"""Claims of the paper as data (claims.yaml), how each kind of them is tested, and what a suite says of it.

A claim rests on one number or several, each over cells with the interval that decides. All numbers are made on the same
seeds. Claims about a part of the cells are a family of their own.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports.analysis import pooling, verdicts
from reports.analysis.comparisons import Interval
from reports.analysis.planning import ALPHA
from reports.records import labels
from reports.records.event_log import number
from reports.records.suite_records import Records, Result, Role
from reports.report import compared, formats, stability, tree

FILE = Path(__file__).with_name("claims.yaml")
TAGS = {"V": "published", "C": "computed", "U": "unverified"}
ENDED = ("complete", "diverged")
# The verdict of several numbers: one that fails decides, then one that is open.
ORDER = [verdicts.POINTS, verdicts.PRELIMINARY, verdicts.CONTRADICTED, verdicts.TOO_SHORT, verdicts.INCONCLUSIVE]


@dataclass(frozen=True)
class Step:
    """A number with its deciding interval. n: fewest pairs of a cell; censored: shares of levels not reached."""

    shown: Interval
    n: int
    runs: list[str]
    estimate: str
    said: str
    censored: tuple[float, float] = (0.0, 0.0)

    def judge(self, low: float, high: float) -> str:
        """supported within (low, high), contradicted outside, else inconclusive; budget too short where it was."""
        if self.n < verdicts.VERDICT_PAIRS:
            return verdicts.PRELIMINARY if self.n >= verdicts.INTERVAL_PAIRS else verdicts.POINTS
        ends = (self.shown.low, self.shown.high) if math.isfinite(self.shown.low) else (self.shown.value,) * 2
        word = verdicts.SUPPORTED if low < ends[0] and ends[1] < high else verdicts.INCONCLUSIVE
        word = verdicts.CONTRADICTED if ends[1] < low or ends[0] > high else word
        short = self.censored[0] if word == verdicts.CONTRADICTED else max(self.censored) * math.isfinite(high)
        return verdicts.TOO_SHORT if word != verdicts.INCONCLUSIVE and short > verdicts.MOST_CENSORED else word


Sides = Mapping[str, tuple[str, ...]]  # the arms behind a number, by what to say where it does not exist


@dataclass(frozen=True)
class Evidence:
    """What tests look at: records, the cells that a claim is about, their bands and arms, and the level 1 - alpha."""

    records: Records
    cells: list[str]
    bands: compared.Bands
    arms: list[tree.Arm]
    alpha: float

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

    def runs(self, label: str, *statuses: str) -> list[str]:
        """The runs of an arm with these statuses."""
        found = [run for cell in self.cells for run in self.records.found(cell, "paired", label)]
        return [run.run for run in found if run.status in statuses]

    def clean(self, cell: str, *names: str) -> bool:
        """Whether no check failed for these arms."""
        return not any(arm.withheld for arm in self.arms if arm.cell == cell and arm.method in names)

    def speed(self, first: str, second: str, name: str) -> Step | None:
        """The speedup of one arm over another, over the usable cells; None where a check failed or no pair exists."""
        usable = [cell for cell in self.cells if cell in self.bands and self.bands[cell].usable]
        found = {cell: compared.versus(self.records, self.bands[cell], cell, second, first) for cell in usable}
        over = sum(result.n > 0 for result in found.values())
        if not over or not all(self.clean(cell, first, second) for cell in usable):
            return None
        one = pooling.pool_cells(found, self.alpha)
        both = [self.records.found(cell, "paired", label) for cell in usable for label in (first, second)]
        runs = [run.run for those in both for run in those]
        return self.step(name, Interval(one.speedup, one.low, one.high), one.n, runs, over, censored=one.censored)

    def ratio(self, arm: str, name: str, value: Callable[[Result], float], role: Role = "paired") -> Step | None:
        """The ratio arm / baseline of a positive number of each complete run, over the cells with a pair.

        None where a check failed in one of them: no cell is left out for what happened in it.
        """
        logs, runs = [], []
        for cell in self.cells:
            base = {run.seed: run for run in self.records.found(cell, "paired", self.baseline)}
            pairs = [(base[run.pair], run) for run in self.records.found(cell, role, arm) if run.pair in base]
            pairs = [pair for pair in pairs if {run.status for run in pair} == {"complete"}]
            pairs = [pair for pair in pairs if all(0 < value(run) < math.inf for run in pair)]
            if not self.clean(cell, tree.NULL if role == "null" else arm):
                return None
            if pairs:
                logs.append(np.array([math.log(value(a) / value(b)) for b, a in pairs]))
                runs += [run.run for pair in pairs for run in pair]
        if not logs:
            return None
        one = compared.mean_interval(logs, self.alpha)
        shown = Interval(*(math.exp(end) for end in (one.value, one.low, one.high)))
        return self.step(name, shown, min(map(len, logs)), runs, len(logs), more=_without_one(logs))

    def slope(self, name: str, exponents: Mapping[str, Mapping[int, float]], *arms: str) -> Step | None:
        """The mean over families of backbones of exponents of depth, given by family and seed."""
        used = {family: np.array(list(those.values())) for family, those in exponents.items() if those}
        if not used:
            return None
        behind = [cell for cell in self.cells if stability.family(cell) in used]
        runs = [run.run for cell in behind for arm in arms for run in stability.measured(self.records, cell, arm)]
        lacking = sum(stability.family(cell) in exponents for cell in self.cells) - len(behind)
        shown, n = compared.mean_interval(list(used.values()), self.alpha), min(map(len, used.values()))
        return self.step(name, shown, n, runs, len(self.cells) - lacking, "+.2f")

    def step(
        self, name: str, shown: Interval, n: int, runs: list[str], over: int, form: str = ".2f", more: str = "",
        censored: tuple[float, float] = (0.0, 0.0),
    ) -> Step:  # fmt: skip
        """A number with how to say it, and over how many of the claim's cells where not over all."""
        estimate = formats.interval(shown, "" if "+" in form else "x", form)
        said = f"{name} {estimate}"
        said += f" over {over} of {formats.plural(len(self.cells), 'cell')}" * (over < len(self.cells))
        said += f" ({formats.plural(n, 'seed')})" * (n < verdicts.INTERVAL_PAIRS) + more
        return Step(shown, n, runs, estimate, said, censored)


def _without_one(logs: Sequence[Any]) -> str:
    """How far a ratio moves when one pair is left out; "" below three pairs."""
    if min(map(len, logs)) < verdicts.INTERVAL_PAIRS:
        return ""
    whole = sum(group.mean() for group in logs)
    without = [np.delete(group, i).mean() - group.mean() for group in logs for i in range(len(group))]
    ends = [formats.ratio(math.exp((whole + pick(without)) / len(logs))) for pick in (min, max)]
    return f", {' to '.join(ends)} with any one pair left out"


class Claim(BaseModel):
    """A claim: the interval of every number that it rests on must lie within `region`, by default a speedup above 1.

    The docstring of a kind is its rule.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    claim: str
    source: str
    tag: Literal["V", "C", "U"]
    suite: str = "*"
    methods: tuple[str, ...] = ("",)
    grid: bool = False
    published: tuple[str, ...] = ()

    def sides(self, evidence: Evidence, method: str) -> Sides:
        """The arms behind each number; empty if the suite has nothing to test the claim by."""
        return {method: (method, evidence.baseline)}

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        """One of the numbers; None if it does not exist."""
        return evidence.speed(arms[0], arms[1], name)

    @property
    def region(self) -> tuple[float, float]:
        """Where every interval must lie."""
        return 1.0, math.inf

    def word(self, step: Step) -> str:
        """The verdict of one number."""
        return step.judge(*self.region)


class Speedup(Claim):
    """About {number}x as fast as the baseline, by the protocol's partition for claims with a number."""

    test: Literal["speedup"]
    number: float

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        return super().step(evidence, "speedup", *arms)

    def word(self, step: Step) -> str:
        word = verdicts.claim(step.shown.low, step.shown.high, self.number, step.n, step.censored)
        return verdicts.POINTS if word == verdicts.NOT_TESTED else word


class Below(Claim):
    """A claim about another number than a speedup, that it is below `most`."""

    most: float

    @property
    def region(self) -> tuple[float, float]:
        return -math.inf, self.most


class Lower(Below):
    """supported: interval of the {quantity}, arm / baseline, below {most:g}; contradicted: above it."""

    test: Literal["lower"]
    quantity: str  # distance at the full budget, seconds per image, or the name of a probe
    most: float = 1.0
    gap: float = 0.0  # a smaller relative difference is not discussed

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        step = evidence.ratio(arms[0], f"{self.quantity.replace('_', ' ')}, arm / baseline,", self.value)
        if step and self.quantity == "seconds per image":  # open where the null arm says that the machine was not quiet
            null = evidence.ratio(evidence.baseline, "null arm", self.value, "null")
            if null and (null.shown.low < 1 / self.most or null.shown.high > self.most):
                said = f"{step.said}; the machine was not quiet: {null.said}"
                return replace(step, said=said, censored=(math.inf, 0))
        return step

    def value(self, run: Result) -> float:
        """The quantity of a run."""
        if self.quantity == "distance at the full budget":
            return run.evaluations[-1].fid if run.evaluations else math.nan
        return compared.pace(run) if self.quantity == "seconds per image" else run.probe(self.quantity)

    def word(self, step: Step) -> str:
        small = abs(math.log(step.shown.value)) < math.log1p(self.gap) or math.isinf(step.censored[0])
        return verdicts.INCONCLUSIVE if small and step.n >= verdicts.VERDICT_PAIRS else super().word(step)


class Order(Claim):
    """supported: interval of each method over the next above 1, or within [1/1.1, 1.1] if they shall be the same;
    contradicted: one outside."""

    test: Literal["order"]
    order: tuple[str, ...]
    same: bool = False

    def sides(self, evidence: Evidence, method: str) -> Sides:
        arms = [arm for name in self.order if (arm := evidence.label(name)) and evidence.runs(arm, *ENDED)]
        return {f"{a} over {b}": (a, b) for a, b in itertools.pairwise(arms) if len(arms) == len(self.order)}

    @property
    def region(self) -> tuple[float, float]:
        return (1 / verdicts.SAME, verdicts.SAME) if self.same else super().region


class Tuned(Claim):
    """supported: interval over the baseline above 1 at each of its learning rates; contradicted: below 1 at one."""

    test: Literal["tuned"]

    def sides(self, evidence: Evidence, method: str) -> Sides:
        rates = [arm for arm in evidence.records.suite.arms if labels.read(arm)[0] == evidence.baseline]
        ended = len(rates) > 1 and all(evidence.runs(arm, *ENDED) for arm in (method, *rates))
        return {f"over {arm}": (method, arm) for arm in rates if ended}


class Range(Claim):
    """supported: interval over the baseline above 1, of a probe below 1, for each of two or more
    values of {parameter} in [{least}, {most}]; contradicted: one outside."""

    test: Literal["range"]
    method: str
    parameter: str
    least: float
    most: float
    default: float
    probe: str = ""

    def sides(self, evidence: Evidence, method: str) -> Sides:
        within = [arm for arm in evidence.records.suite.arms if self.least <= self.value(arm) <= self.most]
        arms = sorted((arm for arm in within if evidence.runs(arm, *ENDED)), key=self.value)
        return {f"{self.parameter} {self.value(arm):g}": (arm, evidence.baseline) for arm in arms if len(arms) > 1}

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        if self.probe:
            return evidence.ratio(arms[0], name, lambda run: run.probe(self.probe))
        return super().step(evidence, name, *arms)

    @property
    def region(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.probe else super().region

    def value(self, label: str) -> float:
        """The parameter in an arm's label, its default if it is not written; nan for another method."""
        match = re.fullmatch(r"([^(]+)(?:\((.*)\))?", label)
        given = dict(part.strip().split("=", 1) for part in (match[2] or "").split(",") if "=" in part) if match else {}
        return number(given.get(self.parameter, self.default)) if match and match[1] == self.method else math.nan


class Exponent(Below):
    """supported: interval of the exponent of depth, arm - baseline, or of the arm's own in every family,
    below {most:g}; contradicted: above it."""

    test: Literal["exponent"]
    growing: Literal["late", "start"] = "late"
    own: bool = False
    most: float = 0.0

    def sides(self, evidence: Evidence, method: str) -> Sides:
        arms = (method,) if self.own else (method, evidence.baseline)
        families = [name for name, those in self.exponents(evidence, *arms).items() if those and self.own]
        # One family that falls must not make up for another that grows.
        return dict.fromkeys(families or ["no seed with every depth of a family, or a single depth"], arms)

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        found = self.exponents(evidence, *arms)
        if self.own:
            return evidence.slope(f"exponent of depth, {name}", {name: found.get(name, {})}, *arms)
        return evidence.slope("exponent of depth, arm - baseline:", found, *arms)

    def exponents(self, evidence: Evidence, arm: str, *baseline: str) -> dict[str, dict[int, float]]:
        """By family and seed: the arm's, or its difference to the baseline."""
        found = {}
        for family in dict.fromkeys(map(stability.family, evidence.cells)):
            mine, *base = (stability.exponents(evidence.records, family, one, self.growing) for one in (arm, *baseline))
            common = [seed for seed in mine if all(seed in those for those in base)]
            found[family] = {seed: mine[seed] - sum(those[seed] for those in base) for seed in common}
        return found


class Parameters(Below):
    """supported: at most {most:.0%} of the backbone's parameters in every cell."""

    test: Literal["parameters"]

    def sides(self, evidence: Evidence, method: str) -> Sides:
        return {cell: (method,) for cell in evidence.cells if evidence.records.found(cell, "paired", method)}

    def step(self, evidence: Evidence, name: str, *arms: str) -> Step | None:
        run = evidence.records.found(name, "paired", arms[0])[-1]
        if "method_params" not in run.start:
            return None
        share = run.start["method_params"] / run.start["backbone_params"]
        said = formats.percent(share, ".2f")
        return Step(Interval(share), verdicts.VERDICT_PAIRS, [run.run], said, f"{name} {said}")


class Published(BaseModel):
    """A figure from outside."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    tag: Literal["V", "C", "U"]
    source: str
    text: str


class Grid(BaseModel):
    """Datasets and backbones that claims are also asked of alone, in one suite: how they begin, and their names."""

    suite: str
    datasets: dict[str, str]
    backbones: dict[str, str]


Kinds = Speedup | Lower | Order | Tuned | Range | Exponent | Parameters
AnyClaim = Annotated[Kinds, Field(discriminator="test")]


class Claims(BaseModel):
    """The content of claims.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    grid: Grid
    claims: tuple[AnyClaim, ...]
    published: tuple[Published, ...]

    def rows(self) -> list[tuple[Kinds, str]]:
        """Every claim with a pattern of its cells: all, and one by one those of the grid."""
        found: list[tuple[Kinds, str]] = []
        for claim in self.claims:
            found.append((claim, "*"))
            for dataset, backbone in itertools.product(self.grid.datasets, self.grid.backbones) if claim.grid else ():
                where = f"{self.grid.datasets[dataset]} with {self.grid.backbones[backbone]}"
                text, name = f"{claim.claim.removesuffix('.')}: {where}.", f"{claim.id}-{dataset}-{backbone}"
                shown = claim.published or (f"{dataset}-{backbone}-*",)
                changes: Any = {"id": name, "claim": text, "suite": self.grid.suite, "published": shown}
                found.append((claim.model_copy(update=changes), f"{dataset}/{backbone}-*"))
        return found

    def beside(self, claim: Claim, method: str) -> list[str]:
        """The published figures beside a claim about a method: its own, the baseline's, and those of no method."""
        others = {"inv_sqrt2", "constant", "learnable"} - {method} if method else set()
        those = [one for one in self.published if one.id.rpartition("-")[2] not in others]
        those = [one for one in those if any(fnmatch.fnmatchcase(one.id, pattern) for pattern in claim.published)]
        return [f"{TAGS[one.tag]}: {one.text} ({one.source})" for one in those]


@functools.cache
def load(path: Path = FILE) -> Claims:
    """The claims; ValueError, one line, naming the claim, the field, what is wrong and the choices."""
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        found = Claims.model_validate(content)
    except ValidationError as error:
        (kind, at, *rest), said = error.errors()[0]["loc"], error.errors()[0]["msg"]
        where = f"{content[kind][at].get('id', at)}: {'.'.join(map(str, rest))}"
        raise ValueError(f"{path.name}: {where}: {said}") from None
    for those in (found.claims, found.published):
        ids = [one.id for one in those]
        if twice := [name for name in ids if ids.count(name) > 1]:
            raise ValueError(f"{path.name}: id {twice[0]!r} is given twice")
    return found


def judge(records: Records, bands: compared.Bands, arms: Sequence[tree.Arm]) -> list[tree.Claim]:
    """Every claim, a row per method that it is about, with its verdict on this suite."""
    rows, alpha = [], ALPHA / max(len(records.suite.arms) - 1, 1)
    for claim, pattern in load().rows():
        cells = [cell.name for cell in records.suite.cells if fnmatch.fnmatchcase(cell.name, pattern)]
        begun = any(run.cell in cells for run in records.results.values())
        rows.append((claim, cells, pattern != "*" and begun and fnmatch.fnmatchcase(records.suite.suite, claim.suite)))
    subset = alpha / max(sum(part for *_, part in rows), 1)
    found = []
    for claim, cells, part in rows:
        mine = [arm for arm in arms if arm.cell in cells]
        evidence = Evidence(records, cells, bands, mine, subset if part else alpha)
        found += [_row(claim, method, evidence) for method in claim.methods]
    return found


def _row(claim: Kinds, method: str, evidence: Evidence) -> tree.Claim:
    source = claim.source + ", unverified" * (claim.tag == "U")
    rule = " ".join((type(claim).__doc__ or "").format(**claim.model_dump()).split())
    probes = isinstance(claim, Exponent) or claim.suite.startswith("stability")
    said, published = _finding(claim, method, evidence), load().beside(claim, method)
    return tree.Claim(claim.id, method, claim.claim, source, rule, probes, 1 - evidence.alpha, *said, published)


def _finding(claim: Kinds, method: str, evidence: Evidence) -> tuple[str, str, str, list[str]]:
    """Verdict, the number that decides it, the evidence in words, and the runs behind it."""
    label = evidence.label(method) if method else ""
    sides: Sides = {}
    if not fnmatch.fnmatchcase(evidence.records.suite.suite, claim.suite):
        return verdicts.NOT_TESTED, "", f"needs the suite {claim.suite}", []
    if label is not None and label != evidence.baseline and (not label or evidence.runs(label, *ENDED)):
        sides = claim.sides(evidence, label)
    if not sides:
        few = f"; needs at least two values of {claim.parameter}" if isinstance(claim, Range) else ""
        return verdicts.NOT_TESTED, "", f"no run of it in this suite{few}", []
    steps = {name: claim.step(evidence, name, *those) for name, those in sides.items()}
    numbers, lacking = [step for step in steps.values() if step], [name for name, step in steps.items() if not step]
    words = [claim.word(step) for step in numbers]
    word = next((word for word in ORDER if word in words), words[0] if words else verdicts.INCONCLUSIVE)
    word = verdicts.INCONCLUSIVE if lacking and word not in ORDER[:3] else word
    decides = next((step for step, said in zip(numbers, words, strict=True) if said == word), None)
    parts = [step.said for step in numbers] + [f"no number to judge by: {name}" for name in lacking if name != label]
    parts = parts or ["no number to judge by: no pair of runs that came to the end, may be compared and measured it"]
    arms = {arm for those in sides.values() for arm in those if not isinstance(claim, Parameters)}
    lost = [run for arm in arms for run in evidence.runs(arm, "diverged")]
    counted = not isinstance(claim, Below) and not (isinstance(claim, Range) and claim.probe)  # not reaching the band
    parts += [f"{formats.plural(len(lost), 'run')} diverged{'' if counted else ' and left out'}"] * bool(lost)
    full = _full(evidence.records, label or "")
    said = f"{full}: " * (full != method) + "; ".join(parts)
    runs = sorted({*(run for step in numbers for run in step.runs), *lost})
    return word, decides.estimate if decides else "", said, runs


def _full(records: Records, label: str) -> str:
    """An arm with every parameter of its method, as its runs have it."""
    spec: dict[str, Any] = next((run.spec["method"] for run in records.results.values() if run.method == label), {})
    given = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
    return labels.join(f"{spec['name']}({given})", labels.read(label)[1]) if given else label
