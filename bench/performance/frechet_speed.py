"""The Frechet term by three routes, in one process: ours, torch-fidelity's and scipy's; how long each takes, and the same value."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from bench.evaluation import frechet as fid
from bench.evaluation.frechet import Statistics


def show(dim: int, threads: int) -> None:
    """Print seconds, the ratio to ours, and how far the value is from ours, of each route."""
    with threadpool_limits(threads):
        found = measure(dim)
    ours, seconds = found["eigh"]
    for route, (value, taken) in found.items():
        print(f"{route:16} {taken:8.2f} s  {taken / seconds:6.2f}x  {value:.9g}  differs by {abs(value / ours - 1):.1e}")
    print(f"one process, {threads} threads, {dim} dimensions, statistics of {2 * dim} random features with a decaying spectrum")


def measure(dim: int) -> dict[str, tuple[float, float]]:
    """(value, seconds) of each route."""
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    pair = [_statistics(dim, seed) for seed in (0, 1)]
    kept = [{"mu": each.mu, "sigma": each.sigma} for each in pair]
    return {"eigh": _timed(lambda: fid.frechet(*pair)),
            "torch-fidelity": _timed(lambda: fid_statistics_to_metric(*kept, verbose=False)["frechet_inception_distance"]),
            "scipy sqrtm": _timed(lambda: _by_scipy(*pair))}


def _statistics(dim: int, seed: int) -> Statistics:
    """Of features whose variances fall as those of a real extractor do, mixed by a random rotation."""
    bits = np.random.default_rng(seed)
    features = bits.standard_normal((2 * dim, dim)) / np.sqrt(1 + np.arange(dim))
    turned = features @ np.linalg.qr(np.random.default_rng(2).standard_normal((dim, dim)))[0] + 0.1 * seed
    return Statistics(turned.mean(0), np.cov(turned, rowvar=False), len(turned))


def _by_scipy(a: Statistics, b: Statistics) -> float:
    from scipy.linalg import sqrtm

    difference = a.mu - b.mu
    return float(difference @ difference + np.trace(a.sigma) + np.trace(b.sigma) - 2 * np.trace(sqrtm(a.sigma @ b.sigma)).real)


def _timed(work: Callable[[], float]) -> tuple[float, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began
