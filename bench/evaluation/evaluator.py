"""One evaluation: sample from the EMA with the cell's own noise, quantise to 8 bits, measure the distance to the data.

Noise and conditions are keyed by cell, repeat and block of 64 images, so that every arm and seed of a cell starts from
the same, and the size of a sampling batch does not change which noise an image gets. Images are measured batch by
batch: however many there are, one batch is in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.utils import save_image

from bench.diffusion import schedules
from bench.diffusion.batches import no_condition
from bench.diffusion.random_streams import RandomStreams
from bench.diffusion.samplers import SAMPLERS, clipped
from bench.diffusion.schedules import Epsilon
from bench.evaluation import features, frechet
from bench.runs import compute, distributed
from bench.runs.run_spec import RunSpec
from datasets import Store

BLOCK = 64  # images that share one noise generator, and images of a sample grid
BATCH = 256  # images sampled at a time; constant, since another batch size rounds differently
CONDITION = 1  # second key of the stream `sample`: conditions


@dataclass(frozen=True)
class Measured:
    """Frechet and kernel distance (nan if samples are not finite), the Frechet distance under further extractors, the
    standard deviation of the samples' means, the first 64 samples (uint8), seconds of sampling and of the rest."""

    distance: float
    kernel_distance: float
    beside: dict[str, float]
    mean_spread: float
    grid: Tensor
    sample_seconds: float
    feature_seconds: float


def chosen(store: Store, count: int, generator: torch.Generator) -> Tensor | None:
    """`count` labels by training frequency, or rows of val captions, with repetition; None without conditions."""
    if store.condition == "none":
        return None
    if store.condition == "class":
        frequency = torch.from_numpy(np.bincount(store.labels)).double()
        return torch.multinomial(frequency, count, replacement=True, generator=generator)
    return torch.randint(len(store.val_texts), (count,), generator=generator)


def conditions(store: Store, count: int, generator: torch.Generator) -> Tensor | None:
    """What a network takes for those: labels, or the states of captions."""
    those = chosen(store, count, generator)
    return those if store.condition != "text" else torch.from_numpy(store.val_texts[those]).float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for the time of a `with` block, even if that is broken off."""
    was_training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(was_training)


class ImageSampler:
    """Draws images from models of one cell, as its evaluations do."""

    def __init__(self, spec: RunSpec, store: Store) -> None:
        self.spec, self.settings, self.store = spec, spec.evaluation, store
        self.schedule = schedules.schedule(spec.diffusion)
        self.streams = RandomStreams(spec.dataset, spec.backbone, seed=None)

    def sample(self, model: nn.Module, repeat: int, start: int) -> Tensor:
        """Images start .. start + 255, fewer at the end: float (B, C, H, W), nominally in [-1, 1]."""
        settings = self.settings
        count = min(BATCH, settings.samples - start)
        blocks = range(start // BLOCK, math.ceil((start + count) / BLOCK))
        generators = [self.streams.generator("sample", repeat, block) for block in blocks]

        def draw() -> Tensor:
            noise = torch.cat([torch.randn(BLOCK, *self.store.shape, generator=g) for g in generators])
            return noise[:count].to(self.spec.device)

        predict, sampler = self._epsilon(model, self._condition(repeat, blocks, count)), SAMPLERS[settings.sampler]
        with compute.autocast(self.spec):
            x = sampler(predict, draw(), self.schedule, settings.steps, settings.end, draw)
        return x if self.store.codec is None else self.store.codec.decode(x)

    def _condition(self, repeat: int, blocks: range, count: int) -> Tensor | None:
        generators = [self.streams.generator("sample", repeat, block, CONDITION) for block in blocks]
        parts = [part for g in generators if (part := conditions(self.store, BLOCK, g)) is not None]
        return torch.cat(parts)[:count].to(self.spec.device) if parts else None

    def _epsilon(self, model: nn.Module, condition: Tensor | None) -> Epsilon:
        """The noise prediction under a condition, guided and clipped as the settings say."""
        weight, schedule = self.settings.guidance, self.schedule
        predict = schedules.epsilon(model, schedule, condition)
        empty = no_condition(self.spec, self.store) if weight else None
        if condition is not None and empty is not None:
            empty = empty.to(condition).expand_as(condition)
            predict = schedules.guided(model, schedule, condition, empty, weight)
        return clipped(predict, schedule) if self.settings.clip else predict


class Evaluator(ImageSampler):
    """Evaluates models of one cell. Extractors and reference statistics, kept in `folders`, are loaded once.

    They are the suite's own, those beside it, and last the mean of an image.
    """

    def __init__(self, spec: RunSpec, store: Store, *folders: Path) -> None:
        super().__init__(spec, store)
        names = (self.settings.extractor, *self.settings.beside)
        self.extractors = [features.load(name, device=spec.device) for name in names]
        self.extractors.append(features.image_mean(spec.device))
        self.references = [frechet.reference(store, one, *folders) for one in self.extractors]

    @torch.inference_mode()
    def __call__(self, model: nn.Module, repeat: int = 0) -> Measured:
        """Measure `model` under the sampling noise number `repeat`; 0 is the one of every curve.

        The ranks of a run take turns at the batches. Rank 0 has the distance: that of one process, bit for bit where
        the features are; the others have nan.
        """
        began, sampling = time.perf_counter(), 0.0
        accumulators = [frechet.Accumulator(one.dim) for one in self.extractors]
        grid = torch.empty(0, dtype=torch.uint8)
        rank, stride = distributed.rank(), BATCH * distributed.count()
        with evaluating(model):
            for start in range(0, self.settings.samples, stride):
                features, pixels, seconds = self._features(model, repeat, start + BATCH * rank)
                sampling += seconds
                for accumulator, mine in zip(accumulators, features, strict=True):
                    for those in distributed.gathered(mine, BATCH):
                        accumulator.add(those)
                if not start:
                    grid = pixels[:BLOCK].cpu()
        distances, kernel, spread = [math.nan] * len(self.extractors), math.nan, math.nan
        if accumulators[0].size == self.settings.samples and not rank:
            found = [accumulator.statistics() for accumulator in accumulators]
            distances = [frechet.frechet_distance(*both) for both in zip(found, self.references, strict=True)]
            kernel, spread = frechet.kernel_distance(found[0], self.references[0]), found[-1].spread
        beside = dict(zip(self.settings.beside, distances[1:-1], strict=True))
        rest = time.perf_counter() - began - sampling
        return Measured(distances[0], kernel, beside, spread, grid, sampling, rest)

    def _features(self, model: nn.Module, repeat: int, start: int) -> tuple[list[Tensor], Tensor, float]:
        """Features (B, dim) of a batch of samples under each extractor, none if one is not finite; its pixels; the
        seconds of sampling."""
        began, none = time.perf_counter(), [torch.empty(0, one.dim, device=self.spec.device) for one in self.extractors]
        if start >= self.settings.samples:
            return none, none[0], 0.0
        x = self.sample(model, repeat, start)
        finite, pixels = bool(x.isfinite().all()), frechet.to_uint8(x.nan_to_num(0.0))
        seconds = time.perf_counter() - began  # to_uint8 has waited for the device
        return [extractor(pixels) for extractor in self.extractors] if finite else none, pixels, seconds


def thumbnails(images: Tensor) -> Tensor:
    """Of uint8 images (N, C, H, W) above 32 pixels a side the first 16, averaged down to 64 pixels: what a run keeps at
    every evaluation stays small."""
    side = images.shape[-1]
    if side <= 32:
        return images
    return functional.adaptive_avg_pool2d(images[:16].float(), min(side, 64)).round().to(torch.uint8)


def save_grid(path: Path, images: Tensor) -> None:
    """Write uint8 (up to 64, C, H, W) as an 8 x 8 grid with a white pixel between images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(images / 255, path, nrow=8, padding=1, pad_value=1)
