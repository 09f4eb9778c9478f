"""The schema of report.json, version 2: what each key holds. Every number of the tables, the figures and the page is in it.

Numbers that do not exist are null. `runs` of an entry names the run folders that its numbers were made from. Ratios are
baseline over arm, above 1 where the arm is faster, unless the comment says otherwise.
"""

from __future__ import annotations

from typing import Any, TypedDict

SCHEMA = 2


class Estimate(TypedDict):
    """A number with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Verdict(TypedDict):
    """One sentence of what holds."""

    text: str
    runs: list[str]


class Measure(TypedDict):
    """Everything that a distance must be stated with."""

    name: str  # "FID" for Inception, else "Frechet distance (extractor)"
    extractor: str
    extractor_digest: str | None
    samples: int
    reference: str  # name of the reference set
    reference_size: int | None
    reference_digest: str | None
    resize: str | None
    quantisation: str
    sampler: str
    nfe: int | None  # function evaluations per sample
    ema: str


class Rung(TypedDict):
    """One step of the target ladder, as frozen."""

    fraction: float  # of the budget at which the pilots reach it
    target: float
    flat: bool  # the fit is too flat here to read a time off it


class Cell(TypedDict):
    """What belongs to a cell and to no arm."""

    cell: str  # dataset/backbone
    dataset: str
    backbone: str
    tau: int  # budget, training images
    evaluations: int  # planned per run
    target: float | None  # null: not frozen yet, or nothing to read it from
    label: str  # "", "flat here", "budget too small", "targets not frozen"
    crossings: list[float | None]  # of the pilots, images
    ladder: list[Rung]
    measure: Measure | None  # null as long as no run has begun
    progress: float | None  # mean over baselines: distance at the end over that after a tenth of the budget
    noise: float | None  # coefficient of variation of an evaluation over sampling seeds, mean over the pilots that measured it
    noise_runs: list[str]
    runs: list[str]  # pilots


class Crossing(TypedDict):
    """Where a run crosses its target."""

    images: float | None  # null: not reached
    low: float | None  # the evaluation before; 0 if the run was below from the start
    high: float | None  # the evaluation after; null: not reached
    status: str  # "reached" or "censored"
    at_first: bool  # below from the first evaluation on


class Run(TypedDict):
    """One listed run."""

    run: str  # name of its folder
    cell: str
    dataset: str
    backbone: str
    method: str
    role: str  # pilot, paired, null
    seed: int
    pair: int | None  # seed of the baseline that it is paired with
    status: str  # complete, diverged, running, missing
    reason: str | None  # why it diverged
    images: int  # trained so far
    seconds: float | None  # on the training clock
    resumes: int
    params: int | None
    flops: float | None  # forward pass of one image
    final_fid: float | None  # distance at the full budget
    crossing: Crossing | None
    unread: int  # evaluations without a finite distance


class Curve(TypedDict):
    """Distances of one arm over its seeds, where at least one is finite."""

    cell: str
    method: str  # "A/A" for the null arm, "pilots" for the pilots
    images: list[int]
    mean: list[float]  # geometric, over the seeds that have the evaluation
    low: list[float]  # lowest seed
    high: list[float]  # highest seed
    seeds: list[int]  # number of seeds at each evaluation
    runs: list[str]


class Side(TypedDict):
    """A pair of numbers, or one of each."""

    baseline: Any
    arm: Any


class Axis(TypedDict):
    """The same speedup on another axis."""

    speedup: Estimate
    to_target: Side  # geometric means of min(T, tau) on this axis


class PairRow(TypedDict):
    """One seed of a comparison."""

    seed: int
    baseline: Crossing
    arm: Crossing
    ratio: float  # min(T, tau) of baseline over arm
    runs: list[str]  # baseline, arm


class FinalRow(TypedDict):
    """Distances at the full budget."""

    n: int  # pairs that both came to the end
    baseline: float | None  # mean
    arm: float | None
    difference: Estimate  # arm - baseline
    ratio: Estimate  # arm / baseline: below 1 the arm is better
    discussed: bool  # a gap under 1.3 % is not discussed as a difference


class LadderRow(TypedDict):
    """The speedup to one rung."""

    fraction: float
    target: float
    flat: bool
    speedup: float | None
    low: float | None
    high: float | None
    bound: str
    word: str
    n: int


class Comparison(TypedDict, total=False):
    """One arm of one cell against the baseline. Without a target only the first seven keys are there."""

    cell: str
    method: str  # "A/A" for the null arm
    role: str  # paired or null
    runs: list[str]
    withheld: str  # why no number may be shown; "" if it may
    n: int  # pairs used
    word: str  # descriptive, from this cell alone; the cell's label where that takes its place
    speedup: float | None
    low: float | None
    high: float | None
    bound: str  # "", ">=" or "<=": what censoring makes of the headline
    p: float | None  # of the t test
    mean: float | None  # of log ratios
    sd: float | None
    pairs: list[PairRow]
    missing: list[int]  # seeds left out for want of a run
    diverged: Side  # seeds, counted as censored
    reached: Side  # how many of n
    reach_rates: Side  # Estimate, Wilson
    restricted: Estimate  # ratio of mean min(T, tau), jackknife t
    chance: float | None  # that the arm is faster on the same seed
    sign_flip: float | None  # exact p
    correlation: float | None  # of log T within pairs: whether pairing paid
    sensitivity: dict[str, Estimate]  # T read as low, high, first
    flips: list[str]  # readings under which the conclusion is another
    seeds_needed: int | None
    final: FinalRow
    axes: dict[str, Axis]  # images, seconds, flops
    ladder: list[LadderRow]


class Pooled(TypedDict):
    """One arm over its cells."""

    method: str
    speedup: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None  # over the arms
    word: str
    n: int  # fewest pairs of a cell that entered
    cells: list[str]
    left_out: list[str]  # cells without a number that may enter
    bound: str  # "", ">=", "<=", "mixed"
    leave_one_out: list[float] | None  # range, a dataset left out in turn
    seeds_needed: int | None  # per cell
    runs: list[str]


class Null(TypedDict):
    """The A/A test over the suite."""

    speedup: float | None
    low: float | None  # 99.9 %
    high: float | None
    p: float | None
    failed: bool
    cells: list[str]
    missing_one: list[str]  # cells whose 95 % interval misses 1
    expected: float  # of those, by chance
    runs: list[str]


class Step(TypedDict):
    """Performance profile of one method: `share` of cells and seeds need at most `ratio` times the fewest images."""

    method: str
    ratio: list[float]
    share: list[float]
    problems: int  # cells x seeds that all methods have
    runs: list[str]


class GateRow(TypedDict):
    """One gate."""

    gate: str
    rule: str
    failed: int


class FailureRow(TypedDict):
    """One failed gate."""

    cell: str
    method: str  # the arm it touches; "" for all
    gate: str
    field: str
    runs: list[str]
    what: str
    text: str


class Network(TypedDict):
    """One network of a cell."""

    cell: str
    method: str
    params: int | None
    backbone_params: int | None
    method_params: int | None
    flops: float | None
    runs: list[str]


class Weights(TypedDict):
    """Initial backbone weights of one seed over its arms."""

    cell: str
    seed: int
    digest: str | None
    equal: bool
    methods: list[str]
    runs: list[str]


class Backbones(TypedDict):
    """One backbone of a dataset against the first."""

    cells: list[str]
    params: float  # ratio
    flops: float
    runs: list[str]


class Matching(TypedDict):
    """Whether what is compared is matched."""

    networks: list[Network]
    weights: list[Weights]
    backbones: list[Backbones]


class Published(TypedDict):
    """A figure from outside."""

    text: str
    tag: str  # V, C or U
    label: str  # "published", "computed" or "unverified"
    source: str


class Claim(TypedDict):
    """One claim of the paper and what the suite says of it."""

    id: str
    text: str
    source: str
    tag: str
    test: str
    rule: str  # when it holds, in words
    suite: str  # where it is tested
    verdict: str
    evidence: str  # the numbers behind the verdict
    published: list[Published]
    runs: list[str]


class Made(TypedDict):
    """How it was made; lists hold each value once."""

    runs: int  # with a record
    listed: int
    versions: list[dict[str, str]]
    device: list[str]
    device_name: list[str]
    threads: list[int]
    precision: list[str]
    git: list[dict[str, Any]]
    data_digest: list[str]
    reference_digest: list[str]
    extractor_digest: list[str]
    hours: dict[str, float]  # training, evaluation, and both, over all runs
    device_hours: dict[str, float]  # by device type: hours x devices (or CPU threads)
    resumes: int


class Report(TypedDict):
    """report.json."""

    schema: int
    protocol: int
    suite: str
    title: str
    scale: str  # mini or full
    baseline: str
    arms: list[str]
    seeds: dict[str, list[int]]
    banner: str  # "" unless the A/A test failed
    verdicts: list[Verdict]
    cells: list[Cell]
    comparisons: list[Comparison]
    pooled: list[Pooled]
    aa: Null
    curves: list[Curve]
    profile: list[Step]
    gates: list[GateRow]
    failures: list[FailureRow]
    missing: list[str]  # listed runs without a record
    diverged: list[str]
    runs: list[Run]
    matching: Matching
    claims: list[Claim]
    made: Made
