"""Datasets: one file each, which says how to prepare it and what condition it carries; `store` is the prepared form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets import celeba64, cifar10, coco256, digits, imagenet64, imagenet256, patches, scenes, shapes
from datasets.parallel import KEPT, cores
from datasets.store import Dataset, Options, Store, Writer

__all__ = ["DATASETS", "Dataset", "Options", "Store", "Writer", "get", "opened", "prepare"]

DEFAULTS = Options()
MODULES = (celeba64, imagenet64, imagenet256, coco256, digits, patches, shapes, scenes)
EACH = (cifar10.DATASET, cifar10.SMALL, *(module.DATASET for module in MODULES))
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in EACH}


def get(name: str) -> Dataset:
    """The dataset called `name`; ValueError, one line with the valid names, for any other."""
    if name not in DATASETS:
        raise ValueError(f"dataset: {name!r} is unknown; choose from {', '.join(DATASETS)}")
    return DATASETS[name]


def prepare(name: str, root: Path, options: Options = DEFAULTS) -> Store:
    """Prepare `name` under the folder `root` unless it is there already, and open it.

    ValueError, one line, for bad originals, a full disk, or a dataset that needs originals and got none. What an
    interrupted call had finished is kept for the next.
    """
    dataset = get(name)
    if not Store.exists(root, name):
        if dataset.unasked and options.source is None:
            options = replace(options, source=fetch(dataset, root))
        _check(dataset, root, options)
        try:
            with Writer(root, dataset) as writer:
                if not Store.exists(root, name):  # another process may have made it while this one waited
                    dataset.prepare(writer, replace(options, workers=options.workers or cores()))
        except OSError as error:
            what = f"{error.filename or root}: {error.strerror or error}"
            raise ValueError(f"dataset {name}: {what}; {KEPT}") from error
    return opened(name, root)


def opened(name: str, root: Path) -> Store:
    """The store of `name` under `root`; ValueError, one line, as `Store.open`, and where it is not what the dataset's
    file says by now."""
    dataset, store = get(name), Store.open(root, name)
    (was, there), (now, says) = [(one.condition, "x".join(map(str, one.shape))) for one in (store, dataset)]
    if (was, there) != (now, says):
        what = f"{store.path} was prepared as {there} with condition {was}, the dataset is {says} with {now}"
        raise ValueError(f"dataset {name}: {what}: delete the folder and prepare it again")
    return store


def fetch(dataset: Dataset, root: Path, folder: Path | None = None) -> Path:
    """Download its originals to a folder, by default ROOT/originals/NAME; returns it. ValueError, one line, where that
    is impossible."""
    if dataset.originals is None:
        raise ValueError(f"--download: {dataset.name} needs no originals; leave it out")
    instead = f"python -m bench data prepare {dataset.name} --source PATH, where PATH is {dataset.originals}"
    if dataset.download is None:
        what = f"{dataset.name} may not be downloaded without its publisher's leave"
        raise ValueError(f"--download: {what}; run: {instead}")
    folder = folder or Path(root) / "originals" / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dataset.download(folder)
    except (OSError, RuntimeError, ImportError) as error:
        what = f"dataset {dataset.name} could not be fetched into {folder} ({' '.join(str(error).split())})"
        raise ValueError(f"{what}; put the file there and try again, or run: {instead}") from error
    return folder


def _check(dataset: Dataset, root: Path, options: Options) -> None:
    if dataset.originals is None and options.source is not None:
        raise ValueError(f"--source: {options.source} is not used; {dataset.name} needs no originals")
    if dataset.originals is not None and options.source is None:
        command = f"python -m bench data prepare {dataset.name} --source PATH, where PATH is {dataset.originals}"
        fetched = "; or, to fetch it, with --download instead of --source PATH" if dataset.download else ""
        raise ValueError(f"dataset {dataset.name}: not prepared in {root}; run: {command}{fetched}")
    for field in ("autoencoder", "text_encoder"):
        if getattr(options, field) and field not in dataset.networks:
            users = " and ".join(name for name, each in DATASETS.items() if field in each.networks)
            raise ValueError(f"--{field.replace('_', '-')}: is not used by {dataset.name}; only by {users}")
