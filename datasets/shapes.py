"""shapes: one coloured shape per image, 12x12, twelve classes. Class-conditional; stands for ImageNet.

A class is a shape and a colour; position, size and background are nuisance.
"""

from __future__ import annotations

import numpy as np

from datasets import drawing
from datasets.store import Dataset, Options, Writer

SIZE, COUNT, SEED = 12, 6000, 20231
CLASSES = tuple(f"{colour} {shape}" for shape in drawing.SHAPES for colour in drawing.COLOURS)


def prepare(writer: Writer, options: Options) -> None:
    """Draw the images; classes take turns."""
    bits = np.random.Generator(np.random.Philox(SEED))
    labels = np.arange(COUNT, dtype=np.int64) % len(CLASSES)
    writer.write("images", drawing.to_uint8([draw(bits, CLASSES[label]) for label in labels]))
    writer.write("labels", labels)
    writer.count = COUNT


def draw(bits: np.random.Generator, name: str) -> np.ndarray:
    """One picture of class `name`, float (12, 12, 3)."""
    colour, shape = name.split()
    radius = bits.uniform(2.8, 4.5)
    x, y = bits.uniform(radius, SIZE - radius, 2)
    return drawing.paint(drawing.background(bits, SIZE), shape, colour, x, y, radius)


ABOUT = "6,000 drawn shapes, 12x12, 12 classes"
RECIPE = "disc, square or triangle in one of four colours, at random place and size on a grey ramp; numpy's Philox"
DATASET = Dataset("shapes", (3, SIZE, SIZE), ABOUT, RECIPE, prepare, classes=len(CLASSES), words=lambda: CLASSES)
