"""patches: 16x16 colour patches of the two photographs that scikit-learn ships. Unconditional; stands for CelebA."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from datasets.store import Dataset, Options, Writer

SIZE, STRIDE = 16, 8


def prepare(writer: Writer, options: Options) -> None:
    """Write every patch of both photographs on a grid of 8 pixels."""
    from sklearn.datasets import load_sample_images

    windows = [sliding_window_view(photograph, (SIZE, SIZE), axis=(0, 1)) for photograph in load_sample_images().images]
    images = np.concatenate([found[::STRIDE, ::STRIDE].reshape(-1, 3, SIZE, SIZE) for found in windows])
    writer.write("images", np.ascontiguousarray(images))
    writer.count = len(images)


ABOUT = "16x16 patches of scikit-learn's two photographs"
RECIPE = "every 16x16 patch on a grid of 8 pixels of china.jpg and flower.jpg, 640x427"
DATASET = Dataset("patches", (3, SIZE, SIZE), ABOUT, RECIPE, prepare)
