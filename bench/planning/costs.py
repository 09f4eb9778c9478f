"""What a run costs: parameters, FLOPs and time, before anything is started."""

from __future__ import annotations

import timeit
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

import datasets
import models
from bench.errors import unknown
from bench.runs import checkpoint
from bench.runs.run_spec import Run

TRAINING = 3  # a backward pass costs two forward passes
# Name, as the driver gives it or how it begins: TFLOP/s of dense bf16 with fp32 accumulation, from the vendor's data
# sheets (half of the figure "with sparsity", where only that is printed). The first that fits counts.
PEAKS = {
    "NVIDIA H100 PCIe": 756, "NVIDIA H100 NVL": 835, "NVIDIA H100": 989, "NVIDIA H200 NVL": 835, "NVIDIA H200": 989,
    "NVIDIA A100": 312, "NVIDIA A30": 165, "NVIDIA A10": 125, "NVIDIA L40S": 362, "NVIDIA L4": 121,
}  # fmt: skip
SHARE = 0.35  # of the peak, assumed
PLAIN_GPU = 1e14  # FLOP/s, assumed where no chip is named
STATE, EMA = 16, 4  # bytes a parameter in a checkpoint (weights, EMA, two moments of Adam), and in what is kept
CHECKPOINTS = checkpoint.KEEP + 1  # while a run saves the next one
FOLDER = 150_000  # bytes of a run's log and result, about
GRID = 3 * 64 * 32 * 32  # of the samples that an evaluation keeps, at most


@dataclass(frozen=True)
class Gpu:
    """FLOP/s of training on a GPU, and where they are from, in words."""

    flops: float
    said: str


@dataclass(frozen=True)
class Cost:
    """Of one run: parameters, forward FLOPs per image, seconds on one core or GPU, bytes of sample grids."""

    params: int
    flops: int
    seconds: float
    grids: int

    @property
    def kept(self) -> int:
        """Bytes of its folder when it is done."""
        return EMA * self.params + FOLDER + self.grids

    @property
    def under_way(self) -> int:
        """Bytes of its checkpoints."""
        return CHECKPOINTS * STATE * self.params


def peak_flops(name: str) -> float | None:
    """FLOP/s of a chip, None for one that is not in the table. A name ends where a word does: an L4 is no L40."""
    fits = (1e12 * flops for chip, flops in PEAKS.items() if name == chip or name.startswith((chip + " ", chip + "-")))
    return next(fits, None)


def gpu(chip: str | None) -> Gpu:
    """The speed assumed of a chip, `h100` say, or of none in particular; BadInput names the choices."""
    names = {name.removeprefix("NVIDIA ").lower().replace(" ", "-"): flops for name, flops in PEAKS.items()}
    if chip is None:
        return Gpu(PLAIN_GPU, f"an assumed {PLAIN_GPU / 1e12:.0f} TFLOP/s; name a GPU with --chip")
    if chip.lower() not in names:
        raise unknown("--chip", chip, sorted(names))
    peak = names[chip.lower()]
    return Gpu(SHARE * peak * 1e12, f"an assumed {SHARE:.0%} of the {peak} TFLOP/s of a {chip.upper()} in bf16")


def of(run: Run, on: Gpu | None) -> Cost:
    """Build the run's network and count; its time by a forward pass timed here, or by the speed of a GPU."""
    spec, shape = run.spec, datasets.get(run.spec.dataset).shape
    sizes: dict[str, Any] = {"in_channels": shape[0], "out_channels": shape[0], "image_size": shape[1]}
    with torch.device("meta" if on else "cpu"):
        model = models.build(spec.backbone, spec.method_text, **sizes)
        flops = models.flops(model, shape)
    forward = flops / on.flops if on else _forward_seconds(model, shape, spec.batch, spec.threads)
    sampled = spec.evaluation.samples * spec.evaluation.network_evaluations * evaluations(run)
    params = sum(p.numel() for p in model.parameters())
    grids = min(GRID, 3 * 64 * shape[1] * shape[2]) * len(spec.evaluation.images)
    return Cost(params, flops, forward * (TRAINING * spec.budget + sampled), grids)


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
