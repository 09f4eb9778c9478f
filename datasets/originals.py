"""Original files as their publishers ship them: folders, zips, tars and tars of tars, as a flat list of items.

An item can be read in another process without unpacking anything: in a tar it is an offset, in a zip a member.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGES = (".jpg", ".jpeg", ".png")
# What reading a member raises: NotImplementedError for an unknown compression, RuntimeError for a password.
ZIP_ERRORS = (OSError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)


class Unreadable(ValueError):
    """A damaged original, named in one line; unlike a plain ValueError it keeps its type out of a worker process."""


@dataclass(frozen=True, slots=True)  # a million of them
class Item:
    """One original file. path: the file on disk. member: its name in a zip. offset: its place in a tar."""

    name: str
    path: str
    size: int
    member: str | None = None
    offset: int | None = None

    def read(self) -> bytes:
        """Its bytes; Unreadable if they are not all there."""
        try:
            if self.member is not None:
                return _zip(self.path).read(self.member)
            with Path(self.path).open("rb") as file:
                file.seek(self.offset or 0)
                content = file.read(self.size)
        except ZIP_ERRORS as error:
            raise Unreadable(f"{self.path}: {self.name} cannot be read ({error}); is the archive whole?") from None
        if len(content) != self.size:
            ends = f"{self.name} ends after {len(content)} of {self.size} bytes"
            raise Unreadable(f"{self.path}: {ends}; the archive is truncated")
        return content

    def image(self) -> Image.Image:
        """Decoded, in RGB whatever it is stored as; Unreadable if it does not decode."""
        content = self.read()
        try:
            return decode(content)
        except Exception as error:  # a decoder of damaged bytes raises anything: SyntaxError, struct.error, KeyError
            unknown = isinstance(error, UnidentifiedImageError)  # whose own text holds an address in memory
            said = "no image format is recognised" if unknown else " ".join(str(error).split())
            raise Unreadable(f"{self.path}: the image {self.name} does not decode ({said})") from None


def decode(content: bytes) -> Image.Image:
    """An image file in RGB."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


@functools.lru_cache(4)
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def find(source: Path | None, dataset: str, originals: str, *names: str) -> Path:
    """The one of `names` in the folder `source`, or `source` itself if it has such a name.

    ValueError, one line, if there is none, or more than one: two sources for the same images.
    """
    if source is None:
        raise ValueError(f"--source: missing; {dataset} is made from {originals}")
    source = Path(source)
    if not source.exists():
        raise ValueError(f"--source: {source} does not exist; {dataset} is made from {originals}")
    if source.name in names:
        return source
    found = [source / name for name in names if (source / name).exists()]
    if not found:
        raise ValueError(f"--source: {source} has none of {', '.join(names)}; {dataset} is made from {originals}")
    if len(found) > 1:
        raise ValueError(f"--source: {found[0]} and {found[1]} are two sources for the same files; move one away")
    return found[0]


def items(path: Path, endings: Sequence[str] = IMAGES) -> list[Item]:
    """Every file of a folder, a zip, a tar or a tar of tars whose name has one of `endings`, sorted by name.

    Names are relative to the folder; of a file in an inner tar: the inner tar's name without its ending, a slash and
    its own. ValueError, one line, for a broken archive or a name that is there twice.
    """
    try:
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file()]
            found = [Item(file.relative_to(path).as_posix(), str(file), file.stat().st_size) for file in files]
        elif zipfile.is_zipfile(path):
            infos = [info for info in _zip(str(path)).infolist() if not info.is_dir()]
            found = [Item(info.filename, str(path), info.file_size, member=info.filename) for info in infos]
        else:
            found = _tar(path)
    except (tarfile.TarError, *ZIP_ERRORS) as error:
        raise ValueError(f"{path}: not a whole archive or folder ({' '.join(str(error).split())})") from None
    chosen = sorted((item for item in found if item.name.lower().endswith(tuple(endings))), key=lambda item: item.name)
    for before, item in itertools.pairwise(chosen):
        if before.name == item.name:
            raise ValueError(f"{path}: {item.name} is there twice")
    return chosen


def by_name(found: Iterable[Item]) -> dict[str, Item]:
    """Items by their file name alone; ValueError, one line, for two of one name."""
    named: dict[str, Item] = {}
    for item in found:
        other = named.setdefault(Path(item.name).name, item)
        if other is not item:
            raise ValueError(f"{item.path}: {other.name} and {item.name} have the same file name; move one away")
    return named


def _tar(path: Path) -> list[Item]:
    """Files of an uncompressed tar, and of tars in it, by their offset; a file that reaches beyond the end is found."""
    found = []
    with path.open("rb") as file:
        for name, offset, length in _members(file, 0, path.stat().st_size):
            if name.endswith(".tar"):
                for inner, start, size in _members(file, offset, length):
                    found.append(Item(f"{Path(name).stem}/{Path(inner).name}", str(path), size, offset=start))
            else:
                found.append(Item(name, str(path), length, offset=offset))
    return found


def _members(file: BinaryIO, offset: int, length: int) -> list[tuple[str, int, int]]:
    """(name, offset in the file, bytes) of the members of a tar that lies at `offset`."""
    with tarfile.open(fileobj=cast("IO[bytes]", _Window(file, offset, length)), mode="r:") as archive:
        members = [(m.name, offset + m.offset_data, m.size) for m in archive if m.isfile()]
    for name, at, size in members:
        if at + size > offset + length:
            raise tarfile.ReadError(f"{name} ends beyond the end of the archive")
    return members


class _Window:
    """A part of a file as a file of its own, as far as tarfile needs one."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        self.file, self.offset, self.end = file, offset, offset + length
        file.seek(offset)

    def tell(self) -> int:
        return self.file.tell() - self.offset

    def seek(self, position: int) -> None:
        self.file.seek(self.offset + position)

    def read(self, size: int) -> bytes:
        return self.file.read(max(0, min(size, self.end - self.file.tell())))


def identity(found: Iterable[Item], *more: object) -> str:
    """A digest of what is to be prepared, names and sizes; another one starts anew."""
    digest = hashlib.sha256(repr(more).encode())
    for item in found:
        digest.update(f"{item.name} {item.size}\n".encode())
    return digest.hexdigest()


def check_count(
    dataset: str, path: Path, have: int, published: int, partial: bool, what: str = "images"
) -> dict[str, Any]:
    """Facts for the manifest; ValueError, one line, for another count than the published one without --partial."""
    if have == 0:
        raise ValueError(f"{path}: no {what} in it; is it the source of {dataset}?")
    if have != published and not partial:
        counts = f"{have:,} {what}, {dataset} has {published:,}"
        raise ValueError(f"{path}: {counts}; give --partial to prepare it all the same (it is recorded)")
    return {"partial": True, "published": published} if have != published else {}


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, H, W)."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
