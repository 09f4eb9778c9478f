"""The verb `data profile`: how fast originals become a store, and where the time goes."""

from __future__ import annotations

import resource
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
        few, many = (_fill(Path(folder), items[:n], workers) for n in (64 * workers, count))
    whole, added = sum(parts.values()), count - 64 * workers
    for name, seconds in parts.items():
        print(f"{name:22} {1e3 * seconds:6.2f} ms  {seconds / whole:4.0%}")
    clock, cpu = ((b - a) / added for a, b in zip(few, many, strict=True))  # what each image more costs: no start-up
    print(f"{1 / clock:,.0f} images a second with {workers} processes, {1e3 * cpu:.2f} ms of processor time each, all processes "
          f"together ({WIDTH}x{HEIGHT} JPEG to 64x64)")
    print(f"{workers} processors for themselves could do {workers / cpu:,.0f} a second, and nothing but decode "
          f"{workers / parts['decoding (libjpeg)']:,.0f}")


def _fill(folder: Path, items: list[originals.Item], workers: int) -> tuple[float, float]:
    """Seconds by the clock, and of the processors, that preparing `items` takes."""
    def spent() -> float:
        return sum(time_of.ru_utime + time_of.ru_stime for time_of in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    clock, before = time.perf_counter(), spent()
    parallel.fill(folder / f"{len(items)}.npy", items, (3, 64, 64), np.uint8, imagenet64.convert, workers, "images")
    return time.perf_counter() - clock, spent() - before


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
    """Seconds of processor time per image of each part of the work, in this process."""
    def timed(work: Callable[[Any], Any], inputs: list[Any]) -> tuple[float, list[Any]]:
        began = time.process_time()
        made = [work(value) for value in inputs]
        return (time.process_time() - began) / len(inputs), made

    reading, contents = timed(originals.Item.read, items)
    decoding, images = timed(originals.decode, contents)
    shrinking, small = timed(imagenet64.shrink, images)
    arranging, _ = timed(originals.to_array, small)
    return {"reading": reading, "decoding (libjpeg)": decoding, "BOX and BICUBIC": shrinking, "to an array": arranging}
