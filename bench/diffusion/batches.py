"""What a training step sees: images or latents, conditions, times and noise, all functions of the position alone.

The rows of the store are gathered on the host, where threads may do it ahead; all else is drawn and computed on the
run's device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import models
from bench.diffusion.random_streams import RandomStreams, SliceDraws, image_indices
from bench.diffusion.schedules import Schedule
from bench.runs.run_spec import RunSpec
from datasets import Store

Indices = NDArray[np.int64]  # of training images

# The last key of the stream `augment`: mirroring, the noise of latents, which caption, and whether it is left out.
FLIP, LATENT, CAPTION, OMISSION = range(4)


@dataclass(frozen=True)
class Batch:
    """x, noise (B, C, H, W), t (B,) in [0, 1]; condition: long (B,), float (B, tokens, width) or None.

    digest: of the image indices of the whole batch, by which the arms of a pair are seen to share them.
    """

    x: Tensor
    t: Tensor
    noise: Tensor
    condition: Tensor | None
    digest: bytes

    def part(self, index: int, count: int) -> Batch:
        """The index-th of `count` equal slices."""
        x, t, noise = (tensor.chunk(count)[index] for tensor in (self.x, self.t, self.noise))
        return Batch(x, t, noise, None if self.condition is None else self.condition.chunk(count)[index], self.digest)


@dataclass(frozen=True)
class Rows:
    """What the store holds of a rank's slice of the batch at `position`, as stored, in memory.

    x: uint8 pixels or fp16 moments; condition: labels, states of one caption of each image, or None.
    """

    position: int
    images: range
    x: Tensor
    condition: Tensor | None
    digest: bytes


class Batches:
    """The batches of one run; a rank draws its slice of them."""

    def __init__(self, spec: RunSpec, store: Store, streams: RandomStreams, schedule: Schedule) -> None:
        self.size, self.flip, self.unconditional = spec.batch, spec.flip, spec.unconditional
        self.spec, self.store, self.streams, self.schedule = spec, store, streams, schedule
        self.device = torch.device(spec.device)
        self.scale = store.codec.scale if store.codec else 1.0  # of latents

    def draw(self, position: int, rank: int = 0, processes: int = 1) -> Batch:
        """A rank's slice of the batch that begins at the `position`-th drawn image of the run."""
        return self.batch(self.rows(position, rank, processes))

    def rows(self, position: int, rank: int = 0, processes: int = 1) -> Rows:
        """What `draw` reads. Nothing here waits for an accelerator: the choice of captions is drawn on the CPU."""
        indices = image_indices(self.streams, self.store.count, position, self.size).numpy()
        share = self.size // processes
        images = range(rank * share, (rank + 1) * share)
        own = indices[images.start : images.stop]
        digest = hashlib.blake2b(indices.tobytes(), digest_size=16).digest()
        x = self._take(self.store.images if self.store.moments is None else self.store.moments, own)
        return Rows(position, images, x, self._condition(own, position, images), digest)

    def batch(self, rows: Rows) -> Batch:
        """The rows on the device, and what is drawn for them there."""
        mine = SliceDraws(self.streams, rows.position, rows.images, self.device)
        x = rows.x.to(self.device, non_blocking=True)
        x = self._images(x, mine) if self.store.moments is None else self._latents(x, mine)
        condition = None if rows.condition is None else rows.condition.to(self.device, non_blocking=True)
        if condition is not None and self.empty is not None:
            left_out = mine.uniform("augment", OMISSION) < self.unconditional
            left_out = left_out.view(-1, *[1] * (condition.ndim - 1))
            condition = torch.where(left_out, self.empty, condition.to(self.empty.dtype))
        t = self.schedule.draw(mine.uniform("time"))
        return Batch(x, t, mine.normal(tuple(x.shape[1:]), "noise"), condition, rows.digest)

    @cached_property
    def empty(self) -> Tensor | None:
        """What replaces a condition that is left out, on the device."""
        found = no_condition(self.spec, self.store)
        return None if found is None else found.to(self.device)

    def _take(self, array: NDArray[Any], rows: Indices) -> Tensor:
        """Rows of an array; in pinned memory for an accelerator, which copies from there while others compute."""
        kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
        pinned = self.device.type == "cuda"
        taken = torch.empty((len(rows), *array.shape[1:]), dtype=kind, pin_memory=pinned)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(array):
            raise IndexError(f"dataset {self.store.manifest['name']}: rows beyond the {len(array)} of an array")
        np.take(array, rows, axis=0, out=taken.numpy(), mode="clip")  # any other mode copies once more
        return taken

    def _images(self, pixels: Tensor, mine: SliceDraws) -> Tensor:
        """Pixels in [-1, 1], half of the images mirrored where the recipe flips."""
        if self.flip:
            mirrored = mine.uniform("augment", FLIP) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return pixels / 127.5 - 1

    def _latents(self, moments: Tensor, mine: SliceDraws) -> Tensor:
        """scale (mean + exp(log variance / 2) noise): a latent is sampled anew each time its image is drawn."""
        mean, log_variance = moments.float().chunk(2, dim=1)
        noise = mine.normal(tuple(mean.shape[1:]), "augment", LATENT)
        return self.scale * (mean + (0.5 * log_variance).exp() * noise)

    def _condition(self, own: Indices, position: int, images: range) -> Tensor | None:
        """Labels, or one caption of each image at random."""
        store = self.store
        if store.condition == "none":
            return None
        if store.condition == "class":
            return self._take(store.labels, own)
        choice = SliceDraws(self.streams, position, images, torch.device("cpu")).uniform("augment", CAPTION).numpy()
        first, end = store.first[own], store.first[own + 1]
        return self._take(store.texts, first + (choice * (end - first)).astype(np.int64))


def no_condition(spec: RunSpec, store: Store) -> Tensor | None:
    """What stands for no condition: states of the empty prompt, float, or the null class, long; None without either."""
    if store.condition == "text":
        return torch.from_numpy(store.empty).float()
    null = models.config(spec.backbone).null_class
    return None if null is None else torch.tensor(null)
