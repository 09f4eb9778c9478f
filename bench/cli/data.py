"""The verb `data`: what datasets there are, preparing and verifying them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import datasets
from bench.cli.console import console, table
from bench.errors import BadInput
from datasets import Dataset, Options, Store


def act(o: argparse.Namespace) -> int:
    """Do what the verb asks for and return the exit code."""
    chosen = [datasets.get(o.name)] if o.name else list(datasets.DATASETS.values())
    if o.action == "list":
        return _list(chosen, o.data)
    if o.action == "verify":
        return _verify([d.name for d in chosen if o.name or Store.exists(o.data, d.name)], o.data)
    return _prepare(chosen[0], o)


def _prepare(dataset: Dataset, o: argparse.Namespace) -> int:
    source = o.source or (o.data / "originals" / dataset.name if o.download else None)
    if o.dry_run:
        print(f"would prepare {dataset.name} in {o.data / dataset.name}" + (f" from {source}" if source else ""))
        return 0
    if o.download and source and not Store.exists(o.data, dataset.name):
        _download(dataset, source)
    there = Store.exists(o.data, dataset.name)
    if there and dataset.originals and not o.partial and (kept := Store.open(o.data, dataset.name)).partial:
        raise BadInput(
            f"dataset {dataset.name}: {kept.path} holds {kept.count:,} of {kept.manifest['published']:,} images; move "
            "it away to prepare all, or give --partial to keep it"
        )
    store = datasets.prepare(
        dataset.name, o.data, Options(source, o.partial, o.workers or 0, o.autoencoder, o.text_encoder, o.device)
    )
    remark = " (was there; delete the folder to make it anew)" if there else ""
    partial = f" of {store.manifest['published']:,}, partial" if store.partial else ""
    print(
        f"{dataset.name}: {store.count:,} images{partial} {_shape(store.shape)}, digest {store.digest[:12]}, "
        f"in {store.path}{remark}"
    )
    return 0


def _download(dataset: Dataset, folder: Path) -> None:
    """Fetch the originals; BadInput, one line, where that is impossible."""
    if dataset.download is None:
        what = (
            "needs no originals" if dataset.originals is None else "may not be downloaded without its publisher's leave"
        )
        raise BadInput(
            f"--download: {dataset.name} {what}; "
            + (
                "leave it out"
                if dataset.originals is None
                else f"give --source PATH, where PATH is {dataset.originals}"
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        dataset.download(folder)
    except (OSError, RuntimeError, ImportError) as error:
        raise BadInput(
            f"--download: {dataset.name} could not be fetched into {folder} ({' '.join(str(error).split())}); "
            f"give --source PATH, where PATH is {dataset.originals}"
        ) from error


def _list(chosen: list[datasets.Dataset], root: Path) -> int:
    rows = table("dataset", "image", "condition", "images", "MB", "digest", "what it is")
    problems: list[str] = []
    for dataset in chosen:
        if not Store.exists(root, dataset.name):
            have = ("not prepared" if dataset.originals else "made when needed", "", "")
        elif (store := _opened(dataset.name, root, problems)) is None:
            have = ("damaged", "", "")
        else:
            size = sum(entry["bytes"] for entry in store.manifest["files"].values())
            have = (
                f"{store.count:,}" + (" (partial)" if store.partial else ""),
                f"{size / 1e6:,.1f}",
                store.digest[:12],
            )
        rows.add_row(dataset.name, _shape(dataset.shape), dataset.condition, *have, dataset.about)
    console().print(rows)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return int(bool(problems))


def _verify(names: list[str], root: Path) -> int:
    problems: list[str] = []
    for name in names:
        store = _opened(name, root, problems)
        found = store.verify() if store else []
        problems += found
        if store and not found:
            print(f"{name}: {len(store.manifest['files'])} files, every digest as in the manifest")
    if not names:
        print(f"no dataset is prepared in {root}")
    print(*problems, sep="\n", end="\n" if problems else "")
    return int(bool(problems))


def _opened(name: str, root: Path, problems: list[str]) -> Store | None:
    """The store, or None and what is wrong with it among the problems: one damaged store hides no other."""
    try:
        return Store.open(root, name)
    except ValueError as error:
        problems.append(str(error))
        return None


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
