"""One evaluation: sample from the EMA with the cell's own noise, quantise to 8 bits, measure the distance to the data.

The noise is keyed by cell, repeat and block of 64 images, so that every arm and seed of a cell starts from the same
noise, and the size of a sampling batch does not change which noise an image gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import features, fid
from bench.diffusion import VPSDE, epsilon
from bench.samplers import SAMPLERS
from bench.streams import Streams
from datasets import Store

BLOCK = 64  # images that share one noise generator, and images of a sample grid
BATCH = 256  # images sampled at a time; constant, since another batch size rounds differently


@dataclass(frozen=True)
class Measured:
    """Distance (nan if samples are not finite), network evaluations per image, and the first 64 samples, uint8."""

    fid: float
    nfe: int
    grid: Tensor


class Evaluator:
    """Evaluates models of one cell. Extractor and reference statistics are loaded once."""

    def __init__(self, spec: dict, store: Store, data: Path) -> None:
        self.settings = spec["evaluation"]
        self.shape = store.shape
        self.device = torch.device(spec["device"])
        self.sde = VPSDE(**spec["diffusion"])
        self.streams = Streams(spec["dataset"], spec["backbone"], None)
        self.extractor = features.load(self.settings["extractor"])
        self.reference = fid.reference(store, self.extractor, data)

    @torch.inference_mode()
    def __call__(self, model: nn.Module, repeat: int = 0) -> Measured:
        """Measure `model` under the sampling noise number `repeat`; 0 is the one of every curve."""
        was_training = model.training
        model.eval()
        samples = self.sample(model, repeat)
        model.train(was_training)
        finite = bool(samples.isfinite().all())
        pixels = fid.to_uint8(samples.nan_to_num(0.0))
        distance = fid.distance(pixels, self.reference, self.extractor) if finite else math.nan
        return Measured(distance, self.settings["steps"], pixels[:BLOCK].cpu())

    def sample(self, model: nn.Module, repeat: int) -> Tensor:
        """Images, float (samples, C, H, W), nominally in [-1, 1]."""
        blocks = range(0, self.settings["samples"] // BLOCK)
        per_batch = BATCH // BLOCK
        return torch.cat([self._batch(model, repeat, blocks[i:i + per_batch]) for i in blocks[::per_batch]])

    def _batch(self, model: nn.Module, repeat: int, blocks: range) -> Tensor:
        generators = [self.streams.generator("sample", repeat, block) for block in blocks]

        def draw() -> Tensor:
            return torch.cat([torch.randn(BLOCK, *self.shape, generator=g) for g in generators]).to(self.device)

        sampler = SAMPLERS[self.settings["sampler"]]
        return sampler(epsilon(model), draw(), self.sde, self.settings["steps"], draw)


def save_grid(path: Path, images: Tensor) -> None:
    """Write uint8 (64, C, H, W) as an 8 x 8 grid with a white pixel between images."""
    from torchvision.utils import make_grid
    from torchvision.transforms.functional import to_pil_image

    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(make_grid(images, nrow=8, padding=1, pad_value=255)).save(path)
