"""imagenet64: 1,281,167 photographs of 1,000 classes, 64x64. Class-conditional. Russakovsky et al. 2015.

Halved with PIL's BOX while the short side is at least 128, BICUBIC until it is 64, centre crop, as in the U-ViT recipe
(and Dhariwal and Nichol 2021); this is not the downsampled ImageNet of Chrabaszcz et al.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import originals
from datasets.originals import ARCHIVE, Item, Originals
from datasets.parallel import fill
from datasets.store import Dataset, Options, Writer

SIZE = 64
ORIGINALS = Originals(
    "imagenet64",
    "the folder train (a folder or a tar per class, or ILSVRC above it) or ILSVRC2012_img_train.tar",
    rf"(ILSVRC2012_img_)?train{ARCHIVE}|imagenet-object-localization-challenge\.zip",
    1_281_167,
    others={r"Imagenet\d+_(train|val)|(train|val)_data_batch|(train|valid)_\d+x\d+": "the downsampled ImageNet"},
)
WORDNET = r"n\d{8}"


def prepare(writer: Writer, options: Options) -> None:
    """Write images and labels, ordered by class folder and name."""
    items, labels = find(writer, options)
    writer.resume(originals.identity(items, DATASET.recipe))
    fill(writer.path / "images.npy", items, DATASET.shape, np.uint8, convert, options.workers, "imagenet64")
    writer.write("labels", labels)
    writer.count = len(items)


def find(writer: Writer, options: Options) -> tuple[list[Item], np.ndarray]:
    """The training images, ordered by class and name, and their labels; ValueError, one line, for others or fewer."""
    dataset = writer.dataset
    path, found = replace(ORIGINALS, dataset=dataset.name).find(options.source)
    items = _by_class(path, found)
    facts = originals.check_count(dataset.name, path, len(items), dataset.count or 0, options.partial)
    classes = sorted({item.name.split("/")[0] for item in items})
    if len(classes) > dataset.classes or (len(classes) < dataset.classes and not options.partial):
        raise ValueError(f"{path}: {len(classes):,} classes, {dataset.name} has {dataset.classes:,}")
    writer.facts |= facts
    number = {name: i for i, name in enumerate(classes)}
    return items, np.array([number[item.name.split("/")[0]] for item in items], dtype=np.int64)


def _by_class(path: Path, found: list[Item]) -> list[Item]:
    """Items called by the WordNet id of their class and their file name, in this order.

    The class is the folder of an image: its name is an id, or has one id in the mapping beside.
    """
    found = [item for item in found if "/train/" in f"/{item.name}"] or found  # an archive may hold val, too
    if len(places := sorted({item.name.rpartition("/")[0].rpartition("/")[0] for item in found})) > 1:
        raise ValueError(
            f"{path}: classes lie in '{places[0]}' and in '{places[1]}'; name the one with the train split"
        )
    folders = {_class(item): item for item in found}
    strange = sorted(folder for folder in folders if not re.fullmatch(WORDNET, folder))
    known = _mapping(path) if strange else []
    ids = {folder: [number for number, name in known if name == folder] for folder in strange}
    if unknown := [folder for folder in strange if len(ids[folder]) != 1]:
        what = f"{folders[unknown[0]].name} lies in no class, a folder called by WordNet id ({len(unknown):,} such)"
        raise ValueError(f"{path}: {what}; rename it, or put LOC_synset_mapping.txt beside: an id and a name per line")
    names = {folder: ids.get(folder, [folder])[0] for folder in folders}
    named = originals.by_name(found, lambda item: f"{names[_class(item)]}/{item.name.rpartition('/')[2]}")
    return [replace(item, name=name) for name, item in sorted(named.items())]


def _class(item: Item) -> str:
    return f"/{item.name}".split("/")[-2]


def _mapping(path: Path) -> list[tuple[str, str]]:
    """(WordNet id, name of the class) from Kaggle's lines, such as `n01440764 tench, Tinca tinca`."""
    file = originals.companion(path, r"LOC_synset_mapping\.txt")
    lines = re.findall(rf"^({WORDNET})[\t ]+(.*\S)", originals.text(file.read()) if file else "", re.M)
    return [(number, name) for number, words in lines for name in {words, words.split(",")[0]}]


def convert(items: Sequence[Item]) -> np.ndarray:
    """uint8 (n, 3, 64, 64)."""
    return np.stack([originals.to_array(shrink(item.image())) for item in items])


def shrink(image: Image.Image, size: int = SIZE) -> Image.Image:
    """64x64, by the recipe above, or of another size."""
    while min(image.size) >= 2 * size:
        image = halve(image)
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, upper = (width - size) // 2, (height - size) // 2
    return image.crop((left, upper, left + size, upper + size))


def halve(image: Image.Image) -> Image.Image:
    """PIL's BOX to half the size, to the pixel, in two thirds of the time where the width is even.

    `resize` rounds to 8 bits between its passes, rows first unless an image is tall; `reduce` by (2, 1) is the first.
    """
    width, height = image.size
    if width % 2 == 0 and height <= 2 * width:
        image = image.reduce((2, 1))
        if height % 2 == 0:
            return image.reduce((1, 2))
    return image.resize((width // 2, height // 2), Image.Resampling.BOX)


ABOUT = "ImageNet, 1,281,167 training images of 1,000 classes"
RECIPE = "halved with BOX while the short side >= 128, BICUBIC to 64, centre crop; labels by sorted folder name"
DATASET = Dataset("imagenet64", (3, SIZE, SIZE), ABOUT, RECIPE, prepare, ORIGINALS.words, count=1_281_167, classes=1000)
