"""imagenet256: the images and labels of imagenet64 as latents 4x32x32 of 256 pixels. Class-conditional.

Cut as for imagenet64, at 256 pixels; moments of Stable Diffusion's KL autoencoder, scale 0.18215, as in the training
code of DiT. That code mirrors half of the images before it encodes them; latents that are kept are not mirrored.
Samples are measured against 50,000 of the training images, evenly from all classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets import codecs, imagenet64, originals
from datasets.codecs import GRID, SIZE
from datasets.originals import Item
from datasets.parallel import fill
from datasets.store import Dataset, Options, Writer

SCALE = 0.18215  # factor on a latent
REFERENCE = 50_000  # images that samples are measured against


def prepare(writer: Writer, options: Options) -> None:
    """Write moments and labels, ordered by class and name, reference images and the decoder."""
    items, labels = imagenet64.find(writer, options)
    module, encode = codecs.encoder(options.autoencoder, options.device)
    writer.resume(originals.identity(items, DATASET.recipe, codecs.digest(module)))
    module.save_pretrained(writer.path / "autoencoder", safe_serialization=True)
    count = min(REFERENCE, len(items))
    kept = [items[i * len(items) // count] for i in range(count)]
    fill(writer.path / "reference.npy", kept, (3, SIZE, SIZE), np.uint8, convert, options.workers, "reference images")

    def moments(some: Sequence[Item]) -> np.ndarray:
        return encode(convert(some))

    fill(writer.path / "moments.npy", items, (8, *GRID), np.float16, moments, 0, "imagenet256")
    writer.write("labels", labels)
    writer.facts |= codecs.facts(SCALE, count)
    writer.count = len(items)


def convert(items: Sequence[Item]) -> np.ndarray:
    """uint8 (n, 3, 256, 256)."""
    return np.stack([originals.to_array(imagenet64.shrink(item.image(), SIZE)) for item in items])


ABOUT = "ImageNet, 1,281,167 training images of 1,000 classes, as latents"
RECIPE = (
    f"halved with BOX while the short side >= {2 * SIZE}, BICUBIC to {SIZE}, centre crop; moments of the KL "
    f"autoencoder, scale {SCALE}; labels by sorted folder name"
)
DATASET = Dataset(
    "imagenet256",
    (4, *GRID),
    ABOUT,
    RECIPE,
    prepare,
    imagenet64.ORIGINALS.words,
    1_281_167,
    classes=1000,
    networks=("autoencoder",),
    latents=True,
)
