"""The verb `data`: what datasets there are, preparing and verifying them."""

from __future__ import annotations

from pathlib import Path

import datasets
from datasets import Store


def act(action: str, name: str | None, root: Path, source: Path | None, dry_run: bool) -> int:
    """Do `action` and return the exit code."""
    chosen = [datasets.get(name)] if name else list(datasets.DATASETS.values())
    if action == "list":
        return _list(chosen, root)
    if action == "verify":
        return _verify([d.name for d in chosen if name or Store.exists(root, d.name)], root)
    for dataset in chosen:
        if dry_run:
            print(f"would prepare {dataset.name} in {root / dataset.name}")
        else:
            store = datasets.prepare(dataset.name, root, source)
            print(f"{dataset.name}: {store.count:,} images {_shape(store.shape)}, digest {store.digest[:12]}, in {store.path}")
    return 0


def _list(chosen: list[datasets.Dataset], root: Path) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "image", "condition", "images", "MB", "digest", "what it is", box=None, pad_edge=False)
    for dataset in chosen:
        if Store.exists(root, dataset.name):
            store = Store.open(root, dataset.name)
            size = sum(entry["bytes"] for entry in store.manifest["files"].values())
            have = (f"{store.count:,}", f"{size / 1e6:,.1f}", store.digest[:12])
        else:
            have = ("not prepared", "", "")
        table.add_row(dataset.name, _shape(dataset.shape), dataset.condition, *have, dataset.about)
    console = Console()
    console.width = max(console.width, 120) if not console.is_terminal else console.width
    console.print(table)
    return 0


def _verify(names: list[str], root: Path) -> int:
    failures = 0
    for name in names:
        store = Store.open(root, name)
        problems = store.verify()
        failures += len(problems)
        print(*problems or [f"{name}: {len(store.manifest['files'])} files, every digest as in the manifest"], sep="\n")
    if not names:
        print(f"no dataset is prepared in {root}")
    return int(failures > 0)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
