"""The schema of report.json, version 2: what each key holds. Every number of the tables, the figures and the page is in it.

Numbers that do not exist are null. `runs` of an entry names the run folders that its numbers were made from. Ratios are
baseline over arm, above 1 where the arm is faster, unless the comment says otherwise.
"""

from __future__ import annotations

from typing import Any, TypedDict

SCHEMA = 2


class Estimate(TypedDict):
    """A number with its 95 % interval."""

    value: float | None  # the estimate
    low: float | None  # lower end of the interval; null: none from so few or such equal numbers
    high: float | None  # upper end


class Verdict(TypedDict):
    """One sentence of what holds."""

    text: str  # the sentence
    runs: list[str]  # that it is about


class Measure(TypedDict):
    """Everything that a distance must be stated with."""

    name: str  # "FID" for Inception, else "Frechet distance (extractor)"
    extractor: str  # name of the feature network
    extractor_digest: str | None  # sha256 of the extractor's weights
    samples: int  # generated images per evaluation
    reference: str  # name of the reference set
    reference_size: int | None  # images in it
    reference_digest: str | None  # sha256 of its statistics
    resize: str | None  # how images are resized for the extractor
    quantisation: str  # of the samples, before they are measured
    sampler: str  # name of the sampler
    nfe: int | None  # function evaluations per sample
    ema: str  # of the weights that are sampled from


class Rung(TypedDict):
    """One step of the target ladder, as frozen."""

    fraction: float  # of the budget at which the pilots reach it
    target: float  # distance to reach
    flat: bool  # the fit is too flat here to read a time off it


class Cell(TypedDict):
    """What belongs to a cell and to no arm."""

    cell: str  # dataset/backbone
    dataset: str  # its dataset
    backbone: str  # its backbone
    tau: int  # budget, training images
    evaluations: int  # planned per run
    target: float | None  # null: not frozen yet, or nothing to read it from
    label: str  # "", "flat here", "budget too small", "targets not frozen"
    flat: bool  # the fit is too flat at the target, whatever the label: no number is shown
    crossings: list[float | None]  # of the pilots, images
    ladder: list[Rung]  # other targets, easier and harder
    measure: Measure | None  # null as long as no run has begun
    progress: float | None  # mean over baselines: distance at the end over that after a tenth of the budget
    noise: float | None  # coefficient of variation of an evaluation over sampling seeds, mean over the pilots that measured it
    noise_runs: list[str]  # the runs that measured it
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
    cell: str  # dataset/backbone
    dataset: str  # its dataset
    backbone: str  # its backbone
    method: str  # label of its method
    role: str  # pilot, paired, null
    seed: int  # its own seed
    pair: int | None  # seed of the baseline that it is paired with
    status: str  # complete, diverged, running, missing
    reason: str | None  # why it diverged
    images: int  # trained so far
    seconds: float | None  # on the training clock
    resumes: int  # how often it was taken up again
    params: int | None  # parameters of the network, its method included
    flops: float | None  # forward pass of one image
    final_fid: float | None  # distance at the full budget
    crossing: Crossing | None  # null: no target or no evaluation yet
    unread: int  # evaluations without a finite distance


class Curve(TypedDict):
    """Distances of one arm over its seeds, where at least one is finite; runs with a failed gate are left out, and while runs are
    missing the seeds that not all arms shown have, if there are others."""

    cell: str  # dataset/backbone
    method: str  # "A/A" for the null arm, "pilots" for the pilots
    images: list[int]  # where it was evaluated
    mean: list[float]  # geometric, over the seeds that have the evaluation
    low: list[float]  # lowest seed
    high: list[float]  # highest seed
    seeds: list[int]  # number of seeds at each evaluation
    runs: list[str]  # behind the curve


class Side(TypedDict):
    """A pair of numbers, or one of each."""

    baseline: Any  # of the baseline
    arm: Any  # of the arm


class Axis(TypedDict):
    """The same speedup on another axis."""

    speedup: Estimate  # null where there is no headline
    to_target: Side  # geometric means of min(T, tau) on this axis


class PairRow(TypedDict):
    """One seed of a comparison."""

    seed: int  # of the pair
    baseline: Crossing  # where the baseline crosses
    arm: Crossing  # where the arm crosses
    ratio: float  # min(T, tau) of baseline over arm
    runs: list[str]  # baseline, arm


class FinalRow(TypedDict):
    """Distances at the full budget."""

    n: int  # pairs that both came to the end
    baseline: float | None  # mean
    arm: float | None  # mean
    difference: Estimate  # arm - baseline
    ratio: Estimate  # arm / baseline: below 1 the arm is better
    discussed: bool  # a gap under 1.3 % is not discussed as a difference


class LadderRow(TypedDict):
    """The speedup to one rung."""

    fraction: float  # of the budget at which the pilots reach it
    target: float  # distance to reach
    flat: bool  # the fit is too flat here: no speedup is shown
    speedup: float | None  # null: no headline, or flat
    low: float | None  # 95 % interval
    high: float | None  # its upper end
    bound: str  # "", ">=" or "<="
    word: str  # descriptive; "flat here"
    n: int  # pairs


class Comparison(TypedDict, total=False):
    """One arm of one cell against the baseline. Without a target only cell to word are there."""

    cell: str  # dataset/backbone
    method: str  # "A/A" for the null arm
    role: str  # paired or null
    runs: list[str]  # of both sides
    label: str  # of the cell: "", "flat here", "budget too small", "targets not frozen"
    withheld: str  # why no number may be shown; "" if it may
    n: int  # pairs used
    word: str  # descriptive, from this cell alone; the cell's label where that takes its place
    speedup: float | None  # geometric mean over pairs; null: no headline
    low: float | None  # 95 % t interval; null: not shown
    high: float | None  # its upper end
    bound: str  # "", ">=" or "<=": what censoring makes of the headline
    p: float | None  # of the t test
    mean: float | None  # of log ratios
    sd: float | None  # of log ratios
    pairs: list[PairRow]  # pair by pair
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
    seeds_needed: int | None  # pairs that would decide, about; null: decided, or more than 1,000
    final: FinalRow  # distances at the full budget
    axes: dict[str, Axis]  # images, seconds, flops
    ladder: list[LadderRow]  # speedup over the ladder of targets


class Pooled(TypedDict):
    """One arm over its cells."""

    method: str  # the arm
    speedup: float | None  # geometric mean over cells, equal weights; null: no headline in any
    low: float | None  # 95 % t interval with Satterthwaite's degrees of freedom
    high: float | None  # its upper end
    p: float | None  # of that t test
    p_holm: float | None  # over the arms
    word: str  # the confirmatory word; "points only" where no cell has pairs enough to enter
    n: int  # fewest pairs of a cell that entered
    cells: list[str]  # that entered
    left_out: list[str]  # cells without a number that may enter
    bound: str  # "", ">=", "<=", "mixed"
    leave_one_out: list[float] | None  # range, a dataset left out in turn
    seeds_needed: int | None  # per cell
    runs: list[str]  # of the cells that entered


class Null(TypedDict):
    """The A/A test over the suite."""

    speedup: float | None  # geometric mean over cells; 1 but for noise
    low: float | None  # 99.9 %
    high: float | None  # its upper end
    p: float | None  # of the pooled t test
    failed: bool  # p below 0.001
    cells: list[str]  # that entered
    missing_one: list[str]  # cells whose 95 % interval misses 1
    expected: float  # of those, by chance
    runs: list[str]  # of the cells that entered


class Step(TypedDict):
    """Performance profile of one method: `share` of cells and seeds need at most `ratio` times the fewest images."""

    method: str  # the arm
    ratio: list[float]  # where it steps up
    share: list[float]  # to which height
    problems: int  # cells x seeds that all methods have
    runs: list[str]  # of the arm


class GateRow(TypedDict):
    """One gate."""

    gate: str  # its name
    rule: str  # what must hold
    failed: int  # how many failures


class FailureRow(TypedDict):
    """One failed gate."""

    cell: str  # dataset/backbone
    method: str  # the arm it touches; "" for all
    gate: str  # its name
    field: str  # of the records
    runs: list[str]  # that fail, or of the failing pair
    what: str  # what was found
    text: str  # all of it in one line


class Network(TypedDict):
    """One network of a cell."""

    cell: str  # dataset/backbone
    method: str  # its method
    params: int | None  # all parameters
    backbone_params: int | None  # without those of the method
    method_params: int | None  # of the method
    flops: float | None  # of a forward pass of one image, two per multiply-add
    runs: list[str]  # with this network


class Weights(TypedDict):
    """Initial backbone weights of one seed over its arms."""

    cell: str  # dataset/backbone
    seed: int  # of the pair
    digest: str | None  # sha256 of the first of its runs
    equal: bool  # over all its runs
    methods: list[str]  # of its runs
    runs: list[str]  # of this seed


class Backbones(TypedDict):
    """One backbone of a dataset against the first."""

    cells: list[str]  # the first and the one compared
    params: float  # ratio
    flops: float  # ratio
    runs: list[str]  # of both


class Matching(TypedDict):
    """Whether what is compared is matched."""

    networks: list[Network]  # per cell and method
    weights: list[Weights]  # per cell and seed
    backbones: list[Backbones]  # per dataset


class Published(TypedDict):
    """A figure from outside."""

    text: str  # the figure in words
    tag: str  # V, C or U
    label: str  # "published", "computed" or "unverified"
    source: str  # where it stands


class Claim(TypedDict):
    """One claim of the paper and what the suite says of it."""

    id: str  # name of the claim and the method it is tested for
    text: str  # the claim in our words
    source: str  # where it stands
    tag: str  # V verified, C computed, U recalled
    test: str  # name of the test
    rule: str  # when it holds, in words
    suite: str  # where it is tested
    verdict: str  # the word
    evidence: str  # the arm with all its parameters, the numbers behind the verdict, over how many cells, how many runs diverged
    published: list[Published]  # figures from outside, beside it
    runs: list[str]  # behind the evidence


class Made(TypedDict):
    """How it was made; lists hold each value once."""

    runs: int  # with a record
    listed: int  # runs of the suite
    versions: list[dict[str, str]]  # of Python and of what computes
    device: list[str]  # types
    device_name: list[str]  # names of processors or accelerators
    threads: list[int]  # per run
    precision: list[str]  # of training
    git: list[dict[str, Any]]  # commits, and whether the tree differed
    data_digest: list[str]  # of the prepared data
    data_partial: list[str]  # datasets that were prepared from a part of their originals
    reference_digest: list[str]  # of the reference statistics
    extractor_digest: list[str]  # of the extractor's weights
    hours: dict[str, float]  # training, evaluation, and both, over all runs
    device_hours: dict[str, float]  # by device type: hours x devices (or CPU threads)
    resumes: int  # over all runs


class Probed(TypedDict):
    """What the probes measured of an arm in a cell: geometric means over seeds."""

    cell: str  # dataset/backbone
    method: str  # the arm
    skips: int  # long skips of the network, N
    n: int  # runs
    runs: list[str]  # their names
    sum_squares: float | None  # the theory's sum of kappa_j^2; null for a method without fixed factors
    bound: float | None  # the theory's bound on the response to the input with all Lipschitz constants 1: sum of kappa_j + 1
    shares: list[float]  # per skip, shallowest first: how much of the decoder block's output it makes
    feature_start: float | None  # ||h|| of the shallowest decoder block at the initial weights; null where the first step was not probed
    feature_shallowest: float  # the same, mean over the second half of training
    feature_norm: float  # ||h|| of the decoder blocks, mean over blocks and the second half of training
    kappas: list[float] | None  # the factors, shallowest skip first; null for a method without fixed ones
    blocks: dict[str, dict[str, list[float]]]  # feature and gradient: norm and oscillation of each block, see bench/training/probes.py
    feature_oscillation: float  # its mean half band in a moving window
    feature_oscillation_relative: float  # this over the norm, mean over blocks
    feature_oscillation_detrended: float | None  # its mean half band without each window's line; null in older records
    gradient_norm: float  # of all weights, mean over the second half of training
    gradient_oscillation: float  # its mean half band in a moving window
    gradient_oscillation_relative: float  # this over the norm
    gradient_oscillation_detrended: float | None  # its mean half band without each window's line; null in older records
    update_ratio: float  # ||dw|| / ||w|| of a step, mean over the second half of training
    input_sensitivity: float  # ||J v|| in the worst direction, geometric mean over noise levels
    loss_spikes: float  # how many, mean over seeds
    largest_spike: float  # loss over the median before it, the largest of all seeds; 1: none


class Stability(TypedDict):
    """The section of a suite with probes."""

    series: list[dict]  # cell, method, images, and of feature and gradient: mean, low, high over seeds and a moving window
    rows: list[Probed]  # per cell and arm
    growth: list[dict]  # family, method, n seeds, predicted (null for gates); exponent, low, high of ||h|| ~ N^p with a 95 % t interval:
    # of the shallowest block over the second half, under `start` at the initial weights, under `mean` of the mean over blocks;
    # points, start_points: [N, norm of the shallowest block]
    rank: list[dict]  # cell, quantity, arms, rho: Spearman's over arms, of the response with the theory's bound, else with sum of kappa_j^2
    rank_means: list[dict]  # quantity, rho: the mean over cells, and how many cells
    response: list[dict]  # cell, method, t, random, worst, worst_low, worst_high
    gates: list[dict]  # cell, method, skip, images, and low, middle, high: 10, 50, 90 % of the learnt gates at these images


class Reference(TypedDict):
    """Agreement with the committed result of this suite."""

    note: str  # why nothing was compared; "" if something was
    compared: int  # how many speedups
    outside: list[str]  # a sentence per comparison outside its prediction interval


class Report(TypedDict):
    """report.json."""

    schema: int  # version of this schema
    protocol: int  # version of the measurement protocol
    suite: str  # name of its folder
    title: str  # of the suite
    scale: str  # mini or full
    baseline: str  # what the arms are compared with
    null_method: str  # what the null arm trains
    arms: list[str]  # labels, the baseline among them
    seeds: dict[str, list[int]]  # paired, pilots, null
    banner: str  # "" unless the A/A test failed
    verdicts: list[Verdict]  # what holds, in sentences
    cells: list[Cell]  # per dataset and backbone
    comparisons: list[Comparison]  # per cell and arm, the null arm last
    pooled: list[Pooled]  # per arm
    aa: Null  # the A/A test
    curves: list[Curve]  # per cell and arm
    profile: list[Step]  # per arm
    gates: list[GateRow]  # all of them
    failures: list[FailureRow]  # what failed
    missing: list[str]  # listed runs without a record
    diverged: list[str]  # runs that ended in a loss that is not finite
    runs: list[Run]  # every listed run
    matching: Matching  # whether what is compared is matched
    claims: list[Claim]  # the paper's, judged; empty against another baseline
    stability: Stability | None  # what probes measured; null for a suite without them
    made: Made  # how it was made
    reference: Reference  # agreement with the committed result
