"""cifar10: 50,000 colour photographs, 32x32, of ten kinds of things. Unconditional, as in the paper.

Krizhevsky 2009. The python-version archive holds pickles: they are read by an unpickler that can make numpy arrays and
nothing else.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from datasets import originals
from datasets.store import Dataset, Options, Writer

ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
PIXELS = 3 * 32 * 32
ORIGINALS = f"{ARCHIVE} or the folder {FOLDER}"
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
ALLOWED |= {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}


class _Arrays(pickle.Unpickler):
    """Makes dictionaries, lists, texts and numpy arrays; refuses every other name a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def prepare(writer: Writer, options: Options) -> None:
    """Write the images of the five training batches in their order."""
    path = originals.find(options.source, "cifar10", ORIGINALS, ARCHIVE, FOLDER)
    images = np.concatenate([_images(path, name, content) for name, content in _batches(path)])
    writer.facts |= originals.check_count("cifar10", path, len(images), DATASET.count or 0, options.partial)
    writer.write("images", images)
    writer.count = len(images)


def _batches(path: Path) -> list[tuple[str, bytes]]:
    """(name, bytes) of the training batches; in a miniature some may be missing."""
    found: dict[str, bytes] = {}
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in BATCHES if (path / name).is_file()}
    else:
        try:
            with tarfile.open(path) as archive:
                members: dict[str, str] = {}  # the batches' names to those in the archive
                for member in archive:
                    name = Path(member.name).name
                    if name in BATCHES and member.isfile() and (file := archive.extractfile(member)):
                        if name in members:
                            twice = f"{members[name]} and {member.name} are two batches of one name"
                            raise ValueError(f"{path}: {twice}; is it the published archive?")
                        members[name], found[name] = member.name, file.read()
                while archive.fileobj and archive.fileobj.read(1 << 20):  # a checksum ends the compressed stream
                    pass
        except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{path}: not a whole archive ({' '.join(str(error).split())})") from None
    if not found:
        raise ValueError(f"{path}: has none of {BATCHES[0]} to {BATCHES[-1]}; cifar10 is made from {ORIGINALS}")
    return sorted(found.items())


def _images(path: Path, name: str, content: bytes) -> np.ndarray:
    """uint8 (n, 3, 32, 32) of one batch."""
    try:
        data = _Arrays(io.BytesIO(content), encoding="bytes").load()[b"data"]
        found = (str(data.dtype), *data.shape[1:])
    except Exception as error:  # a pickle of something else, or a damaged one, raises what it likes
        raise ValueError(f"{path}: {name} is no batch of CIFAR-10 ({' '.join(str(error).split())})") from None
    if found != ("uint8", PIXELS):
        rows = f"rows of {found[1:]} {found[0]}, expected {PIXELS} uint8"
        raise ValueError(f"{path}: {name} is no batch of CIFAR-10 ({rows})")
    return np.ascontiguousarray(data).reshape(-1, *DATASET.shape)


def download(folder: Path) -> None:
    """Fetch the archive through torchvision, which knows its address and digest."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    download_url(CIFAR10.url, str(folder), ARCHIVE, CIFAR10.tgz_md5)


ABOUT, RECIPE = "CIFAR-10, 50,000 training images", "the five training batches in order; no crop, no resize"
DATASET = Dataset("cifar10", (3, 32, 32), ABOUT, RECIPE, prepare, ORIGINALS, count=50_000, download=download)
