"""Distances between samples and a dataset on an extractor's features: Frechet's, and beside it the kernel distance.

    d^2 = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

Heusel et al. 2017, arXiv 1706.08500, eq. 6. Features come through torch-fidelity's extractors; mean and covariance are
accumulated in float64, where torch-fidelity's mean is float32, and reference statistics are keyed by digests, where its
cache is keyed by name. The kernel distance (KID; Binkowski et al. 2018, arXiv 1801.01401) is torch-fidelity's.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric
from tqdm import TqdmMonitorWarning

from bench.errors import BadInput
from bench.evaluation.features import Extractor, check_images
from datasets import Store
from reports.records.files import replacing
from reports.records.lease import Lease

BATCH = 1024  # images whose features are in memory at a time
KEPT = 10_000  # features that are kept for the kernel distance, of samples and of the reference
SUBSETS, SUBSET = 10, 1000  # of the kernel distance: how many, and their size at most


@dataclass(frozen=True)
class Statistics:
    """Mean (dim,) and covariance (dim, dim) of features, float64, how many samples they are of, and the first KEPT."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    size: int
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @property
    def spread(self) -> float:
        """Root of the total variance; of one feature, its standard deviation."""
        return math.sqrt(np.trace(self.sigma))

    @property
    def digest(self) -> str:
        """sha256 of the bytes of mean and covariance."""
        return hashlib.sha256(self.mu.tobytes() + self.sigma.tobytes() + str(self.size).encode()).hexdigest()


class Accumulator:
    """Sums of features and of their products, float64, batch by batch, around the first batch's mean."""

    def __init__(self, dim: int) -> None:
        self.dim, self.size = dim, 0
        self.shift: Any = 0.0
        self.total: Any = 0.0
        self.products: Any = 0.0
        self.kept: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Count features (B, dim) in; B may be 0."""
        if not len(features):
            return
        if self.size < KEPT:
            self.kept.append(features[: KEPT - self.size].cpu())
        x: Any = features.double()
        if features.device.type == "cpu":
            x = x.numpy()  # whose bits the records of CPU suites hold
        if not self.size:
            self.shift = x.mean(0)
        x = x - self.shift  # the variance of a small difference, not the difference of large squares
        self.size, self.total, self.products = self.size + len(x), self.total + x.sum(0), self.products + x.T @ x

    def statistics(self) -> Statistics:
        """The mean and the unbiased covariance; BadInput if there are fewer samples than it takes."""
        if self.size <= self.dim:
            raise BadInput(f"samples: {self.size} given; more than the {self.dim} feature dimensions are needed")
        shift, total, products = (np.asarray(torch.as_tensor(x).cpu()) for x in (self.shift, self.total, self.products))
        mean = total / self.size
        sigma = (products - self.size * np.outer(mean, mean)) / (self.size - 1)
        if not np.isfinite(sigma).all():
            raise BadInput("features: not finite; the extractor's weights are damaged")
        return Statistics(shift + mean, sigma, self.size, torch.cat(self.kept).float().numpy())


def statistics(batches: Iterable[Tensor], extractor: Extractor) -> Statistics:
    """Of batches of uint8 images (B, C, H, W); BadInput for too few, or for what the extractor does not take."""
    accumulator = Accumulator(extractor.dim)
    for images in batches:
        accumulator.add(extractor(images))
    return accumulator.statistics()


def distance(images: Tensor, reference: Statistics, extractor: Extractor) -> float:
    """The Frechet distance of uint8 images (N, C, H, W) to the reference; BadInput for N <= dim."""
    if reference.mu.shape != (extractor.dim,):
        dim = len(reference.mu)
        raise BadInput(f"reference: statistics of {dim} dimensions given; {extractor.name} has {extractor.dim}")
    check_images(images, extractor.name)
    return frechet_distance(statistics(torch.split(images, BATCH), extractor), reference)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """The squared Frechet distance of two Gaussians.

    tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: two
    symmetric eigen-decompositions, faster and steadier than a general matrix square root.
    """
    values, vectors = np.linalg.eigh(a.sigma)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ b.sigma @ root)
    difference = a.mu - b.mu
    return float(difference @ difference + np.trace(a.sigma) + np.trace(b.sigma) - 2 * np.sqrt(cross.clip(0)).sum())


def kernel_distance(a: Statistics, b: Statistics) -> float:
    """The unbiased squared MMD under the kernel (x y / dim + 1)^3, mean over random subsets of features; near 0 it may
    be negative. Subsets of other sizes differ in noise, not in what they estimate."""
    size = min(SUBSET, len(a.features), len(b.features))
    parts = [torch.from_numpy(one.features).double() for one in (a, b)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmMonitorWarning)  # of a bar that is never shown, where no thread can start
        found = kid_features_to_metric(*parts, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False)
    return float(found["kernel_inception_distance_mean"])


def reference(store: Store, extractor: Extractor, folder: Path, *others: Path) -> Statistics:
    """Statistics of a dataset's reference images, kept under FOLDER/.reference by the digests of data and extractor; of
    a folder that may only be read, in the next of the others.

    They are made again if the kept ones are damaged or of something else; by one process, while others wait for it.
    """
    path = Path(folder) / ".reference" / f"{store.digest[:32]}-{extractor.name}-{extractor.digest[:32]}.npz"
    key = f"{store.digest} {len(store.reference)} {extractor.name} {extractor.digest}"
    if found := _kept(path, key):
        return found
    try:
        with Lease(path.with_suffix(".lock"), wait=math.inf):
            if found := _kept(path, key):
                return found
            starts = range(0, len(store.reference), BATCH)
            made = statistics((torch.from_numpy(np.array(store.reference[i : i + BATCH])) for i in starts), extractor)
            with replacing(path) as file:
                np.savez(
                    file,
                    mu=made.mu,
                    sigma=made.sigma,
                    size=made.size,
                    features=made.features,
                    digest=made.digest,
                    key=key,
                )
            return made
    except OSError:
        if not others:
            raise
        return reference(store, extractor, *others)


def _kept(path: Path, key: str) -> Statistics | None:
    """The statistics in a file, if it is whole and of that key."""
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as kept:
        found = Statistics(kept["mu"], kept["sigma"], int(kept["size"]), kept["features"])
        if str(kept["key"]) == key and str(kept["digest"]) == found.digest:
            return found
    return None


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8: clamped, (x + 1) * 127.5, rounded half to even; inverts the training's scaling.

    BadInput if something is not finite: a cast of nan gives whatever the hardware likes.
    """
    if not bool(x.isfinite().all()):
        raise BadInput(f"images: {int((~x.isfinite()).sum())} of {x.numel()} values are not finite")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
