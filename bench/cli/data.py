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
    if o.action == "prepare":
        if not o.name:
            raise BadInput("data prepare: the name of a dataset is missing; see: python -m bench data list")
        return _prepare(chosen[0], o)
    if o.action == "list":
        return _list(chosen, {d.name: _opened(d.name, o.data) for d in chosen if Store.exists(o.data, d.name)})
    return _verify({d.name: _opened(d.name, o.data) for d in chosen if o.name or Store.exists(o.data, d.name)}, o.data)


def _opened(name: str, root: Path) -> Store | str:
    """The store, or what is wrong with it: one damaged store hides no other."""
    try:
        return datasets.opened(name, root)
    except ValueError as error:
        return str(error)


def _prepare(dataset: Dataset, o: argparse.Namespace) -> int:
    source = o.source
    if o.dry_run:
        source = source or (o.data / "originals" / dataset.name if o.download else None)
        print(f"would prepare {dataset.name} in {o.data / dataset.name}" + (f" from {source}" if source else ""))
        return 0
    there = Store.exists(o.data, dataset.name)
    if o.download and not there:
        source = datasets.fetch(dataset, o.data, source)
    if there and dataset.originals and not o.partial and (kept := Store.open(o.data, dataset.name)).partial:
        what = f"{kept.path} holds {kept.count:,} of {kept.manifest['published']:,} images"
        raise BadInput(f"dataset {dataset.name}: {what}; move it away to prepare all, or give --partial to keep it")
    options = Options(source, o.partial, o.workers or 0, o.autoencoder, o.text_encoder, o.device)
    store = datasets.prepare(dataset.name, o.data, options)
    partial = f" of {store.manifest['published']:,}, partial" if store.partial else ""
    remark = " (was there; delete the folder to make it anew)" if there else ""
    what = f"{store.count:,} images{partial} {_shape(store.shape)}, digest {store.digest[:12]}"
    print(f"{dataset.name}: {what}, in {store.path}{remark}")
    return 0


def _list(chosen: list[Dataset], stores: dict[str, Store | str]) -> int:
    rows = table("dataset", "image", "condition", "images", "MB", "digest", "what it is")
    problems = [store for store in stores.values() if isinstance(store, str)]
    for dataset in chosen:
        store = stores.get(dataset.name)
        if isinstance(store, Store):
            size = sum(entry["bytes"] for entry in store.manifest["files"].values())
            count = f"{store.count:,}" + (" (partial)" if store.partial else "")
            have = (count, f"{size / 1e6:,.1f}", store.digest[:12])
        else:
            missing = "not prepared" if dataset.originals else "made when needed"
            have = ("damaged" if store else missing, "", "")
        rows.add_row(dataset.name, _shape(dataset.shape), dataset.condition, *have, dataset.about)
    console().print(rows)
    print(*(f"error: {problem}\n" for problem in problems), sep="", end="", file=sys.stderr)
    return int(bool(problems))


def _verify(stores: dict[str, Store | str], root: Path) -> int:
    problems: list[str] = []
    for name, store in stores.items():
        found = [store] if isinstance(store, str) else store.verify()
        problems += found
        if isinstance(store, Store) and not found:
            print(f"{name}: {len(store.manifest['files'])} files, every digest as in the manifest")
    if not stores:
        print(f"no dataset is prepared in {root}")
    print(*problems, sep="\n", end="\n" if problems else "")
    return int(bool(problems))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
