"""The prepared form of a dataset: arrays on disk beside a manifest with their digests.

    DATA/NAME/manifest.json    name, shape, count, recipe, reference, files with bytes and sha256, digest of the whole
    DATA/NAME/images.npy       uint8 (count, C, H, W); or, for a dataset of latents,
    DATA/NAME/moments.npy      fp16 (count, 2C, H, W): mean and log variance of each image's latent
    DATA/NAME/labels.npy       int64 (count,), for classes
    DATA/NAME/texts.npy        fp16 (captions, tokens, width), first.npy int64 (count + 1,): the captions of image i are
                               first[i] .. first[i + 1] - 1; empty.npy: the empty prompt; val_texts.npy: for evaluation
    DATA/NAME/reference.npy    uint8 images that samples are measured against, where these are not the training images

A store is written into a folder beside its place and renamed when it is whole, so what has the name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from filelock import SoftFileLease, Timeout

if TYPE_CHECKING:
    from datasets.codecs import Codec

FORMAT = 1


@dataclass(frozen=True)
class Options:
    """What `data prepare` was asked for. Each dataset says which of them it takes.

    source: the original files. partial: accept another count of images than the published one. workers: processes.
    autoencoder, text_encoder: folder or hub name of the networks that make latents and text states. device: of those.
    """

    source: Path | None = None
    partial: bool = False
    workers: int = 0
    autoencoder: str | None = None
    text_encoder: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Dataset:
    """How a dataset is prepared and what it carries.

    shape: of what a network sees, (C, H, W). recipe: the preprocessing in words, kept in the manifest.
    prepare(writer, options) writes the arrays. originals: what --source holds, in words; None if none is needed.
    count: published number of images; None where there is no such number. classes: labels, 0 for none. context:
    (tokens, width) of a caption's states, None for none. download(folder) fetches the originals, if that is possible;
    unasked: it is done wherever the dataset is needed, without --download.
    words(): what classes, or val captions, are called, in the order of their numbers; None where nobody knows.
    networks: the options that name networks which `prepare` needs. latents: whether the images are latents.
    labelled: whether labels are kept that no network is given; those of `classes` always are.
    """

    name: str
    shape: tuple[int, int, int]
    about: str
    recipe: str
    prepare: Callable[[Writer, Options], None]
    originals: str | None = None
    count: int | None = None
    classes: int = 0
    context: tuple[int, int] | None = None
    download: Callable[[Path], None] | None = None
    unasked: bool = False
    words: Callable[[], Sequence[str]] | None = None
    networks: tuple[str, ...] = ()
    latents: bool = False
    labelled: bool = False

    @property
    def condition(self) -> str:
        """What the images carry: none, class or text."""
        return "text" if self.context else "class" if self.classes else "none"


@dataclass(frozen=True)
class Store:
    """A prepared dataset, opened."""

    path: Path
    manifest: dict[str, Any]

    @staticmethod
    def exists(root: Path, name: str) -> bool:
        """Whether a complete store of that name lies under `root`."""
        return (Path(root) / name / "manifest.json").is_file()

    @classmethod
    def open(cls, root: Path, name: str) -> Store:
        """Open the store; ValueError, one line, if it is not there, of another format, or if a file has lost bytes."""
        path = Path(root) / name
        file, again = path / "manifest.json", f"delete {path} and prepare it again"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            command = f"python -m bench data prepare {name}"
            raise ValueError(f"dataset {name}: not prepared in {root}; run: {command}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"dataset {name}: {file} is not JSON ({error})") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"dataset {name}: {file} is not of format {FORMAT}; prepare it again")
        if wrong := _wrong(manifest):
            raise ValueError(f"dataset {name}: {file} is damaged at {wrong}; {again}")
        for array, entry in manifest["files"].items():
            size = (path / array).stat().st_size if (path / array).is_file() else None
            if size != entry["bytes"]:
                expected = f"expected {entry['bytes']}; {again}"
                raise ValueError(f"dataset {name}: {path / array} has {size} bytes, {expected}")
        return cls(path, manifest)

    @property
    def digest(self) -> str:
        """sha256 over the digests of all files: the identity of the data."""
        return str(self.manifest["digest"])

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.manifest["count"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what a network sees of one image, (C, H, W)."""
        return tuple(self.manifest["shape"])

    @property
    def condition(self) -> str:
        """What the images carry: none, class or text."""
        return str(self.manifest["condition"])

    @property
    def partial(self) -> bool:
        """Whether it holds another number of images than the published dataset."""
        return bool(self.manifest.get("partial"))

    def array(self, name: str) -> np.ndarray:
        """One of its arrays, memory-mapped and read-only."""
        found: np.ndarray = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return found

    @cached_property
    def images(self) -> np.ndarray:
        """The training images, uint8 (count, C, H, W)."""
        return self.array("images")

    @cached_property
    def moments(self) -> np.ndarray | None:
        """Mean and log variance of latents, fp16 (count, 2C, H, W); None if the dataset is one of images."""
        return self.array("moments") if "moments.npy" in self.manifest["files"] else None

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes, int64 (count,), in memory."""
        return np.array(self.array("labels"))

    @cached_property
    def first(self) -> np.ndarray:
        """Where the captions of each image begin, int64 (count + 1,), in memory."""
        return np.array(self.array("first"))

    @cached_property
    def texts(self) -> np.ndarray:
        """States of every training caption, fp16 (captions, tokens, width)."""
        return self.array("texts")

    @cached_property
    def val_texts(self) -> np.ndarray:
        """States of the captions that evaluations draw from, fp16 (captions, tokens, width)."""
        return self.array("val_texts")

    @cached_property
    def empty(self) -> np.ndarray:
        """States of the empty prompt, fp16 (tokens, width), in memory."""
        return np.array(self.array("empty"))

    @cached_property
    def reference(self) -> np.ndarray:
        """The images that samples are measured against, uint8 (n, 3 or 1, H, W)."""
        kept = self.manifest.get("reference", {"array": "images", "count": self.count})
        return self.array(kept["array"])[: kept["count"]]

    @cached_property
    def codec(self) -> Codec | None:
        """What turns latents into images; None if the dataset is one of images."""
        from datasets import codecs

        return codecs.load(self.path, self.manifest["codec"]) if "codec" in self.manifest else None

    def verify(self) -> list[str]:
        """Read every byte; one line per file whose digest is not the manifest's."""
        files = self.manifest["files"]
        changed = [self.path / file for file, entry in files.items() if sha256(self.path / file) != entry["sha256"]]
        failures = [f"{path}: sha256 differs from the manifest's" for path in changed]
        if combined_digest(files) != self.digest:
            failures.append(f"{self.path / 'manifest.json'}: digest does not belong to its files")
        return failures


class Writer:
    """Writes a store beside its place; renames it into place when the `with` block ends without an error.

    The folder beside has a name of its own and outlives an interruption: what `datasets.parallel.fill` had finished is
    found again by the next writer. One process at a time; that of one that dies is taken over.
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.dataset, self.root = dataset, Path(root)
        self.final = self.root / dataset.name
        self.path = self.root / f".{dataset.name}.partial"
        self.facts: dict[str, Any] = {}  # what the manifest says beside the dataset's own: reference, codec, partial
        self.count = 0
        self._owned = ExitStack()

    def __enter__(self) -> Writer:
        self.root.mkdir(parents=True, exist_ok=True)
        if self.final.exists() and not Store.exists(self.root, self.dataset.name):
            raise ValueError(f"dataset {self.dataset.name}: {self.final} is there but has no manifest; move it away")
        lease = SoftFileLease(self.root / f".{self.dataset.name}.lock", lease_duration=60, thread_local=False)
        try:
            lease.acquire(timeout=0)
        except Timeout:
            print(f"dataset {self.dataset.name}: another process prepares it in {self.root}; waiting", file=sys.stderr)
            lease.acquire()
        self._owned.callback(lease.release)
        if not (self.path / ".identity").is_file():  # nothing to go on with: it must not get into the store
            shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(exist_ok=True)
        return self

    def resume(self, identity: str) -> None:
        """Keep what an interrupted writer left if it worked on the same: `identity` names originals and options."""
        mark = self.path / ".identity"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
            shutil.rmtree(self.path)
            self.path.mkdir()
            mark.write_text(identity, encoding="utf-8")

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one array whole."""
        path = self.path / f"{name}.npy"
        with naming(path), path.open("wb") as out:
            write_header(out, array.shape, array.dtype)
            out.write(np.ascontiguousarray(array).data)  # numpy's own way does not say why a disk took no more
            out.flush()
            os.fsync(out.fileno())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not Store.exists(self.root, self.dataset.name):
                self._finish()
            if kind is None or not any(self.path.glob("*.progress")):  # nothing that is worth going on with
                shutil.rmtree(self.path, ignore_errors=True)
        finally:
            self._owned.close()

    def _finish(self) -> None:
        marks = {*self.path.glob("*.progress"), *self.path.glob("*.partial"), self.path / ".identity"}
        found = {file for file in self.path.rglob("*") if file.is_file()} - marks - {self.path / "manifest.json"}
        sizes = {str(file.relative_to(self.path)): file.stat().st_size for file in sorted(found)}
        files = {name: {"bytes": size, "sha256": sha256(self.path / name)} for name, size in sizes.items()}
        if ("labels.npy" in files) != bool(self.dataset.classes or self.dataset.labelled):
            what = f"prepare wrote {'labels' if 'labels.npy' in files else 'no labels'}"
            told = f"its Dataset says classes={self.dataset.classes}, labelled={self.dataset.labelled}; make both agree"
            raise ValueError(f"dataset {self.dataset.name}: {what}, {told}")
        manifest = {"format": FORMAT, "name": self.dataset.name, "count": self.count, "shape": list(self.dataset.shape)}
        manifest |= {"condition": self.dataset.condition, "recipe": self.dataset.recipe, **self.facts}
        manifest |= {"digest": combined_digest(files), "files": files}
        write_whole(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        for mark in marks:  # last: reading all that was written may take minutes, which an interruption should not cost
            mark.unlink(missing_ok=True)
        self.path.rename(self.final)


def _wrong(manifest: dict[str, Any]) -> str | None:
    """The first key of a manifest that is missing or not of its type; None if there is none."""

    def of(value: object, kinds: dict[str, type]) -> str | None:
        known = value if isinstance(value, dict) else {}
        return next((key for key, kind in kinds.items() if type(known.get(key)) is not kind), None)

    kinds = {"name": str, "count": int, "shape": list, "condition": str, "digest": str, "files": dict}
    wrong = of(manifest, kinds | ({"published": int} if manifest.get("partial") else {}))
    if wrong or [type(side) for side in manifest["shape"]] != [int] * 3:
        return wrong or "shape"
    optional = {"reference": {"array": str, "count": int}, "codec": {"kind": str, "scale": float}}
    entries = [(key, manifest[key], kinds) for key, kinds in optional.items() if key in manifest]
    entries += [(f"files: {name}", entry, {"bytes": int, "sha256": str}) for name, entry in manifest["files"].items()]
    return next((f"{name}: {key}" for name, entry, kinds in entries if (key := of(entry, kinds))), None)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError say what was being written: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place, flush it to disk and rename it: the file is whole or as it was."""
    beside = path.with_suffix(".partial")
    with beside.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)


def write_header(out: BinaryIO, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
    """The header of a .npy file, row-major."""
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, described)


def combined_digest(files: dict[str, dict[str, Any]]) -> str:
    """sha256 over "name sha256" lines in the order of the names."""
    lines = "".join(f"{name} {entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
