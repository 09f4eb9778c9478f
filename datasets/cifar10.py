"""cifar10: 50,000 colour photographs, 32x32, of ten kinds of things, and cifar10-16, the same at half the size.

Unconditional, as in the paper; the labels are kept for studies of the distance.

Krizhevsky 2009. The python version holds pickles: they are read by an unpickler that can make numpy arrays and nothing
else. The binary version gives the same images in the same order, the hub's parquet files in an order of their own.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from datasets import originals
from datasets.originals import ARCHIVE, Item, Originals
from datasets.store import Dataset, Options, Writer

ORIGINALS = Originals(
    "cifar10",
    "cifar-10-python.tar.gz, the folder cifar-10-batches-py, the binary version, or the hub's parquet files",
    rf"cifar-10-(python|binary|batches-(py|bin)){ARCHIVE}",
    5,
    r"(.*/)?(data_batch_[1-5](\.bin)?|train-[^/]*\.parquet|train/[^/]*\.parquet)",
    "training batches (data_batch_1 to data_batch_5)",
    others={r"cifar-?100": "CIFAR-100", r"trainLabels\.csv|train\.7z": "Kaggle's competition, in another order"},
)
PIXELS = 3 * 32 * 32
Batch = tuple[Any, Any]  # rows of pixels and labels, as they are read
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
MAKERS = (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))  # of protocols 2 and 5
ALLOWED |= {(f"numpy.{core}.{module}", name) for core in ("core", "_core") for module, name in MAKERS}


class _Arrays(pickle.Unpickler):
    """Makes dictionaries, lists, texts and numpy arrays; refuses every other name a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def prepare(writer: Writer, options: Options) -> None:
    """Write the images of the five training batches in their order, and their labels, which no network is given."""
    path, found = ORIGINALS.find(options.source)
    forms = [[each for each in sorted(originals.by_name(found).items()) if _form(each[1]) == form] for form in READERS]
    images, labels = map(np.concatenate, zip(*(_read(item) for _, item in next(filter(None, forms))), strict=True))
    writer.facts |= originals.check_count(writer.dataset.name, path, len(images), DATASET.count or 0, options.partial)
    while images.shape[1:] != writer.dataset.shape:
        images = halved(images)
    writer.write("images", images)
    writer.write("labels", labels)
    writer.count = len(images)


def halved(images: np.ndarray) -> np.ndarray:
    """uint8 (n, C, H, W) at half the size: the mean of each 2x2 pixels, a half rounded up."""
    corners = [images[..., i::2, j::2].astype(np.uint16) for i in (0, 1) for j in (0, 1)]
    return ((sum(corners[1:], corners[0]) + 2) >> 2).astype(np.uint8)


def _pickled(content: bytes) -> Batch:
    batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
    return (batch[b"data"], batch[b"labels"]) if b"data" in batch else (batch["data"], batch["labels"])  # of Python 3


def _binary(content: bytes) -> Batch:
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _parquet(content: bytes) -> Batch:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("reading it needs the package pyarrow, which requirements.lock has") from None
    table = parquet.read_table(io.BytesIO(content))
    if set(table.column_names) != {"img", "label"}:
        raise ValueError(f"columns {', '.join(table.column_names)}, expected img, label")
    images = [originals.to_array(originals.decode(cell["bytes"])) for cell in table["img"].to_pylist()]
    if wrong := {image.shape for image in images} - {DATASET.shape}:
        raise ValueError(f"images of {min(wrong)}, expected {DATASET.shape}")
    return np.reshape(images, (-1, PIXELS)), table["label"].to_pylist()


READERS = {"": _pickled, ".bin": _binary, ".parquet": _parquet}


def _form(item: Item) -> str:
    return Path(item.name).suffix.lower()


def _read(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 3, 32, 32) and int64 (n,) of one batch."""
    content, where = item.read(), f"{item.path}: {Path(item.name).name} is no batch of CIFAR-10"
    try:
        data, kinds = READERS[_form(item)](content)
        found, labels = (str(data.dtype), *data.shape[1:]), np.array(kinds, np.int64).reshape(len(data))
    except Exception as error:  # a pickle of something else, or a damaged one, raises what it likes
        raise ValueError(f"{where} ({' '.join(str(error).split())})") from None
    if found != ("uint8", PIXELS):
        raise ValueError(f"{where} (rows of {found[1:]} {found[0]}, expected {PIXELS} uint8)")
    return np.ascontiguousarray(data).reshape(-1, *DATASET.shape), labels


def download(folder: Path) -> None:
    """Fetch the archive through torchvision, which knows its address and digest."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    download_url(CIFAR10.url, str(folder), CIFAR10.filename, CIFAR10.tgz_md5)


ABOUT, RECIPE = "CIFAR-10, 50,000 training images", "the five training batches in order; no crop, no resize"
DATASET = Dataset(
    "cifar10",
    (3, 32, 32),
    ABOUT,
    RECIPE,
    prepare,
    ORIGINALS.words,
    count=50_000,
    download=download,
    labelled=True,
)
SMALL = dataclasses.replace(
    DATASET,
    name="cifar10-16",
    shape=(3, 16, 16),
    about=f"{ABOUT} at 16x16",
    recipe=f"{RECIPE}; mean of 2x2 pixels",
    unasked=True,
)
