"""celeba64: 162,770 faces, 64x64. Unconditional. Liu et al. 2015, aligned and cropped images, the official train split.

Rows 57 to 185 and columns 25 to 153 of the 218x178 images, as the U-ViT recipe crops them, then PIL's bilinear to 64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import originals
from datasets.originals import ARCHIVE, Item, Originals
from datasets.parallel import fill
from datasets.store import Dataset, Options, Writer

BOX = (25, 57, 153, 185)  # left, upper, right, lower
ORIGINALS = Originals(
    "celeba64",
    "a folder with img_align_celeba (.zip or folder) and list_eval_partition.txt (or Kaggle's .csv)",
    rf"(img_align_celeba|celeba-dataset){ARCHIVE}",
    202_599,
    others={r"img_celeba\b": "CelebA in the wild", r"celeba-?(mask-?)?hq": "CelebA-HQ"},
)
PARTITION, TRAIN = r"list_eval_partition\.(txt|csv)", "0"
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
REFERENCE = 50_000  # statistics are of the first 50,000, as in the U-ViT recipe


def prepare(writer: Writer, options: Options) -> None:
    """Write the images of the train split in the order of their names."""
    path, found = ORIGINALS.find(options.source)
    if (partition := originals.companion(path, PARTITION)) is None:
        raise ValueError(f"{path}: list_eval_partition.txt is missing in it and beside; {ORIGINALS.made}")
    train, items = _train(partition), originals.by_name(found)
    missing = sorted(train - items.keys())
    if not train & items.keys():
        what = f"has {min(items)}, none of the train split of {partition.name}, {min(train, default='which is empty')}"
        raise ValueError(f"{path}: {what}; {ORIGINALS.made}")
    if missing and not options.partial:
        what = f"{len(missing):,} images of {Path(partition.name).name} are missing, the first {missing[0]}"
        raise ValueError(f"{path}: {what}; give --partial to prepare the others all the same (it is recorded)")
    chosen = [items[name] for name in sorted(train & items.keys())]
    writer.facts |= originals.check_count("celeba64", path, len(chosen), DATASET.count or 0, options.partial)
    writer.facts["reference"] = {"array": "images", "count": min(REFERENCE, len(chosen))}
    writer.resume(originals.identity(chosen, DATASET.recipe))
    fill(writer.path / "images.npy", chosen, DATASET.shape, np.uint8, convert, options.workers, "celeba64")
    writer.count = len(chosen)


def _train(partition: Item) -> set[str]:
    """Names of the images that the partition list puts into the train split: a text of two columns, or a CSV file."""
    lines = originals.text(partition.read()).replace('"', "").replace(",", " ").splitlines()
    rows = [row for row in map(str.split, lines) if row not in ([], ["image_id", "partition"])]
    bad = next((row for row in rows if len(row) != 2 or row[1] not in ("0", "1", "2")), None)
    if bad:
        where = f"{partition.path}: {partition.name}"
        raise ValueError(f"{where}: {' '.join(bad)[:80]!r} is not an image and its split, 0, 1 or 2")
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
    """Fetch the archive and the list, which torchvision knows, from the publisher's drive."""
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_url

    for file_id, md5, name in CelebA.file_list:
        if name == "img_align_celeba.zip" or re.fullmatch(PARTITION, name):
            try:
                download_url(DRIVE + file_id, str(folder), name, md5)
            except RuntimeError:
                raise RuntimeError(f"the drive gave another file than {name}; fetch it by hand from {PAGE}") from None


ABOUT = "CelebA, 162,770 faces of the train split"
RECIPE = "rows 57..185 and columns 25..153 of the aligned 218x178 image, PIL bilinear to 64x64; ordered by name"
DATASET = Dataset("celeba64", (3, 64, 64), ABOUT, RECIPE, prepare, ORIGINALS.words, count=162_770, download=download)
