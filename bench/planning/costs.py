"""What a run costs: parameters, FLOPs and time, before anything is started."""

from __future__ import annotations

import timeit
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

import datasets
import models
from bench.runs.run_spec import Run

TRAINING = 3  # a backward pass costs two forward passes
GPU_FLOPS = 1e14  # assumed of one GPU where none can be timed: 100 TFLOP/s, said with the estimate


@dataclass(frozen=True)
class Cost:
    """Of one run: parameters, forward FLOPs per image, and seconds on one core or GPU."""

    params: int
    flops: int
    seconds: float


def of(run: Run) -> Cost:
    """Build the run's network, count, and time one forward pass on a CPU; a GPU's speed is assumed."""
    spec, shape = run.spec, datasets.get(run.spec.dataset).shape
    timed = spec.device == "cpu"
    sizes: dict[str, Any] = {"in_channels": shape[0], "out_channels": shape[0], "image_size": shape[1]}
    with torch.device("cpu" if timed else "meta"):
        model = models.build(spec.backbone, spec.method_text, **sizes)
        flops = models.flops(model, shape)
    forward = _forward_seconds(model, shape, spec.batch, spec.threads) if timed else flops / GPU_FLOPS
    sampled = spec.evaluation.samples * spec.evaluation.network_evaluations * evaluations(run)
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, flops, forward * (TRAINING * spec.budget + sampled))


def evaluations(run: Run) -> int:
    """How often a run is measured: along its curve, and a pilot at its end again, for the noise of an evaluation."""
    return len(run.spec.evaluation.images) + (run.spec.evaluation.repeats if run.role == "pilot" else 0)


def _forward_seconds(model: models.Backbone, shape: tuple[int, int, int], batch: int, threads: int) -> float:
    """Seconds per image of a forward pass, the median of five after one to warm up."""
    before, inputs = torch.get_num_threads(), (torch.zeros(batch, *shape), torch.zeros(batch))
    condition = models.example_condition(model, batch)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        times = timeit.repeat(lambda: model(*inputs, condition), number=1, repeat=6)
    torch.set_num_threads(before)
    return median(times[1:]) / batch
