"""Stateless random streams: every draw comes from a generator keyed by what it is for, never by what came before.

The key is (dataset, backbone, seed, stream, position); the method is no part of it, so the arms of a pair share every
draw by construction, and a resumed run needs no generator state. Generators live on the CPU, so that a device does not
change the numbers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

STREAMS = ("init", "gate", "order", "augment", "time", "noise", "dropout", "sample", "probe")


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


@lru_cache(maxsize=2)
def permutation(streams: RandomStreams, count: int, epoch: int) -> Tensor:
    """The order of `count` images in an epoch."""
    return torch.randperm(count, generator=streams.generator("order", epoch))


def image_indices(streams: RandomStreams, count: int, start: int, size: int) -> Tensor:
    """Which of `count` images a run draws as its images start .. start + size - 1, long (size,), across epochs too."""
    end, epochs = start + size, range(start // count, (start + size - 1) // count + 1)
    return torch.cat([permutation(streams, count, e)[max(0, start - e * count) : end - e * count] for e in epochs])
