"""celeba64: 162,770 faces, 64x64. Unconditional. Liu et al. 2015, aligned and cropped images, the official train split.

Rows 57 to 185 and columns 25 to 153 of the 218x178 images, as the U-ViT recipe crops them, then PIL's bilinear to 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import originals
from datasets.originals import Item
from datasets.parallel import fill
from datasets.store import Dataset, Options, Writer

BOX = (25, 57, 153, 185)  # left, upper, right, lower
ORIGINALS = "a folder with img_align_celeba (.zip or folder) and list_eval_partition.txt"
PARTITION, TRAIN = "list_eval_partition.txt", "0"
REFERENCE = 50_000  # statistics are of the first 50,000, as in the U-ViT recipe


def prepare(writer: Writer, options: Options) -> None:
    """Write the images of the train split in the order of their names."""
    path = originals.find(options.source, "celeba64", ORIGINALS, "img_align_celeba.zip", "img_align_celeba")
    train = _train(path.parent / PARTITION)
    items = originals.by_name(originals.items(path))
    missing = sorted(train - items.keys())
    if missing and not options.partial:
        what = f"{len(missing):,} images of {PARTITION} are missing, the first {missing[0]}"
        raise ValueError(f"{path}: {what}; give --partial to prepare the others all the same (it is recorded)")
    chosen = [items[name] for name in sorted(train & items.keys())]
    writer.facts |= originals.check_count("celeba64", path, len(chosen), DATASET.count or 0, options.partial)
    writer.facts["reference"] = {"array": "images", "count": min(REFERENCE, len(chosen))}
    writer.resume(originals.identity(chosen, DATASET.recipe))
    fill(writer.path / "images.npy", chosen, DATASET.shape, np.uint8, convert, options.workers, "celeba64")
    writer.count = len(chosen)


def _train(path: Path) -> set[str]:
    """Names of the images that the partition list puts into the train split."""
    if not path.is_file():
        raise ValueError(f"--source: {path} is missing; celeba64 is made from {ORIGINALS}")
    rows = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    bad = next((row for row in rows if len(row) != 2 or row[1] not in ("0", "1", "2")), None)
    if bad:
        raise ValueError(f"{path}: {' '.join(bad)[:80]!r} is not an image and its split, 0, 1 or 2")
    return {name for name, split in rows if split == TRAIN}


def convert(items: Sequence[Item]) -> np.ndarray:
    """uint8 (n, 3, 64, 64)."""
    return np.stack([_one(item) for item in items])


def _one(item: Item) -> np.ndarray:
    image = item.image()
    if image.size != (178, 218):
        size = f"{image.size[0]}x{image.size[1]}"
        raise originals.Unreadable(f"{item.path}: {item.name} is {size}, aligned faces are 178x218")
    return originals.to_array(image.crop(BOX).resize((64, 64), Image.Resampling.BILINEAR))


def download(folder: Path) -> None:
    """Fetch the archive and the list through torchvision (from the publisher's drive; needs the package gdown)."""
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    for file_id, md5, name in CelebA.file_list:
        if name in ("img_align_celeba.zip", PARTITION):
            download_file_from_google_drive(file_id, str(folder), name, md5)


ABOUT = "CelebA, 162,770 faces of the train split"
RECIPE = "rows 57..185 and columns 25..153 of the aligned 218x178 image, PIL bilinear to 64x64; ordered by name"
DATASET = Dataset("celeba64", (3, 64, 64), ABOUT, RECIPE, prepare, ORIGINALS, count=162_770, download=download)
