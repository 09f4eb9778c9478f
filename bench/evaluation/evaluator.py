"""One evaluation: sample from the EMA with the cell's own noise, quantise to 8 bits, measure the distance to the data.

Noise and conditions are keyed by cell, repeat and block of 64 images, so that every arm and seed of a cell starts from
the same, and the size of a sampling batch does not change which noise an image gets. Images are measured batch by
batch: however many there are, one batch is in memory.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.diffusion import schedules as diffusion
from bench.planning import compute_defaults as fastest
from bench.evaluation import features
from bench.evaluation import frechet as fid
from bench.diffusion.batches import Prompts
from bench.diffusion.schedules import Epsilon
from bench.diffusion.samplers import SAMPLERS, clipped
from bench.diffusion.random_streams import Streams
from datasets import Store

BLOCK = 64  # images that share one noise generator, and images of a sample grid
BATCH = 256  # images sampled at a time; constant, since another batch size rounds differently
CONDITION = 1  # second key of the stream `sample`: conditions


@dataclass(frozen=True)
class Measured:
    """Distance (nan if samples are not finite), network evaluations per image, the first 64 samples, uint8, and clocks."""

    fid: float
    nfe: int
    grid: Tensor
    sample_seconds: float
    feature_seconds: float


class Evaluator:
    """Evaluates models of one cell. Extractor and reference statistics are loaded once."""

    def __init__(self, spec: dict, store: Store, data: Path) -> None:
        self.spec, self.settings = spec, spec["evaluation"]
        self.store, self.shape = store, store.shape
        self.device = torch.device(spec["device"])
        self.schedule = diffusion.schedule(spec["diffusion"])
        self.streams = Streams(spec["dataset"], spec["backbone"], None)
        self.prompts = Prompts(store)
        self.extractor = features.load(self.settings["extractor"], device=spec["device"])
        self.reference = fid.reference(store, self.extractor, data)

    @property
    def nfe(self) -> int:
        """Network evaluations per image; guidance asks twice."""
        return self.settings["steps"] * (2 if self.settings["guidance"] else 1)

    @torch.inference_mode()
    def __call__(self, model: nn.Module, repeat: int = 0) -> Measured:
        """Measure `model` under the sampling noise number `repeat`; 0 is the one of every curve."""
        was_training = model.training
        model.eval()
        total, grid, finite, sampling, began = fid.Accumulator(), [], True, 0.0, time.perf_counter()
        for start in range(0, self.settings["samples"], BATCH):
            before = time.perf_counter()
            x = self.sample(model, repeat, start)
            finite = finite and bool(x.isfinite().all())
            pixels = fid.to_uint8(x.nan_to_num(0.0))
            sampling += time.perf_counter() - before  # the cast above has waited for the device
            if finite:
                total.add(self.extractor(pixels))
            if start < BLOCK:
                grid.append(pixels[:BLOCK].cpu())
        model.train(was_training)
        distance = fid.frechet(total.statistics(), self.reference) if finite else math.nan
        return Measured(distance, self.nfe, torch.cat(grid), sampling, time.perf_counter() - began - sampling)

    def sample(self, model: nn.Module, repeat: int, start: int) -> Tensor:
        """Images start .. start + 255, fewer at the end: float (B, C, H, W), nominally in [-1, 1]. start: whole blocks."""
        count = min(BATCH, self.settings["samples"] - start)
        blocks = range(start // BLOCK, -(-(start + count) // BLOCK))
        generators = [self.streams.generator("sample", repeat, block) for block in blocks]

        def draw() -> Tensor:
            noise = torch.cat([torch.randn(BLOCK, *self.shape, generator=g) for g in generators])
            return noise[:count].to(self.device)

        predict = self._epsilon(model, self._condition(repeat, blocks, count))
        predict = clipped(predict, self.schedule) if self.settings["clip"] else predict
        with fastest.autocast(self.spec):
            x = SAMPLERS[self.settings["sampler"]](predict, draw(), self.schedule, self.settings["steps"], draw)
        return x if self.store.codec is None else self.store.codec.decode(x)

    def _condition(self, repeat: int, blocks: range, count: int) -> Tensor | None:
        drawn = [self.prompts.draw(BLOCK, self.streams.generator("sample", repeat, block, CONDITION)) for block in blocks]
        return None if drawn[0] is None else torch.cat(drawn)[:count].to(self.device)

    def _epsilon(self, model: nn.Module, condition: Tensor | None) -> Epsilon:
        if not self.settings["guidance"]:
            return diffusion.epsilon(model, self.schedule, condition)
        return diffusion.guided(model, self.schedule, condition, self.prompts.empty(condition), self.settings["guidance"])


def save_grid(path: Path, images: Tensor) -> None:
    """Write uint8 (up to 64, C, H, W) as an 8 x 8 grid with a white pixel between images."""
    from torchvision.utils import make_grid
    from torchvision.transforms.functional import to_pil_image

    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(make_grid(images, nrow=8, padding=1, pad_value=255)).save(path)
