"""The Frechet distance between samples and a dataset, on the features of an extractor.

    d^2 = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

Heusel et al. 2017, arXiv 1706.08500, eq. 6. Features come through torch-fidelity's extractors; mean and covariance are
accumulated in float64, where torch-fidelity's mean is float32, and reference statistics are keyed by digests, where its
cache is keyed by name.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bench.errors import BadInput
from bench.evaluation.features import Extractor, check_images
from datasets import Store

BATCH = 1024  # images whose features are in memory at a time


@dataclass(frozen=True)
class Statistics:
    """Mean (dim,) and covariance (dim, dim) of features, float64, and how many samples they are of."""

    mu: np.ndarray
    sigma: np.ndarray
    size: int

    @property
    def digest(self) -> str:
        """sha256 of their bytes."""
        return hashlib.sha256(self.mu.tobytes() + self.sigma.tobytes() + str(self.size).encode()).hexdigest()


class Accumulator:
    """Sums of features and of their products, float64, batch by batch around the first batch's mean, where the features are."""

    def __init__(self) -> None:
        self.size, self.shift = 0, np.zeros(0)

    def add(self, features: Tensor) -> None:
        """Count features (B, dim) in."""
        x = _native(features.double())
        if not self.size:
            self.shift, self.total, self.products = x.mean(0), 0.0, 0.0
        x = x - self.shift  # the variance of a small difference, not the difference of large squares
        self.size, self.total, self.products = self.size + len(x), self.total + x.sum(0), self.products + x.T @ x

    def statistics(self) -> Statistics:
        """The mean and the unbiased covariance; BadInput if there are fewer samples than it takes."""
        if self.size <= len(self.shift):
            raise BadInput(f"samples: {self.size} given; more than the {len(self.shift)} feature dimensions are needed")
        shift, total, products = (x.cpu().numpy() if isinstance(x, Tensor) else x for x in (self.shift, self.total, self.products))
        mean = total / self.size
        sigma = (products - self.size * np.outer(mean, mean)) / (self.size - 1)
        if not np.isfinite(sigma).all():
            raise BadInput("features: not finite; the extractor's weights are damaged")
        return Statistics(shift + mean, sigma, self.size)


def _native(x: Tensor) -> Tensor | np.ndarray:
    """What sums up features of a device: torch there, numpy on a CPU, whose bits the records of CPU suites hold."""
    return x.numpy() if x.device.type == "cpu" else x


def statistics(images: Tensor, extractor: Extractor) -> Statistics:
    """Of uint8 images (N, C, H, W); BadInput for N <= dim and for what are no such images."""
    check_images(images, extractor.minimum)
    total = Accumulator()
    for part in images.split(BATCH):
        total.add(extractor(part))
    return total.statistics()


def distance(images: Tensor, reference: Statistics, extractor: Extractor) -> float:
    """The Frechet distance of uint8 images (N, C, H, W) to the reference; BadInput for N <= dim."""
    if reference.mu.shape != (extractor.dim,):
        raise BadInput(f"reference: statistics of {len(reference.mu)} dimensions given; "
                       f"{extractor.name} has {extractor.dim}")
    return frechet(statistics(images, extractor), reference)


def frechet(a: Statistics, b: Statistics) -> float:
    """The squared Frechet distance of two Gaussians.

    tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: two
    symmetric eigen-decompositions, faster and steadier than a general matrix square root.
    """
    values, vectors = np.linalg.eigh(a.sigma)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ b.sigma @ root)
    difference = a.mu - b.mu
    return float(difference @ difference + np.trace(a.sigma) + np.trace(b.sigma) - 2 * np.sqrt(cross.clip(0)).sum())


def reference(store: Store, extractor: Extractor, data: Path) -> Statistics:
    """Statistics of a dataset's reference images, kept under DATA/.reference by the digests of data and extractor."""
    path = Path(data) / ".reference" / f"{store.digest[:32]}-{extractor.name}-{extractor.digest[:32]}.npz"
    key = f"{store.digest} {len(store.reference)} {extractor.name} {extractor.digest}"
    if found := _read(path, key, extractor.dim):
        return found
    total = Accumulator()
    for start in range(0, len(store.reference), BATCH):
        total.add(extractor(torch.from_numpy(np.array(store.reference[start:start + BATCH]))))
    made = total.statistics()
    _write(path, made, key)
    return made


def _read(path: Path, key: str, dim: int) -> Statistics | None:
    """Kept statistics, None if there are none, or if they are damaged or of something else (then they are made again).

    A file made before keys were written into it is known by its name alone.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = Statistics(kept["mu"], kept["sigma"], int(kept["size"]))
            whole = str(kept["digest"]) == found.digest and str(kept["key"] if "key" in kept else key) == key
            return found if whole and (found.mu.shape, found.sigma.shape) == ((dim,), (dim, dim)) else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(path: Path, made: Statistics, key: str) -> None:
    """Written beside under a name of its own, since several workers and nodes may do so at once; flushed; renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, mu=made.mu, sigma=made.sigma, size=made.size, digest=made.digest, key=key)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)  # others on the same store may read it
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8: clamped, (x + 1) * 127.5, rounded half to even; inverts the training's scaling.

    BadInput if something is not finite: a cast of nan gives whatever the hardware likes.
    """
    if not bool(x.isfinite().all()):
        raise BadInput(f"images: {int((~x.isfinite()).sum())} of {x.numel()} values are not finite")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
