"""How far the distance to a dataset rises as its own images are spoilt, five levels each of four kinds.

    nice python -m tests.tools.degrade cifar10-16 --extractor small-conv --extractor cifar-net --data data

Each distance is that of 2,000 images to all of the dataset. The first 2,000, with noise added, blurred, or saved as JPEG;
or the first 2,000 of the kinds that are left, by labels that no network sees. docs/extractor-study.txt is what it printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.functional import gaussian_blur

from bench.evaluation import features, frechet
from datasets import Store

SAMPLES = 2_000
LEVELS: dict[str, tuple[float, ...]] = {
    "noise, standard deviation": (0.05, 0.1, 0.2, 0.4, 0.8),
    "blur, sigma in pixels": (0.3, 0.5, 0.7, 1.0, 1.5),
    "JPEG quality": (90, 70, 50, 30, 10),
    "kinds left out": (1, 2, 3, 4, 5),
}


def noisy(images: Tensor, level: float) -> Tensor:
    """With normal noise, of that standard deviation where pixels are in [-1, 1]."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return frechet.to_uint8(images / 127.5 - 1 + level * noise)


def saved(images: Tensor, level: float) -> Tensor:
    """Through JPEG at that quality."""
    return torch.stack([decode_jpeg(encode_jpeg(image, quality=int(level))) for image in images])


SPOIL: list[Callable[[Tensor, float], Tensor]] = [noisy, lambda images, level: gaussian_blur(images, 5, level), saved]


def rows(store: Store, name: str, data: Path) -> dict[str, list[float]]:
    """Distances at each level by what is done; "unchanged" has one."""
    extractor = features.load(name)
    reference = frechet.reference(store, extractor, data)
    labels = torch.from_numpy(store.labels)

    def distance(images: Tensor) -> float:
        return frechet.distance(images, reference, extractor)

    def without(kinds: float) -> Tensor:
        return torch.from_numpy(store.images[(labels >= kinds).nonzero()[:SAMPLES, 0].numpy()])

    found = {"unchanged": [distance(without(0))]}
    for (what, levels), spoil in zip(LEVELS.items(), SPOIL, strict=False):
        found[what] = [distance(spoil(without(0), level)) for level in levels]
    *_, (what, levels) = LEVELS.items()
    return found | {what: [distance(without(level)) for level in levels]}


def main() -> None:
    """Print a table per extractor, and whether each row rises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="one that has labels")
    parser.add_argument("--extractor", action="append", required=True, choices=tuple(features.DIMS))
    parser.add_argument("--data", type=Path, default=Path("data"), help="where it is prepared (default: data)")
    o = parser.parse_args()
    store = Store.open(o.data, o.dataset)
    if "labels.npy" not in store.manifest["files"]:
        parser.error(f"dataset: {o.dataset} has no labels; choose one that has, cifar10 or cifar10-16")
    for name in o.extractor:
        digest = features.load(name).digest
        print(f"\n{name} {digest[:12]} on {o.dataset} {store.digest[:12]}, {SAMPLES:,} of {store.count:,} images")
        for what, found in rows(store, name, o.data).items():
            rises = "" if len(found) == 1 else "  rises" if found == sorted(set(found)) else "  DOES NOT RISE"
            levels = "/".join(f"{level:g}" for level in LEVELS.get(what, ()))
            print(f"{f'{what} {levels}':50}" + "".join(f"{value:10.4g}" for value in found) + rises, flush=True)


if __name__ == "__main__":
    main()
