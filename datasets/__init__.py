"""Datasets: one file each, which says how to prepare it and what condition it carries; `store` is the prepared form."""

from __future__ import annotations

from pathlib import Path

from datasets import digits
from datasets.store import Dataset, Store, Writer

DATASETS: dict[str, Dataset] = {d.name: d for d in (digits.DATASET,)}


def get(name: str) -> Dataset:
    """The dataset called `name`; ValueError, one line with the valid names, for any other."""
    if name not in DATASETS:
        raise ValueError(f"dataset: {name!r} is unknown; choose from {', '.join(DATASETS)}")
    return DATASETS[name]


def prepare(name: str, root: Path, source: Path | None = None) -> Store:
    """Prepare `name` under the folder `root` unless it is there already, and open it."""
    dataset = get(name)
    if not Store.exists(root, name):
        with Writer(root, dataset) as writer:
            dataset.prepare(writer, source)
    return Store.open(root, name)
