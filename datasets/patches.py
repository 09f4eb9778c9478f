"""patches: 16x16 colour patches of the two photographs that scikit-learn ships. Unconditional; stands for CelebA."""

from __future__ import annotations

import numpy as np

from datasets.store import Dataset, Options, Writer

SIZE, STRIDE = 16, 8


def prepare(writer: Writer, options: Options) -> None:
    """Write every patch of both photographs on a grid of 8 pixels."""
    from sklearn.datasets import load_sample_images

    cut = [np.lib.stride_tricks.sliding_window_view(photograph, (SIZE, SIZE), axis=(0, 1))[::STRIDE, ::STRIDE]
           for photograph in load_sample_images().images]
    images = np.concatenate([patches.reshape(-1, 3, SIZE, SIZE) for patches in cut])
    writer.write("images", np.ascontiguousarray(images))
    writer.count = len(images)


DATASET = Dataset(
    name="patches", shape=(3, SIZE, SIZE),
    about="16x16 patches of scikit-learn's two photographs",
    recipe="every 16x16 patch on a grid of 8 pixels of china.jpg and flower.jpg, 640x427",
    prepare=prepare,
)
