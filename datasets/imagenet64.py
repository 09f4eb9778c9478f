"""imagenet64: 1,281,167 photographs of 1,000 classes, 64x64. Class-conditional. Russakovsky et al. 2015.

Halved with PIL's BOX while the short side is at least 128, BICUBIC until it is 64, centre crop, as in the U-ViT recipe
(and Dhariwal and Nichol 2021); this is not the downsampled ImageNet of Chrabaszcz et al.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from datasets import originals
from datasets.originals import Item
from datasets.parallel import fill
from datasets.store import Dataset, Options, Writer

SIZE = 64
ORIGINALS = "the folder train (one folder per class) or ILSVRC2012_img_train.tar"


def prepare(writer: Writer, options: Options) -> None:
    """Write images and labels, ordered by class folder and name."""
    path = originals.find(options.source, "imagenet64", ORIGINALS, "train", "ILSVRC2012_img_train.tar")
    items = originals.items(path)
    loose = next((item for item in items if "/" not in item.name), None)
    if loose:
        raise ValueError(f"{path}: {loose.name} lies in no class; imagenet64 is made from {ORIGINALS}")
    facts = originals.check_count("imagenet64", path, len(items), DATASET.count or 0, options.partial)
    classes = sorted({item.name.split("/")[0] for item in items})
    if len(classes) > DATASET.classes or (len(classes) < DATASET.classes and not options.partial):
        raise ValueError(f"{path}: {len(classes):,} classes, imagenet64 has {DATASET.classes:,}")
    writer.facts |= facts
    writer.resume(originals.identity(items, DATASET.recipe))
    fill(writer.path / "images.npy", items, DATASET.shape, np.uint8, convert, options.workers, "imagenet64")
    number = {name: i for i, name in enumerate(classes)}
    writer.write("labels", np.array([number[item.name.split("/")[0]] for item in items], dtype=np.int64))
    writer.count = len(items)


def convert(items: Sequence[Item]) -> np.ndarray:
    """uint8 (n, 3, 64, 64)."""
    return np.stack([originals.to_array(shrink(item.image())) for item in items])


def shrink(image: Image.Image) -> Image.Image:
    """64x64, by the recipe above."""
    while min(image.size) >= 2 * SIZE:
        image = halve(image)
    scale = SIZE / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, upper = (width - SIZE) // 2, (height - SIZE) // 2
    return image.crop((left, upper, left + SIZE, upper + SIZE))


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
DATASET = Dataset("imagenet64", (3, SIZE, SIZE), ABOUT, RECIPE, prepare, ORIGINALS, count=1_281_167, classes=1000)
