"""scenes: two coloured shapes per image, 16x16, with captions. Latent, text-conditional; stands for COCO.

The autoencoder is linear: the first principal components of 2x2 pixel blocks. The text encoder gives each word of a
caption a fixed random vector, mixed with the mean of the words before it. Both are small, fixed, and enough for every
path of a latent text-to-image run: moments, captions drawn at random, the empty prompt, guidance, decoding.
"""

from __future__ import annotations

import numpy as np

from datasets import codecs, drawing
from datasets.store import Dataset, Options, Writer

SIZE, COUNT, VAL, SEED = 16, 6000, 2000, 20232
TEXT = (12, 32)  # tokens and width
WORDS = ["a", "and", "on", "dark", "bright", "ground", "left", "right", "above", "below", "of", "two", "shapes"]
WORDS += [*drawing.SHAPES, *drawing.COLOURS]
SPREAD = 0.05  # standard deviation of a latent around its mean, before scaling


def prepare(writer: Writer, options: Options) -> None:
    """Draw training and val scenes, fit the autoencoder on the first, encode images and captions."""
    train, val = drawn()
    images = drawing.to_uint8([picture for picture, _ in train])
    codec = codecs.fit_blocks(images, channels=DATASET.shape[0])
    captions = [captions for _, captions in train]
    writer.write("moments", codec.moments(images, SPREAD))
    writer.write("texts", encode([text for texts in captions for text in texts]))
    writer.write("first", np.cumsum([0, *map(len, captions)], dtype=np.int64))
    writer.write("empty", encode([""])[0])
    writer.write("val_texts", encode([texts[0] for _, texts in val]))
    writer.write("reference", drawing.to_uint8([picture for picture, _ in val]))
    codec.save(writer.path)
    writer.facts |= {"codec": codec.facts, "reference": {"array": "reference", "count": VAL}}
    writer.count = COUNT


def drawn() -> tuple[list[tuple[np.ndarray, list[str]]], list[tuple[np.ndarray, list[str]]]]:
    """The training and the val scenes."""
    bits = np.random.Generator(np.random.Philox(SEED))
    train, val = ([scene(bits) for _ in range(count)] for count in (COUNT, VAL))
    return train, val


def val_captions() -> list[str]:
    """The captions that evaluations draw from; they are drawn again, since the store keeps their states alone."""
    return [texts[0] for _, texts in drawn()[1]]


def scene(bits: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """A picture, float (16, 16, 3), and its three captions."""
    dark = bool(bits.integers(2))
    ground = drawing.background(bits, SIZE, *((30, 90) if dark else (150, 210)))
    names = [(list(drawing.COLOURS)[bits.integers(4)], drawing.SHAPES[bits.integers(3)]) for _ in range(2)]
    upright = bool(bits.integers(2))  # one above the other
    for i, (colour, shape) in enumerate(names):
        along, across, radius = 4 + 8 * i + bits.uniform(-0.5, 0.5), 8 + bits.uniform(-3, 3), bits.uniform(2.8, 3.6)
        x, y = (across, along) if upright else (along, across)
        ground = drawing.paint(ground, shape, colour, x, y, radius)
    first, second = (f"a {colour} {shape}" for colour, shape in names)
    there, back = ("above", "below") if upright else ("left of", "right of")
    light = "dark" if dark else "bright"
    return ground, [f"{first} {there} {second}", f"{second} {back} {first}", f"{first} and {second} on {light} ground"]


def encode(captions: list[str]) -> np.ndarray:
    """States of captions, fp16 (n, 12, 32): word plus place plus half the mean of the words so far."""
    bits = np.random.Generator(np.random.Philox(SEED + 1))
    words = {word: i + 1 for i, word in enumerate(WORDS)}  # 0 is no word
    vectors = bits.standard_normal((len(WORDS) + 1, TEXT[1])).round(3)
    places = bits.standard_normal((TEXT[0], TEXT[1])).round(3) / 4
    tokens = np.zeros((len(captions), TEXT[0]), dtype=np.int64)
    for row, caption in zip(tokens, captions, strict=True):
        numbers = [words[word] for word in caption.split()]
        row[: len(numbers)] = numbers
    states = vectors[tokens] + places
    so_far = np.cumsum(states, axis=1) / np.arange(1, TEXT[0] + 1)[:, None]
    return (states + 0.5 * so_far).astype(np.float16)


ABOUT = "6,000 drawn scenes with 3 captions each"
RECIPE = (
    "two shapes beside or above each other on a grey ramp, 16x16; latents 4x8x8 from principal components of 2x2 "
    "blocks; 12 words of 32 numbers per caption; numpy's Philox"
)
DATASET = Dataset("scenes", (4, 8, 8), ABOUT, RECIPE, prepare, context=TEXT, words=val_captions, latents=True)
