"""The tree of a report: every number of the tables, the figures and the page. report.json is exactly this tree.

Numbers that do not exist are nan here and null in the file. `runs` names the run folders behind an entry's numbers.
Ratios are baseline over arm, above 1 where the arm is faster, unless the comment says otherwise. What the statistics
made (Band, Comparison, Interval, NullTest, Pooled) stands in the tree as it is, described in `reports.analysis`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from reports.analysis.bands import Band
from reports.analysis.comparisons import Comparison, Interval
from reports.analysis.pooling import NullTest, Pooled
from reports.records.files import read_json
from reports.records.reading import PROTOCOL
from reports.records.suite_records import Listed

SCHEMA = 4  # version of this tree
# The speedup that a paper claims in its abstract, whose it is and of which methods, by the baseline that it is over.
CLAIMED = {"none": (1.5, "the paper", "constant and learnable"), "plain": (4.4, "Skip-DiT", "norm_cat")}
NULL, FLOOR, PILOTS = "null arm", "noise floor", "pilots"  # how the report calls runs of these roles
NO_INTERVAL = Interval()


@dataclass(frozen=True)
class Note:
    """A sentence of the report."""

    text: str  # what holds
    runs: list[str]  # that it rests on
    method: str = ""  # the arm that it answers for
    verdict: str = ""  # the word of that answer, with the scale


@dataclass(frozen=True)
class TuningRow:
    """A method at a learning rate in the tuning runs, against itself at the suite's own."""

    method: str  # without its rate
    rate: float  # factor on the suite's learning rate
    speedup: Interval  # over the usable cells, 95 %
    best: bool  # whether it is the fastest of the method's rates
    diverged: int  # runs
    runs: list[str]  # behind it


@dataclass(frozen=True)
class Measure:
    """Everything that a distance must be stated with."""

    name: str  # "FID" for Inception, else "Frechet distance (extractor)"
    extractor: str  # name of the feature network
    extractor_digest: str | None  # sha256 of its weights
    samples: int  # generated images per evaluation
    reference: str  # name of the reference set
    reference_size: int | None  # images in it
    reference_digest: str | None  # sha256 of its statistics
    resize: str | None  # of images for the extractor
    quantisation: str  # of the samples, before they are measured
    sampler: str  # name of the sampler
    nfe: int | None  # function evaluations per sample
    ema: str  # of the weights that are sampled from


@dataclass(frozen=True)
class CellRow:
    """What belongs to a cell, a dataset with a backbone, and to no arm."""

    cell: str  # dataset/backbone
    dataset: str  # its dataset
    backbone: str  # its backbone
    tau: float  # budget, training images
    evaluations: int  # planned per run
    band: Band | None  # null: not frozen yet
    state: str  # "usable", or why the cell is in no pooled number
    measure: Measure | None  # null as long as no run has begun
    progress: float  # mean over baselines: distance at the end over that after a tenth of the budget
    too_small: bool  # whether that progress is above a third, too little training to say much
    unread: list[str]  # complete baselines that are not in it, for want of a finite distance
    noise: float  # coefficient of variation of an evaluation over sampling seeds, mean over the pilots
    runs: list[str]  # that the noise was measured on


@dataclass(frozen=True)
class Arm:
    """An arm, the null arm or the noise floor in a cell, compared with the baseline."""

    cell: str  # dataset/backbone
    method: str  # label of the method, "null arm" or "noise floor"
    role: str  # paired, null or floor
    runs: list[str]  # of both sides
    withheld: str  # the failed check for which no number is shown; "" if numbers are shown
    result: Comparison | None  # null: withheld, or no band yet
    images: tuple[float, float] = (math.nan, math.nan)  # to the band, geometric means of baseline and arm
    seconds: Interval = NO_INTERVAL  # the speedup in training seconds at each run's mean pace, 95 %
    flops: Interval = NO_INTERVAL  # the speedup in floating-point operations, 95 %


@dataclass(frozen=True)
class Pool:
    """An arm over all usable cells."""

    method: str  # label of the arm
    result: Pooled | None  # with the one deciding interval; null: a check failed in a cell, or no cell has a band
    withheld: str  # why there is no result
    claim: str  # verdict about the speedup that is claimed over the baseline (`claimed`); "" where none is
    runs: list[str]  # of the cells in it


@dataclass(frozen=True)
class Spread:
    """Standard deviation of d, the log speedup, of the noise floor, an arm or the null arm."""

    cell: str  # dataset/backbone, or "all cells": pooled by degrees of freedom
    method: str  # label of the arm, "null arm" or "noise floor"
    sd: Interval  # with its 95 % chi-square interval
    pairs: int  # behind it


@dataclass(frozen=True)
class Beside:
    """A further distance in a cell, which decides nothing: does it order the networks as the suite's own does?"""

    cell: str  # dataset/backbone
    extractor: str  # name of its feature network
    digest: str | None  # sha256 of its weights
    order: float  # Spearman's correlation with the suite's own distance, over all evaluations of all runs
    evaluations: int  # behind it
    last: float  # the same over the last evaluations of the runs that came to the end
    ended: int  # behind it
    data_spread: float  # standard deviation of the reference images' means, in [-1, 1]
    spread: float  # of the samples' means at the end, the median over those runs
    runs: list[str]  # behind all of it


@dataclass(frozen=True)
class Line:
    """Something over something, of an arm in a cell: what the figures draw."""

    cell: str  # dataset/backbone, or a family of backbones
    method: str  # label of the arm; "pilots" for the pilots
    what: str  # distance, levels, or what was probed: see sections.yaml
    name: str  # in the legend
    x: list[float]  # training images, levels, blocks, skips or diffusion times
    middle: list[float]  # geometric mean over seeds
    low: list[float]  # lower end of its band; the lowest seed where nothing else is said
    high: list[float]  # upper end
    seeds: list[int]  # number of seeds at each point
    runs: list[str]  # behind the line


@dataclass(frozen=True)
class RunRow(Listed):
    """One listed run, as suite.json has it, and its result."""

    status: str = "missing"  # missing, running, stopped, failed, complete, diverged or not needed: see `State`
    reason: str | None = None  # why it diverged
    images: int = 0  # trained so far
    seconds: float = math.nan  # on the training clock
    resumes: int = 0  # how often it was taken up again
    params: int | None = None  # parameters of the network, its method included
    flops: float | None = None  # forward pass of one image
    final_fid: float = math.nan  # distance at the full budget
    final_kid: float = math.nan  # kernel distance there
    unread: int = 0  # evaluations without a finite distance


@dataclass(frozen=True)
class Failure:
    """One failed check."""

    cell: str  # dataset/backbone
    method: str  # the arm that it touches; "" for all
    check: str  # its name
    field: str  # of the records
    runs: list[str]  # that fail, or of the failing pair
    what: str  # what was found

    def __str__(self) -> str:
        return f"{self.cell}: {self.check}: {self.field}: {self.what} ({', '.join(self.runs)})"


@dataclass(frozen=True)
class Network:
    """The network of an arm in a cell."""

    cell: str  # dataset/backbone
    method: str  # its method
    params: int | None  # all parameters
    method_params: int | None  # of the method
    flops: float | None  # forward pass of one image, two per multiply-add
    size: float  # parameters over those of the dataset's first backbone with the same method
    cost: float  # FLOPs over those of that backbone
    runs: list[str]  # with this network


@dataclass(frozen=True)
class ClaimRow:
    """A claim of the paper about a method, and what the suite says of it."""

    id: str  # name of the claim
    method: str  # that it is tested for; "" if for none
    text: str  # the claim in our words
    source: str  # where it stands; "unverified" if it is only recalled
    rule: str  # when it holds
    probes: bool  # whether probes measure it
    level: float  # of its intervals
    verdict: str  # the word
    estimate: str  # the number that decides, with its interval
    evidence: str  # the numbers in words: arms with all parameters, over how many cells, how many runs diverged
    runs: list[str]  # behind the evidence
    published: list[str]  # figures from outside beside it, each called published, computed or unverified


@dataclass(frozen=True)
class Probed:
    """What the probes measured of an arm in a cell: geometric means over seeds, of the second half of training."""

    cell: str  # dataset/backbone
    method: str  # the arm
    skips: int  # long skips of the network, N
    n: int  # seeds
    runs: list[str]  # their names
    kappas: list[float] | None  # factors, shallowest skip first; null for a method without fixed ones
    sum_squares: float  # the theory's sum of kappa_j^2; null without fixed factors
    bound: float  # the theory's bound on the response with all Lipschitz constants 1: sum of kappa_j + 1
    values: dict[str, float]  # by name of the probe; feature_start, feature_shallowest: of the shallowest decoder block
    spikes: float  # of the loss: how many, mean over seeds
    largest_spike: float  # loss over the median before it, the largest of all seeds; 1: none


@dataclass(frozen=True)
class Growth:
    """Growth of the feature norm with the number N of long skips, in a family of backbones: exponents p of N^p."""

    family: str  # dataset/family
    method: str  # the arm
    n: int  # seeds
    predicted: float  # by theory; null for gates
    exponents: dict[str, Interval]  # 95 %; start: initial weights, late: second half, mean: its mean over blocks
    runs: list[str]  # behind them


@dataclass(frozen=True)
class Agreement:
    """Agreement with the committed result of this suite."""

    note: str  # why nothing was compared, or that the reference is of other data; else ""
    compared: int = 0  # number of speedups
    outside: tuple[str, ...] = ()  # a sentence per speedup outside its prediction interval
    refused: bool = False  # whether the reference is of another configuration or schema


@dataclass(frozen=True, kw_only=True)
class Report:
    """report.json."""

    schema: int = SCHEMA  # version of this tree
    protocol: int = PROTOCOL  # version of the measurement protocol
    suite: str  # name of its folder
    title: str  # of the suite
    scale: str  # mini or full
    baseline: str  # what the arms are compared with
    null_method: str  # what the null arm trains
    arms: list[str]  # labels, the baseline among them
    seeds: dict[str, list[int]]  # by role
    level: float  # of the deciding intervals: 1 - .05 / number of planned arms, of which looks have shares
    looks: list[int] = field(default_factory=list)  # pairs after which an arm with a verdict is not trained on
    trial: bool = False  # too small to conclude anything
    banner: str = ""  # "" unless the null arm failed or the suite is a trial
    question: str = ""  # what the suite asks
    answers: list[Note] = field(default_factory=list)  # one per arm
    notes: list[Note]  # what stands in the way of the answers, and the rest that holds
    cells: list[CellRow]  # per dataset and backbone
    comparisons: list[Arm]  # per cell: every arm, the null arm, the noise floor
    pooled: list[Pool]  # per arm
    null: NullTest | None  # the null arm over cells; null: none of its runs can be compared
    spreads: list[Spread]  # per cell and over cells
    tuning: list[TuningRow]  # learning rates tried on other seeds, in a suite that gives rates
    controls: dict[str, Pooled]  # positive control: baselines slowed by a factor, against the unchanged null arm
    beside: list[Beside] = field(default_factory=list)  # further distances; empty where the suite measures none
    lines: list[Line]  # what the figures draw
    checks: dict[str, str]  # what must hold, by the name of the check
    failures: list[Failure]  # of checks
    missing: list[str]  # listed runs that have not begun
    diverged: list[str]  # runs that ended in a loss that is not finite
    runs: list[RunRow]  # every listed run
    networks: list[Network]  # per cell and method
    claims: list[ClaimRow]  # of the paper, judged; empty against another baseline
    probed: list[Probed]  # per cell and arm, what its probes measured; empty without probes, as the next two
    growth: list[Growth]  # of norms with depth, per family and arm
    correlations: dict[str, dict[str, float]]  # Spearman's, theory and measurement, by cell (or mean), quantity
    made: dict[str, str]  # how it was made, each value once
    reference: Agreement = Agreement("not compared with another baseline")  # with the committed result

    @property
    def claimed(self) -> tuple[float, str, str] | None:
        """The speedup that a paper claims over the baseline, whose it is and of which methods."""
        return CLAIMED.get(self.baseline)

    @property
    def compares(self) -> bool:
        """Whether it is a suite of comparisons: one of measurements has no pilots."""
        return bool(self.seeds["pilots"])


def speedup(one: Arm | Pool) -> Interval:
    """The speedup with its interval; nan where there is none."""
    return Interval(one.result.speedup, one.result.low, one.result.high) if one.result else Interval()


def line(
    cell: str, method: str, what: str, x: Sequence[float], three: Any, seeds: list[int], runs: list[str], name: str = ""
) -> Line:
    """A line from its middle, low and high values, to the six digits that a figure shows."""
    middle, low, high = ([float(f"{value:.6g}") for value in values] for values in three)
    return Line(cell, method, what, name or method, list(map(float, x)), middle, low, high, seeds, runs)


def encode(content: object) -> str:
    """A dataclass as strict JSON, one line per entry of a list, so that two files can be compared line by line."""
    plain = json.loads(TypeAdapter(type(content)).dump_json(content))

    def lines(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in value) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {lines(value)}" for key, value in plain.items()) + "\n}\n"


def decode(path: Any) -> Report:
    """The tree in a file; ValueError, one line, if it is of another schema."""
    content = read_json(path)
    if (found := content.get("schema") if isinstance(content, dict) else content) != SCHEMA:
        raise ValueError(f"{path}: schema {found!r}, this reader knows {SCHEMA}; make it again with: make tables")
    return restore(Report, content)  # type: ignore[no-any-return]


def restore(kind: Any, value: Any) -> Any:
    """What `encode` wrote, as its type says: null is nan where a number belongs. What an older version did not write
    has its default."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is float:
        return math.nan if value is None else float(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(**{key: restore(hint, value[key]) for key, hint in get_type_hints(kind).items() if key in value})
    if origin is UnionType:
        return None if value is None else restore(inner[0], value)
    if origin is dict:
        return {key: restore(inner[1], item) for key, item in value.items()}
    if origin in (list, tuple):
        kinds = inner if origin is tuple and inner[-1] is not Ellipsis else inner[:1] * len(value)
        return origin(map(restore, kinds, value))
    return value
