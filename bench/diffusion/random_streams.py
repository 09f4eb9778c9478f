"""Stateless random streams: every draw comes from a generator keyed by what it is for, never by what came before.

The key is (dataset, backbone, seed, stream, position); the method is no part of it, so the arms of a pair share every
draw by construction, and a resumed run needs no generator state. Generators live on the CPU, so that a device does not
change the numbers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch

STREAMS = ("init", "gate", "order", "augment", "time", "noise", "dropout", "sample", "probe")


@dataclass(frozen=True)
class Streams:
    """The streams of one run. `seed` None stands for the cell: the same for all its seeds and arms."""

    dataset: str
    backbone: str
    seed: int | None

    def key(self, stream: str, *position: int) -> int:
        """A 63-bit seed for the draw at `position` of `stream`."""
        if stream not in STREAMS:
            raise ValueError(f"stream: {stream!r} is unknown; choose from {', '.join(STREAMS)}")
        text = json.dumps([self.dataset, self.backbone, self.seed, stream, *position])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, stream: str, *position: int) -> torch.Generator:
        """A fresh CPU generator for the draw at `position` of `stream`."""
        return torch.Generator().manual_seed(self.key(stream, *position))

    def cell(self) -> Streams:
        """The streams that all runs of the cell share: evaluation noise."""
        return Streams(self.dataset, self.backbone, None)


class Order:
    """The order of images: a fresh permutation per epoch, batches running on across epochs."""

    def __init__(self, streams: Streams, count: int) -> None:
        self.streams, self.count = streams, count
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def batch(self, start: int, size: int) -> torch.Tensor:
        """Indices, long (size,), of the drawn images start .. start + size - 1 since the beginning of the run."""
        parts, position, left = [], start, size
        while left:
            epoch, offset = divmod(position, self.count)
            taken = min(left, self.count - offset)
            parts.append(self._of(epoch)[offset:offset + taken])
            position, left = position + taken, left - taken
        return torch.cat(parts)

    def _of(self, epoch: int) -> torch.Tensor:
        if epoch != self._epoch:
            self._permutation = torch.randperm(self.count, generator=self.streams.generator("order", epoch))
            self._epoch = epoch
        return self._permutation
