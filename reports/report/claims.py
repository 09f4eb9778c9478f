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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
FINAL, PACE = "distance at the full budget", "seconds per image"  # quantities of a run; any other is a probe's name
NOTHING = Interval()
NO_PAIR = "no pair of runs that came to the end, may be compared and measured it"
NO_DEPTHS = "no seed with every depth of a family, or a single depth"


@dataclass(frozen=True)
class Number:
    """A number that a claim rests on, with its deciding interval."""

    arms: tuple[str, ...]  # behind it
    said: str  # in words, or why it does not exist
    estimate: str = ""  # "" where it does not exist
    interval: Interval = NOTHING
    n: int = 0  # fewest pairs of a cell
    runs: tuple[str, ...] = ()
    censored: tuple[float, float] = (0.0, 0.0)  # shares of levels not reached
    undecided: bool = False  # whatever the interval
    diverged: str = " and left out"  # what becomes of runs that diverged


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

    def clean(self, cells: Iterable[str], *names: str) -> bool:
        """Whether no check failed for these arms."""
        return not any(arm.withheld for arm in self.arms if arm.cell in cells and arm.method in names)

    def speedup(self, name: str, arm: str, other: str, absent: str = "") -> Number:
        """The speedup of one arm over another, over the usable cells; no number if one of them has no pair."""
        arms = (arm, other)
        usable = [cell for cell in self.cells if cell in self.bands and self.bands[cell].usable]
        found = {cell: compared.versus(self.records, self.bands[cell], cell, other, arm) for cell in usable}
        if not usable or not all(result.n for result in found.values()) or not self.clean(usable, *arms):
            return Number(arms, absent or name, diverged="")
        one = pooling.pool_cells(found, self.alpha)
        runs = [run.run for cell in usable for arm in arms for run in self.records.found(cell, "paired", arm)]
        made = self.number(name, arms, Interval(one.speedup, one.low, one.high), one.n, runs, len(usable))
        return replace(made, censored=one.censored, diverged="")

    def ratio(self, name: str, arm: str, quantity: str, role: Role = "paired", absent: str = "") -> Number:
        """The ratio arm / baseline of a positive quantity of complete runs.

        A cell with planned runs and no such pair leaves it undecided: no cell is left out for what happened in it.
        """
        logs, used, unread, empty, arms = [], [], [], [], (arm, self.baseline)
        for cell in self.cells:
            base = {run.seed: run for run in self.records.found(cell, "paired", self.baseline)}
            pairs = [(run, base[run.pair]) for run in self.records.found(cell, role, arm) if run.pair in base]
            ended = [pair for pair in pairs if {run.status for run in pair} == {"complete"}]
            values = {run.run: _measured(run, quantity) for pair in ended for run in pair}
            odd = [run for run, value in values.items() if not 0 < value < math.inf]
            read = [(run.run, other.run) for run, other in ended if run.run not in odd and other.run not in odd]
            logs += [np.array([math.log(values[run] / values[other]) for run, other in read])] if read else []
            used += [run for pair in read for run in pair]
            unread += odd
            empty += [cell] if not read and self.records.listed(cell, role, arm) else []
        if not logs or not self.clean(self.cells, tree.NULL if role == "null" else arm):
            return Number(arms, absent or name)
        one = compared.mean_interval(logs, self.alpha)
        shown = Interval(*(math.exp(end) for end in (one.value, one.low, one.high)))
        made = self.number(name, arms, shown, min(map(len, logs)), [*used, *unread], len(logs))
        said = made.said + _without_one(logs)
        said += f"; no pair to judge by in {', '.join(empty)}" * bool(empty)
        said += f"; {formats.plural(len(unread), 'run')} without a finite number and left out" * bool(unread)
        return replace(made, said=said, undecided=bool(empty))

    def exponent(self, name: str, exponents: Mapping[str, Mapping[int, float]], arms: tuple[str, ...]) -> Number:
        """The mean over families of backbones of exponents of depth, given by family and seed."""
        used = {family: np.array(list(those.values())) for family, those in exponents.items() if those}
        if not used:
            return Number(arms, NO_DEPTHS)
        behind = [cell for cell in self.cells if stability.family(cell) in used]
        runs = [run.run for cell in behind for arm in arms for run in stability.measured(self.records, cell, arm)]
        lacking = sum(stability.family(cell) in exponents for cell in self.cells) - len(behind)
        interval, n = compared.mean_interval(list(used.values()), self.alpha), min(map(len, used.values()))
        return self.number(name, arms, interval, n, runs, len(self.cells) - lacking, "+.2f")

    def number(
        self, name: str, arms: tuple[str, ...], interval: Interval, n: int, runs: Iterable[str], over: int,
        form: str = ".2f",
    ) -> Number:  # fmt: skip
        """A number with how to say it, and over how many of the claim's cells where not over all."""
        estimate = formats.interval(interval, "" if "+" in form else "x", form)
        said = f"{name} {estimate}"
        said += f" over {over} of {formats.plural(len(self.cells), 'cell')}" * (over < len(self.cells))
        said += f" ({formats.plural(n, 'seed')})" * (n < verdicts.INTERVAL_PAIRS)
        return Number(arms, said, estimate, interval, n, tuple(runs))


def _measured(run: Result, quantity: str) -> float:
    """A quantity of a run; nan if it has none."""
    if quantity == FINAL:
        return run.evaluations[-1].fid if run.evaluations else math.nan
    return compared.pace(run) if quantity == PACE else run.probe(quantity)


def _without_one(logs: Sequence[Any]) -> str:
    """How far a ratio moves when one pair is left out; "" below three pairs."""
    if min(map(len, logs)) < verdicts.INTERVAL_PAIRS:
        return ""
    whole = sum(group.mean() for group in logs)
    without = [np.delete(group, i).mean() - group.mean() for group in logs for i in range(len(group))]
    ends = [formats.ratio(math.exp((whole + pick(without)) / len(logs))) for pick in (min, max)]
    return f", {' to '.join(ends)} with any one pair left out"


class ClaimSpec(BaseModel):
    """A claim as claims.yaml states it: every interval must lie above `above` and below `below`.

    The docstring of a kind is its rule.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    text: str
    source: str
    tag: Literal["V", "C", "U"]
    suite: str = "*"
    methods: tuple[str, ...] = ("",)
    grid: bool = False
    published: tuple[str, ...] = ()
    above: float = -math.inf
    below: float = math.inf

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        """What it rests on for a method; empty if the suite has nothing to test it by."""
        raise NotImplementedError

    def verdict(self, number: Number) -> str:
        """supported within the region, contradicted outside, else inconclusive; budget too short where it was."""
        if number.undecided:
            return verdicts.INCONCLUSIVE
        if number.n < verdicts.VERDICT_PAIRS:
            return verdicts.PRELIMINARY if number.n >= verdicts.INTERVAL_PAIRS else verdicts.POINTS
        one, short = number.interval, max(number.censored) * math.isfinite(self.below)
        low, high = (one.low, one.high) if math.isfinite(one.low) else (one.value, one.value)
        word = verdicts.SUPPORTED if self.above < low and high < self.below else verdicts.INCONCLUSIVE
        if high < self.above or low > self.below:
            word, short = verdicts.CONTRADICTED, number.censored[0]
        return verdicts.TOO_SHORT if word != verdicts.INCONCLUSIVE and short > verdicts.MOST_CENSORED else word


class Speedup(ClaimSpec):
    """About {number}x as fast as the baseline, by the protocol's partition for claims with a number."""

    test: Literal["speedup"]
    number: float

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        return [evidence.speedup("speedup", method, evidence.baseline, absent=NO_PAIR)]

    def verdict(self, number: Number) -> str:
        word = verdicts.claim(number.interval.low, number.interval.high, self.number, number.n, number.censored)
        return verdicts.POINTS if word == verdicts.NOT_TESTED else word


class Lower(ClaimSpec):
    """supported: interval of the {quantity}, arm / baseline, below {below:g}; contradicted: above it."""

    test: Literal["lower"]
    quantity: str  # distance at the full budget, seconds per image, or the name of a probe
    below: float = 1.0
    gap: float = 0.0  # a smaller relative difference is not discussed

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        name = f"{self.quantity.replace('_', ' ')}, arm / baseline,"
        one = evidence.ratio(name, method, self.quantity, absent=NO_PAIR)
        if self.quantity == PACE and one.estimate:  # open where the null arm says that the machine was not quiet
            null = evidence.ratio("null arm", evidence.baseline, PACE, "null")
            if null.interval.low < 1 / self.below or null.interval.high > self.below:
                return [replace(one, said=f"{one.said}; the machine was not quiet: {null.said}", undecided=True)]
        small = one.n >= verdicts.VERDICT_PAIRS and abs(math.log(one.interval.value)) < math.log1p(self.gap)
        return [replace(one, undecided=one.undecided or small)]


class Order(ClaimSpec):
    """supported: interval of each method over the next above 1, or within [1/1.1, 1.1] if they shall be the same;
    contradicted: one outside."""

    test: Literal["order"]
    order: tuple[str, ...]
    above: float = 1.0

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        arms = [arm for name in self.order if (arm := evidence.label(name)) and evidence.runs(arm, *ENDED)]
        pairs = itertools.pairwise(arms) if len(arms) == len(self.order) else ()
        return [evidence.speedup(f"{first} over {second}", first, second) for first, second in pairs]


class Tuned(ClaimSpec):
    """supported: interval over the baseline above 1 at each of its learning rates; contradicted: below 1 at one."""

    test: Literal["tuned"]
    above: float = 1.0

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        rates = [arm for arm in evidence.records.suite.arms if labels.read(arm)[0] == evidence.baseline]
        ended = len(rates) > 1 and all(evidence.runs(arm, *ENDED) for arm in (method, *rates))
        return [evidence.speedup(f"over {arm}", method, arm) for arm in rates if ended]


class Range(ClaimSpec):
    """supported: interval over the baseline above 1, of a probe below 1, for each of two or more
    values of {parameter} in [{least}, {most}]; contradicted: one outside."""

    test: Literal["range"]
    method: str
    parameter: str
    least: float
    most: float
    default: float
    probe: str = ""

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        within = [arm for arm in evidence.records.suite.arms if self.least <= self.value(arm) <= self.most]
        arms = sorted((arm for arm in within if evidence.runs(arm, *ENDED)), key=self.value)
        names = {f"{self.parameter} {self.value(arm):g}": arm for arm in arms if len(arms) > 1}
        if self.probe:
            return [evidence.ratio(name, arm, self.probe) for name, arm in names.items()]
        return [evidence.speedup(name, arm, evidence.baseline) for name, arm in names.items()]

    def value(self, label: str) -> float:
        """The parameter in an arm's label, its default if it is not written; nan for another method or rate."""
        method, factor = labels.read(label)
        given = dict(re.findall(r"(\w+)=([^,)]+)", method))
        same = labels.bare(label) == self.method and factor == 1
        return number(given.get(self.parameter, self.default)) if same else math.nan


class Exponent(ClaimSpec):
    """supported: interval of the exponent of depth, arm - baseline, or of the arm's own in every family,
    below {below:g}; contradicted: above it."""

    test: Literal["exponent"]
    growing: Literal["late", "start"] = "late"
    own: bool = False
    below: float = 0.0

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        arms = (method,) if self.own else (method, evidence.baseline)
        found: dict[str, dict[int, float]] = {}
        for family in dict.fromkeys(map(stability.family, evidence.cells)):
            mine, *base = (stability.exponents(evidence.records, family, arm, self.growing) for arm in arms)
            common = [seed for seed in mine if all(seed in those for those in base)]
            found[family] = {seed: mine[seed] - sum(those[seed] for those in base) for seed in common}
        if not self.own or not any(found.values()):
            return [evidence.exponent("exponent of depth, arm - baseline:", found, arms)]
        # One family that falls must not make up for another that grows.
        families = {f"exponent of depth, {family}": {family: those} for family, those in found.items() if those}
        return [evidence.exponent(name, those, arms) for name, those in families.items()]


class Parameters(ClaimSpec):
    """supported: at most {below:.0%} of the backbone's parameters in every cell."""

    test: Literal["parameters"]
    below: float

    def numbers(self, evidence: Evidence, method: str) -> Sequence[Number]:
        runs = {cell: evidence.records.found(cell, "paired", method)[-1:] for cell in evidence.cells}
        return [_share(cell, run) for cell, those in runs.items() for run in those]


def _share(cell: str, run: Result) -> Number:
    """The parameters of a method over those of the backbone; it rests on no training."""
    if "method_params" not in run.start:
        return Number((), cell)
    share = run.start["method_params"] / run.start["backbone_params"]
    said = formats.percent(share, ".2f")
    return Number((), f"{cell} {said}", said, Interval(share), verdicts.VERDICT_PAIRS, (run.run,))


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


Kind = Speedup | Lower | Order | Tuned | Range | Exponent | Parameters


class ClaimsFile(BaseModel):
    """The content of claims.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    grid: Grid
    claims: tuple[Annotated[Kind, Field(discriminator="test")], ...]
    published: tuple[Published, ...]

    def rows(self) -> Iterator[tuple[ClaimSpec, str]]:
        """Every claim with a pattern of its cells: all, and one by one those of the grid."""
        for claim in self.claims:
            yield claim, "*"
            for dataset, backbone in itertools.product(self.grid.datasets, self.grid.backbones) if claim.grid else ():
                where = f"{self.grid.datasets[dataset]} with {self.grid.backbones[backbone]}"
                changes = {"id": f"{claim.id}-{dataset}-{backbone}", "suite": self.grid.suite}
                changes |= {"text": f"{claim.text.removesuffix('.')}: {where}."}
                shown = claim.published or (f"{dataset}-{backbone}-*",)
                yield claim.model_copy(update=changes | {"published": shown}), f"{dataset}/{backbone}-*"

    def beside(self, claim: ClaimSpec, method: str) -> list[str]:
        """The published figures beside a claim about a method: its own, the baseline's, and those of no method."""
        others = {"inv_sqrt2", "constant", "learnable"} - {method} if method else set()
        those = [one for one in self.published if one.id.rpartition("-")[2] not in others]
        those = [one for one in those if any(fnmatch.fnmatchcase(one.id, pattern) for pattern in claim.published)]
        return [f"{TAGS[one.tag]}: {one.text} ({one.source})" for one in those]


@functools.cache
def load(path: Path = FILE) -> ClaimsFile:
    """The claims; ValueError, one line, naming the claim, the field, what is wrong and the choices."""
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        found = ClaimsFile.model_validate(content)
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
        evidence = Evidence(records, cells, bands, list(arms), subset if part else alpha)
        found += [_row(claim, method, evidence) for method in claim.methods]
    return found


def _row(claim: ClaimSpec, method: str, evidence: Evidence) -> tree.Claim:
    source = claim.source + ", unverified" * (claim.tag == "U")
    rule = " ".join((type(claim).__doc__ or "").format(**claim.model_dump()).split())
    probes = isinstance(claim, Exponent) or claim.suite.startswith("stability")
    said, published = _finding(claim, method, evidence), load().beside(claim, method)
    return tree.Claim(claim.id, method, claim.text, source, rule, probes, 1 - evidence.alpha, *said, published)


def _finding(claim: ClaimSpec, method: str, evidence: Evidence) -> tuple[str, str, str, list[str]]:
    """Verdict, the number that decides it, the evidence in words, and the runs behind it."""
    if not fnmatch.fnmatchcase(evidence.records.suite.suite, claim.suite):
        return verdicts.NOT_TESTED, "", f"needs the suite {claim.suite}", []
    label = evidence.label(method) if method else ""
    begun = not label or (label != evidence.baseline and evidence.runs(label, *ENDED))
    found = claim.numbers(evidence, label) if label is not None and begun else ()
    if not found:
        few = f"; needs at least two values of {claim.parameter}" if isinstance(claim, Range) else ""
        return verdicts.NOT_TESTED, "", f"no run of it in this suite{few}", []
    words = {claim.verdict(one): one for one in reversed(found) if one.estimate}  # with the first number of each
    word = next((word for word in ORDER if word in words), next(reversed(words), verdicts.INCONCLUSIVE))
    if word not in ORDER[:3] and not all(one.estimate for one in found):
        word = verdicts.INCONCLUSIVE
    estimate = words[word].estimate if word in words else ""
    parts = [one.said for one in found if one.estimate]
    parts += [f"no number to judge by: {one.said}" for one in found if not one.estimate]
    lost = [run for arm in {arm for one in found for arm in one.arms} for run in evidence.runs(arm, "diverged")]
    parts += [f"{formats.plural(len(lost), 'run')} diverged{found[0].diverged}"] * bool(lost)
    full = _full(evidence.records, label or "")
    runs = sorted({*(run for one in found for run in one.runs), *lost})
    return word, estimate, f"{full}: " * (full != method) + "; ".join(parts), runs


def _full(records: Records, label: str) -> str:
    """An arm with every parameter of its method, as its runs have it."""
    spec: dict[str, Any] = next((run.spec["method"] for run in records.results.values() if run.method == label), {})
    given = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
    return labels.join(f"{spec['name']}({given})", labels.read(label)[1]) if given else label
