"""What a training step sees: images or latents, conditions, times and noise, all functions of the position alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


class Batches:
    """The batches of one run, drawn on its device; a rank draws its slice of them."""

    def __init__(self, spec: RunSpec, store: Store, streams: RandomStreams, schedule: Schedule) -> None:
        self.size, self.flip, self.unconditional = spec.batch, spec.flip, spec.unconditional
        self.store, self.streams, self.schedule = store, streams, schedule
        self.device = torch.device(spec.device)
        self.scale = store.codec.scale if store.codec else 1.0  # of latents

    def draw(self, position: int, rank: int = 0, processes: int = 1) -> Batch:
        """A rank's slice of the batch that begins at the `position`-th drawn image of the run."""
        indices = image_indices(self.streams, self.store.count, position, self.size).numpy()
        share = self.size // processes
        mine = SliceDraws(self.streams, position, range(rank * share, (rank + 1) * share), self.device)
        own = indices[mine.images.start : mine.images.stop]
        x = self._images(own, mine) if self.store.moments is None else self._latents(own, mine)
        t = self.schedule.draw(mine.uniform("time"))
        digest = hashlib.blake2b(indices.tobytes(), digest_size=16).digest()
        return Batch(x, t, mine.normal(tuple(x.shape[1:]), "noise"), self._condition(own, mine), digest)

    def _images(self, indices: Indices, mine: SliceDraws) -> Tensor:
        """Pixels in [-1, 1], half of the images mirrored where the recipe flips."""
        pixels = torch.from_numpy(self.store.images[indices]).to(self.device)
        if self.flip:
            mirrored = mine.uniform("augment", FLIP) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return pixels / 127.5 - 1

    def _latents(self, indices: Indices, mine: SliceDraws) -> Tensor:
        """scale (mean + exp(log variance / 2) noise): a latent is sampled anew each time its image is drawn."""
        assert self.store.moments is not None
        moments = torch.from_numpy(self.store.moments[indices]).to(self.device)
        mean, log_variance = moments.float().chunk(2, dim=1)
        noise = mine.normal(tuple(mean.shape[1:]), "augment", LATENT)
        return self.scale * (mean + (0.5 * log_variance).exp() * noise)

    def _condition(self, indices: Indices, mine: SliceDraws) -> Tensor | None:
        """Labels; or one caption of each image at random, some of them replaced by the empty prompt."""
        store = self.store
        if store.condition == "none":
            return None
        if store.condition == "class":
            return torch.from_numpy(store.labels[indices]).to(self.device)
        choice, omission = (mine.uniform("augment", key).cpu().numpy() for key in (CAPTION, OMISSION))
        first, end = store.first[indices], store.first[indices + 1]
        states = torch.from_numpy(store.texts[first + (choice * (end - first)).astype(np.int64)]).float()
        states[torch.from_numpy(omission < self.unconditional)] = torch.from_numpy(store.empty).float()
        return states.to(self.device)
