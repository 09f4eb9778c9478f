"""The verb `perf --loader`: how fast rows are gathered from a store on disk, and what of that the training waits for.

Beside a step that takes as long as a GPU's, threads gather ahead; what is left on the training clock is the wait for
rows. The step is a stand-in that waits: what a GPU draws and computes for the rows is no part of it.
"""

from __future__ import annotations

import tempfile
import time
import timeit
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import datasets
from bench.cli.console import console, table
from bench.diffusion.batches import Batches, Rows
from bench.diffusion.loader import THREADS, Loader
from bench.diffusion.random_streams import RandomStreams
from bench.diffusion.schedules import schedule
from bench.performance.perf import write_store
from bench.planning import suite_file
from bench.planning.plan import plan
from datasets import Store

ROWS = 16_384  # of a random store, where the dataset is not prepared; 2,048 with captions, which are ten times as large


@dataclass(frozen=True)
class Case:
    """A dataset of the suite `paper`, as one of `ranks` reads it beside steps of so many seconds."""

    dataset: str
    ranks: int
    step: float


CASES = (
    Case("cifar10", 1, 0.010),
    Case("celeba64", 1, 0.026),
    Case("imagenet64", 1, 0.600),
    Case("imagenet64", 8, 0.075),
    Case("coco256", 1, 0.075),
)


@dataclass(frozen=True)
class Reading:
    """Images a second of a rank, read as fast as its threads can; seconds that one of them takes for its slice of a
    batch; and the share of steps spent waiting."""

    images: float
    seconds: float
    waiting: float


def show(data: Path, steps: int) -> None:
    """Print a line per case. A dataset that is not prepared under `data` is replaced by random bytes of its shape."""
    lines = table("dataset", "from", right=("batch", "ranks", "images a second", "ms a batch", "step", "on the clock"))
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            root, source = data, "the store"
            if not Store.exists(data, case.dataset):
                root, source = Path(folder), "random bytes"
                dataset = datasets.get(case.dataset)
                write_store(root, dataset, ROWS // 8 if dataset.context else ROWS)
            batch, found = measure(case, root, steps)
            told = (f"{found.images:,.0f}", f"{found.seconds * 1e3:.2f}", f"{case.step * 1e3:.0f} ms")
            lines.add_row(case.dataset, source, f"{batch:,}", f"{case.ranks}", *told, f"{found.waiting:.2%}")
    console().print(lines)
    threads = THREADS["cuda"]
    print(
        f"one rank of so many, which gathers its slice of {steps} batches: {threads} threads, median ms a batch of one"
    )


def measure(case: Case, root: Path, steps: int) -> tuple[int, Reading]:
    """The images of a batch, and how fast one rank reads its slice of `steps` batches."""
    spec = next(run.spec for run in plan(suite_file.load("paper")) if run.spec.dataset == case.dataset)
    store, streams = Store.open(root, case.dataset), RandomStreams(case.dataset, "loader", 0)
    batches = Batches(spec.but(device="cpu"), store, streams, schedule(spec.diffusion))
    loader = Loader(lambda at: batches.rows(at, 0, case.ranks), spec.batch, spec.budget)
    positions = iter(range(0, spec.budget, spec.batch))
    loader.rows(next(positions))
    began = time.perf_counter()
    for _ in range(steps):
        loader.rows(next(positions))
    images, waited = steps * spec.batch / case.ranks / (time.perf_counter() - began), 0.0
    for _ in range(steps):
        rows: Rows | None = None  # pinned memory is kept for the next batch; giving this back takes longer
        time.sleep(case.step)
        began = time.perf_counter()
        rows = loader.rows(next(positions))
        waited += time.perf_counter() - began
        assert rows
    loader.close()
    slices = timeit.repeat(lambda: batches.rows(next(positions), 0, case.ranks), number=1, repeat=steps)
    return spec.batch, Reading(images, median(slices), waited / (waited + steps * case.step))
