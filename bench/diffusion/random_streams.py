"""Stateless random streams: every draw comes from a generator keyed by what it is for, never by what came before.

The key is (dataset, backbone, seed, stream, position); the method is no part of it, so the arms of a pair share every
draw by construction, and a resumed run needs no generator state. What a training step draws is keyed by block of images
besides, so that a rank draws its own slice alone, and on the run's device; all else is drawn on the CPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

STREAMS = ("init", "gate", "order", "augment", "time", "noise", "dropout", "sample", "probe", "perturbation")
BLOCK = 32  # images of a batch that share one generator


@dataclass(frozen=True)
class RandomStreams:
    """The streams of one run. `seed` None stands for the cell: the same for all its seeds and arms."""

    dataset: str
    backbone: str
    seed: int | None

    def key(self, stream: str, *position: int) -> int:
        """A 63-bit seed for the draw at `position` of `stream`; ValueError for an unknown stream."""
        if stream not in STREAMS:
            raise ValueError(f"stream: {stream!r} is unknown; choose from {', '.join(STREAMS)}")
        text = json.dumps([self.dataset, self.backbone, self.seed, stream, *position])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, stream: str, *position: int) -> torch.Generator:
        """A fresh CPU generator for the draw at `position` of `stream`."""
        return torch.Generator().manual_seed(self.key(stream, *position))

    def cell(self) -> RandomStreams:
        """The streams that all runs of the cell share: evaluation noise and probes."""
        return replace(self, seed=None)


@dataclass(frozen=True)
class SliceDraws:
    """What a training step draws for some images of the batch at `position`, on a device.

    Every BLOCK images of the batch have a generator of their own: the numbers of an image depend on its place in the
    batch, never on which others are drawn here.
    """

    streams: RandomStreams
    position: int
    images: range
    device: torch.device

    def uniform(self, stream: str, *key: int) -> Tensor:
        """A number in [0, 1) for each image."""
        return self._draw(torch.rand, (), stream, key)

    def normal(self, shape: tuple[int, ...], stream: str, *key: int) -> Tensor:
        """Standard normal numbers in the given shape for each image."""
        return self._draw(torch.randn, shape, stream, key)

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...], stream: str, key: tuple[int, ...]) -> Tensor:
        first, parts = self.images.start // BLOCK, []
        for block in range(first, -(-self.images.stop // BLOCK)):
            seed = self.streams.key(stream, self.position, block, *key)
            generator = torch.Generator(self.device).manual_seed(seed)
            parts.append(draw((BLOCK, *shape), generator=generator, device=self.device))
        start = self.images.start - first * BLOCK
        return torch.cat(parts)[start : start + len(self.images)]


@lru_cache(maxsize=2)
def permutation(streams: RandomStreams, count: int, epoch: int) -> Tensor:
    """The order of `count` images in an epoch."""
    return torch.randperm(count, generator=streams.generator("order", epoch))


def image_indices(streams: RandomStreams, count: int, start: int, size: int) -> Tensor:
    """Which of `count` images a run draws as its images start .. start + size - 1, long (size,), across epochs too."""
    end, epochs = start + size, range(start // count, (start + size - 1) // count + 1)
    return torch.cat([permutation(streams, count, e)[max(0, start - e * count) : end - e * count] for e in epochs])
