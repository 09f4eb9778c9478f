"""What a plan costs: parameters, FLOPs, images and time, before anything is started."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

import datasets
import models
from bench.planning.plan import Run, method_text
from bench.runs.record import state
from bench.launching.runner import default_workers
from bench.planning.suite import Suite

TRAINING = 3  # a backward pass costs two forward passes
GPU_FLOPS = 1e14  # assumed of one GPU where none can be timed: 100 TFLOP/s, said with the estimate


@dataclass(frozen=True)
class Cost:
    """Of one run: parameters, forward FLOPs per image, and seconds on one core or GPU."""

    params: int
    flops: int
    seconds: float


def of(run: Run) -> Cost:
    """Build the run's network (on the meta device where it cannot be timed), count, and time one forward pass on a CPU."""
    shape = datasets.get(run.spec["dataset"]).shape
    overrides = {"in_channels": shape[0], "out_channels": shape[0], "image_size": shape[1]}
    timed = run.spec["device"] == "cpu"
    with torch.device("cpu" if timed else "meta"):
        model = models.build(run.spec["backbone"], method_text(run.spec), **overrides)
        flops = models.flops(model, shape)
    forward = _forward_seconds(model, shape, run.spec["batch"], run.spec["threads"]) if timed else flops / GPU_FLOPS
    evaluation = run.spec["evaluation"]
    asked = evaluation["steps"] * (2 if evaluation["guidance"] else 1)
    passes = TRAINING * run.spec["budget"] + evaluation["samples"] * asked * evaluations(run)
    return Cost(sum(p.numel() for p in model.parameters()), flops, forward * passes)


def evaluations(run: Run) -> int:
    """How often a run is measured: along its curve, and a pilot at its end again, for the noise of an evaluation."""
    evaluation = run.spec["evaluation"]
    return len(evaluation["images"]) + (evaluation["repeats"] if run.role == "pilot" else 0)


def _forward_seconds(model: torch.nn.Module, shape: tuple[int, int, int], batch: int, threads: int) -> float:
    """Seconds per image of a forward pass, the median of five after one to warm up."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x, t, condition = torch.zeros(batch, *shape), torch.zeros(batch), models.example_condition(model, batch)
    times = []
    with torch.inference_mode():
        for _ in range(6):
            began = time.perf_counter()
            model(x, t, condition)
            times.append(time.perf_counter() - began)
    torch.set_num_threads(before)
    return sorted(times[1:])[2] / batch


def show(suite: Suite, runs: list[Run], root: Path) -> None:
    """Print the matrix and its sums."""
    from rich.console import Console
    from rich.table import Table

    kinds = {_kind(run): run for run in runs}
    costs = {kind: of(run) for kind, run in kinds.items()}
    table = Table("run", "role", "state", "parameters", "MFLOPs", "images", "evaluations", "seconds", box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    for run in runs:
        cost = costs[_kind(run)]
        table.add_row(run.id, run.role, state(run.folder(root)), f"{cost.params:,}", f"{cost.flops / 1e6:,.2f}",
                      f"{run.spec['budget']:,}", str(evaluations(run)), f"{cost.seconds:,.0f}")
    console = Console()
    console.width = max(console.width, 150) if not console.is_terminal else console.width
    console.print(table)
    seconds = sum(costs[_kind(run)].seconds for run in runs)
    images = sum(run.spec["budget"] for run in runs)
    flops = sum(TRAINING * costs[_kind(run)].flops * run.spec["budget"] for run in runs)
    print(f"{len(runs)} runs, {images:,} training images, {flops:.3g} training FLOPs; folder {Path(root) / suite.name}")
    print(_estimate(suite, seconds))


def _kind(run: Run) -> tuple:
    """Runs of one kind cost the same; a pilot is measured more often at its end."""
    return run.cell, run.label, run.role == "pilot"


def _estimate(suite: Suite, seconds: float) -> str:
    if suite.training.device == "cuda":
        return f"about {seconds / 3600:,.1f} GPU-hours at an assumed {GPU_FLOPS / 1e12:.0f} TFLOP/s"
    workers = default_workers(suite)
    return (f"about {seconds / workers / 60:,.0f} minutes with {workers} workers of {suite.training.threads} thread here "
            "(from a timed forward pass, training at three of them)")
