"""What a training step sees: images or latents, conditions, times and noise, all functions of the position alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.diffusion.random_streams import RandomStreams, image_indices
from bench.diffusion.schedules import Schedule
from bench.runs.run_spec import RunSpec
from datasets import Store

Indices = NDArray[np.int64]  # of training images

# The second key of the stream `augment`: mirroring, the noise of latents, which caption and whether it is left out.
FLIP, LATENT, CAPTION = range(3)


@dataclass(frozen=True)
class Batch:
    """x, noise (B, C, H, W), t (B,) in [0, 1]; condition: long (B,), float (B, tokens, width) or None.

    digest: of image indices and times, by which the arms of a pair are seen to share them.
    """

    x: Tensor
    t: Tensor
    noise: Tensor
    condition: Tensor | None
    digest: bytes

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def part(self, index: int, count: int) -> Batch:
        """The index-th of `count` equal slices."""
        return self if count == 1 else self._each(lambda tensor: tensor.chunk(count)[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        condition = None if self.condition is None else change(self.condition)
        return Batch(change(self.x), change(self.t), change(self.noise), condition, self.digest)


class Batches:
    """The batches of one run."""

    def __init__(self, spec: RunSpec, store: Store, streams: RandomStreams, schedule: Schedule) -> None:
        self.size, self.flip, self.unconditional = spec.batch, spec.flip, spec.unconditional
        self.store, self.streams, self.schedule = store, streams, schedule
        self.generator = streams.generator
        self.scale = store.codec.scale if store.codec else 1.0  # of latents

    def draw(self, position: int) -> Batch:
        """The batch that begins at the `position`-th drawn image of the run, on the CPU."""
        indices = image_indices(self.streams, self.store.count, position, self.size).numpy()
        moments = self.store.moments
        x = self._images(indices, position) if moments is None else self._latents(moments[indices], position)
        t = self.schedule.draw(torch.rand(self.size, generator=self.generator("time", position)))
        noise = torch.randn(x.shape, generator=self.generator("noise", position))
        digest = hashlib.blake2b(indices.tobytes() + t.numpy().tobytes(), digest_size=16).digest()
        return Batch(x, t, noise, self._condition(indices, position), digest)

    def _images(self, indices: Indices, position: int) -> Tensor:
        """Pixels in [-1, 1], half of the images mirrored where the recipe flips."""
        pixels = torch.from_numpy(self.store.images[indices])
        if self.flip:
            mirrored = torch.rand(self.size, generator=self.generator("augment", position, FLIP)) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return pixels / 127.5 - 1

    def _latents(self, moments: NDArray[np.float16], position: int) -> Tensor:
        """scale (mean + exp(log variance / 2) noise): a latent is sampled anew each time its image is drawn."""
        mean, log_variance = torch.from_numpy(moments).float().chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=self.generator("augment", position, LATENT))
        return self.scale * (mean + (0.5 * log_variance).exp() * noise)

    def _condition(self, indices: Indices, position: int) -> Tensor | None:
        """Labels; or one caption of each image at random, some of them replaced by the empty prompt."""
        store = self.store
        if store.condition == "none":
            return None
        if store.condition == "class":
            return torch.from_numpy(store.labels[indices])
        choice, omission = torch.rand(2, self.size, generator=self.generator("augment", position, CAPTION)).numpy()
        first, end = store.first[indices], store.first[indices + 1]
        states = torch.from_numpy(store.texts[first + (choice * (end - first)).astype(np.int64)]).float()
        states[torch.from_numpy(omission < self.unconditional)] = torch.from_numpy(store.empty).float()
        return states
