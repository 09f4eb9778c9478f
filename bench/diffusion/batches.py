"""What a training step sees: images or latents, conditions, times and noise, all functions of the position alone.

Draws of the stream `augment` have a second key: 0 flips, 1 the noise of latents, 2 the choice of captions and which of
them are left out for guidance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.diffusion.schedules import Schedule
from bench.diffusion.random_streams import Order, Streams
from datasets import Store

FLIP, LATENT, CAPTION = range(3)


@dataclass(frozen=True)
class Batch:
    """x, noise (B, C, H, W), t (B,) in [0, 1]; condition: long (B,), float (B, tokens, width) or None.

    drawn: a digest of indices and times, by which the arms of a pair are seen to share them.
    """

    x: Tensor
    t: Tensor
    noise: Tensor
    condition: Tensor | None
    drawn: bytes

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def part(self, index: int, count: int) -> Batch:
        """The index-th of `count` equal slices."""
        return self if count == 1 else self._each(lambda part: part.chunk(count)[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        parts = (self.x, self.t, self.noise, self.condition)
        return Batch(*(None if part is None else change(part) for part in parts), self.drawn)


class Batches:
    """The batches of one run."""

    def __init__(self, spec: dict, store: Store, streams: Streams, schedule: Schedule) -> None:
        self.size, self.flip, self.unconditional = spec["batch"], spec["flip"], spec["unconditional"]
        self.store, self.streams, self.schedule = store, streams, schedule
        self.order = Order(streams, store.count)

    def draw(self, position: int) -> Batch:
        """The batch that begins at the `position`-th drawn image of the run, on the CPU."""
        indices = self.order.batch(position, self.size).numpy()
        x = self._images(indices, position) if self.store.moments is None else self._latents(indices, position)
        t = self.schedule.draw(torch.rand(self.size, generator=self.streams.generator("time", position)))
        noise = torch.randn(x.shape, generator=self.streams.generator("noise", position))
        drawn = hashlib.blake2b(indices.tobytes() + t.numpy().tobytes(), digest_size=16).digest()
        return Batch(x, t, noise, self._condition(indices, position), drawn)

    def _images(self, indices: np.ndarray, position: int) -> Tensor:
        """Pixels in [-1, 1], half of them mirrored where the recipe flips."""
        pixels = torch.from_numpy(self.store.images[indices])
        if self.flip:
            chosen = torch.rand(self.size, generator=self.streams.generator("augment", position, FLIP)) < 0.5
            pixels = torch.where(chosen.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return pixels / 127.5 - 1

    def _latents(self, indices: np.ndarray, position: int) -> Tensor:
        """scale (mean + exp(log variance / 2) noise): a latent is sampled anew each time it is seen."""
        mean, log_variance = torch.from_numpy(self.store.moments[indices]).float().chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=self.streams.generator("augment", position, LATENT))
        return self.store.codec.scale * (mean + (0.5 * log_variance).exp() * noise)

    def _condition(self, indices: np.ndarray, position: int) -> Tensor | None:
        """Labels; or one caption of each image at random, some of them replaced by the empty prompt."""
        if self.store.condition == "none":
            return None
        if self.store.condition == "class":
            return torch.from_numpy(self.store.labels[indices])
        choice, left_out = torch.rand(2, self.size, generator=self.streams.generator("augment", position, CAPTION)).numpy()
        first, after = self.store.first[indices], self.store.first[indices + 1]
        states = torch.from_numpy(self.store.texts[first + (choice * (after - first)).astype(np.int64)]).float()
        states[torch.from_numpy(left_out < self.unconditional)] = torch.from_numpy(self.store.empty).float()
        return states


class Prompts:
    """The conditions of an evaluation, the same for every arm and seed of a cell."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.frequency = torch.from_numpy(np.bincount(store.labels)).double() if store.condition == "class" else None

    def draw(self, count: int, generator: torch.Generator) -> Tensor | None:
        """`count` labels by training frequency, or val captions, with repetition; None for an unconditional dataset."""
        if self.frequency is not None:
            return torch.multinomial(self.frequency, count, replacement=True, generator=generator)
        if self.store.condition == "text":
            chosen = torch.randint(len(self.store.val_texts), (count,), generator=generator).numpy()
            return torch.from_numpy(self.store.val_texts[chosen]).float()
        return None

    def empty(self, like: Tensor) -> Tensor:
        """The empty prompt for as many images as `like` has."""
        return torch.from_numpy(self.store.empty).to(like).expand_as(like)
