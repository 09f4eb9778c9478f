"""digits: the 1,797 real 8x8 grey images of handwritten digits that scikit-learn ships. Unconditional."""

from __future__ import annotations

import numpy as np

from datasets.store import Dataset, Options, Writer


def prepare(writer: Writer, options: Options) -> None:
    """Write the images as uint8 (1797, 1, 8, 8): ink 0..16 becomes 0..255, rounded."""
    from sklearn.datasets import load_digits  # here: opening a prepared store needs numpy only

    ink = load_digits().images
    writer.write("images", np.rint(ink * (255 / 16)).astype(np.uint8)[:, None])
    writer.count = len(ink)


ABOUT = "scikit-learn's 1,797 handwritten digits, 8x8 grey"
RECIPE = "ink 0..16 scaled to 0..255 and rounded; no flip, no crop"
DATASET = Dataset("digits", (1, 8, 8), ABOUT, RECIPE, prepare)
