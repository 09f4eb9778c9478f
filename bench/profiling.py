"""The verb `data profile`: how fast originals become a store, and where the time goes."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets import imagenet64, originals, parallel

WIDTH, HEIGHT, QUALITY = 500, 375, 92  # an ordinary ImageNet photograph


def show(workers: int, count: int = 2000) -> None:
    """Prepare `count` generated photographs as imagenet64 does, and take one apart."""
    with tempfile.TemporaryDirectory() as folder:
        items = _photographs(Path(folder), count)
        parts = _parts(items[:100])
        began = time.perf_counter()
        parallel.fill(Path(folder) / "images.npy", items[:100 * workers], (3, 64, 64), np.uint8, imagenet64.convert,
                      workers, "warm-up")
        warm = time.perf_counter() - began
        began = time.perf_counter()
        parallel.fill(Path(folder) / "more.npy", items, (3, 64, 64), np.uint8, imagenet64.convert, workers, "images")
        taken = time.perf_counter() - began
    whole = sum(parts.values())
    for name, seconds in parts.items():
        print(f"{name:22} {1e3 * seconds:6.2f} ms  {seconds / whole:4.0%}")
    start = max(0.0, warm - 100 * whole)  # of the processes
    print(f"{count / (taken - start):,.0f} images a second with {workers} processes ({WIDTH}x{HEIGHT} JPEG to 64x64, start-up of "
          f"{start:.1f} s left out); one process alone, nothing but the parts above: {1 / whole:,.0f}")


def _photographs(folder: Path, count: int) -> list[originals.Item]:
    """`count` names for ten generated photographs with the detail of real ones."""
    bits = np.random.default_rng(0)
    for i in range(10):
        picture = sum(np.asarray(Image.fromarray(bits.integers(0, 256, (HEIGHT // size, WIDTH // size, 3), dtype=np.uint8))
                                 .resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=float) for size in (4, 16, 64))
        Image.fromarray((picture / 3).astype(np.uint8)).save(folder / f"{i}.jpg", quality=QUALITY)
    sizes = [(folder / f"{i}.jpg").stat().st_size for i in range(10)]
    return [originals.Item(str(i), str(folder / f"{i % 10}.jpg"), sizes[i % 10]) for i in range(count)]


def _parts(items: list[originals.Item]) -> dict[str, float]:
    """Seconds per image of each part of the work, in this process."""
    def timed(work: Callable[[Any], Any], inputs: list[Any]) -> tuple[float, list[Any]]:
        began = time.perf_counter()
        made = [work(value) for value in inputs]
        return (time.perf_counter() - began) / len(inputs), made

    reading, contents = timed(originals.Item.read, items)
    decoding, images = timed(lambda content: Image.open(io.BytesIO(content)).convert("RGB"), contents)
    shrinking, small = timed(imagenet64.shrink, images)
    arranging, _ = timed(originals.to_array, small)
    return {"reading": reading, "decoding (libjpeg)": decoding, "BOX and BICUBIC": shrinking, "to an array": arranging}
