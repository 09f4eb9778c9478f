"""Original files as people have them: folders, zips, tars and tars in either, as a flat list of items.

An item can be read in another process without unpacking anything: in a tar it is an offset, in a zip a member.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import itertools
import lzma
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

# Patterns of names, whatever the case of their letters: images; what follows the name of a folder or of its archive, or
# of a second copy of that; images of other kinds and archives that are not looked into; what nobody put there.
IMAGES = r".*\.(jpe?g|png)"
ARCHIVE = r"( ?\(\d+\))?(\.(zip|tgz|tar(\.(gz|bz2|xz))?))?"
STRANGE = r".*\.(webp|bmp|gif|tiff?|avif|heic|jp2|jxl|tgz|tar\.\w+|7z|rar)"
HIDDEN = re.compile(r"[.@#$].*|__MACOSX|__pycache__|lost\+found|System Volume Information")
KINDS = {  # how files begin that have the names of zips and tars
    rb"\s*<(!doctype|html|\?xml)": "a web page; fetch it again",
    rb"version https://git-lfs": "a pointer of git LFS; fetch the file itself: git lfs pull",
    rb"7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd": "a 7z, rar or zstd archive; unpack it first",
}
DEPTH, DEEPEST = 3, 6  # levels of folders below the source where originals are looked for; that these may have
HELD = 2**30  # bytes of a compressed tar that are held in memory
OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
# What reading a member raises: NotImplementedError for an unknown compression, RuntimeError for a password.
ZIP_ERRORS = (OSError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)
ARCHIVE_ERRORS = (tarfile.TarError, lzma.LZMAError, UnicodeDecodeError, *ZIP_ERRORS)


class Unreadable(ValueError):
    """A damaged original, named in one line; unlike a plain ValueError it keeps its type out of a worker process."""


@dataclass(frozen=True, slots=True)  # a million of them
class Item:
    """One original file. path: the file on disk. member: its name in a zip. offset: its place in a tar.

    content: its bytes, if it lies in a compressed tar.
    """

    name: str
    path: str
    size: int
    member: str | None = None
    offset: int | None = None
    content: bytes | None = None

    def read(self) -> bytes:
        """Its bytes; Unreadable if they are not all there."""
        if self.content is not None:
            return self.content
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
    """An image file in RGB; of 16 bits the upper 8, as PIL does it where there are colours."""
    image: Image.Image = Image.open(io.BytesIO(content))
    image.load()
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


@functools.lru_cache(4)
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@dataclass(frozen=True)
class Originals:
    """What a dataset is made from, and how it is known.

    words: for messages. names: pattern of its folders and archives, if they are not the source itself. whole: how many
    files there are. files: a pattern of these, by path. called: what they are. others: patterns of the names of data
    that is taken for this one, and what that is.
    """

    dataset: str
    words: str
    names: str
    whole: int
    files: str = IMAGES
    called: str = "images (.jpg, .jpeg, .png)"
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def made(self) -> str:
        """How messages end."""
        return f"{self.dataset} is made from {self.words}"

    def find(self, source: Path | None) -> tuple[Path, list[Item]]:
        """The folder or archive of the originals, the source or in it, and their items.

        Of a folder and an archive side by side the folder, unless the archive has more; stderr says which. ValueError,
        one line, if there is none, or if there are two folders, none of them whole.
        """
        source = Path(source or "")
        if not source.exists():
            raise ValueError(f"--source: {source} does not exist; {self.made}")
        paths = [] if re.fullmatch(self.names, source.name, re.I) else search(source, self.names)
        paths = paths or [source]
        found, broken = _read(paths, self.files)
        if not found:
            raise self._nothing(paths[0], broken)
        path, most = max(found, key=lambda each: _amount(each[1]))
        if broken and len(most) < self.whole:
            raise broken
        if len(found) > 1 and len(most) < self.whole and sum(each.is_dir() for each, _ in found) != 1:
            raise ValueError(f"--source: {found[0][0]} and {found[1][0]} are two sources; move one away")
        if len(paths) > 1:
            aside = ", ".join(str(other) for other in paths if other != path)
            print(f"{self.dataset}: taken from {path}, {len(most):,} files; left aside: {aside}", file=sys.stderr)
        return path, most

    def _nothing(self, path: Path, broken: ValueError | None) -> ValueError:
        """Why there is nothing to take at a place."""
        names = [] if broken else [item.name for item in everything(path)]
        for name, (pattern, what) in itertools.product([path.name, *names], self.others.items()):
            if re.search(pattern, name, re.I):
                return ValueError(f"{path}: {name} is of {what}, which is other data; {self.made}")
        endings = Counter(Path(name).suffix.lower() or "without ending" for name in names).most_common(3)
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in endings) or "nothing"
        packed = "; unpack that first" if {".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"} & dict(endings).keys() else ""
        return broken or ValueError(f"{path}: no {self.called} in it, but {kinds}{packed}; {self.made}")


def companion(path: Path, name: str, packed: str = r"(?!)") -> Item | None:
    """The file called `name` that belongs to the originals at `path`: in them, or in a folder beside or above.

    packed: names of archives that may hold it. The largest, for an unpacking may have been interrupted.
    """
    for place in (path, *list(path.absolute().parents)[:4]):
        hits = [place] if place.is_file() else search(place, f"{name}|{packed}", 1)
        found, broken = _read(hits, rf"(.*/)?({name})")
        if found:
            return max((item for _, inside in found for item in inside), key=lambda item: item.size)
        if broken:
            raise broken
    return None


def _read(paths: Iterable[Path], files: str) -> tuple[list[tuple[Path, list[Item]]], ValueError | None]:
    """The places that hold such files, with these, and what is wrong with the first that cannot be read."""
    found, broken = [], None
    for path in paths:
        try:
            found += [(path, inside)] if (inside := items(path, files)) else []
        except ValueError as error:
            broken = broken or error
    return found, broken


def search(folder: Path, names: str, depth: int = DEPTH) -> list[Path]:
    """What is called `names` in a folder and `depth` levels below: folders first, then the nearest, each once."""
    found: dict[str, Path] = {}
    for here, folders, files in os.walk(folder, followlinks=True):  # what may not be read is passed over
        hits = [Path(here, name) for name in sorted(folders + files) if re.fullmatch(names, name, re.I)]
        found = {os.path.realpath(hit): hit for hit in hits} | found
        deeper = len(Path(here).parts) - len(folder.parts) < depth
        folders[:] = sorted(f for f in folders if deeper and Path(here, f) not in hits and not HIDDEN.fullmatch(f))
    return sorted(found.values(), key=lambda path: (path.is_file(), len(path.parts), path))


def items(path: Path, files: str = IMAGES) -> list[Item]:
    """Every file of a folder, a zip, a tar or tars in those whose path in it matches `files`, sorted by that.

    Of a file in an inner archive: the inner one's name without its ending, a slash and its own. ValueError, one line,
    for a broken archive or other kinds of images among those sought.
    """
    if path.is_file() and re.fullmatch(files, path.name, re.I):
        return [Item(path.name, str(path), path.stat().st_size)]
    found = everything(path)
    wanted, strange = re.compile(files, re.I), re.compile(STRANGE, re.I)
    chosen = sorted((item for item in found if wanted.fullmatch(item.name)), key=lambda item: item.name)
    if chosen and files == IMAGES and (others := [item.name for item in found if strange.fullmatch(item.name)]):
        raise ValueError(f"{path}: {min(others)} is no JPEG or PNG ({len(others):,} such files); move them away")
    return chosen


def everything(path: Path) -> list[Item]:
    """Every file of a folder or an archive, hidden ones apart; ValueError, one line, if it cannot be read."""
    try:
        return _folder(str(path), "", frozenset()) if path.is_dir() else _archive(path)
    except ARCHIVE_ERRORS as error:
        what = "cannot be read" if path.is_dir() else "not a whole archive"
        raise ValueError(f"{path}: {what} ({' '.join(str(error).split())})") from None


def _folder(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> list[Item]:
    """Files of a folder, of those below and of archives in it; links are followed, but to none of the folders `above`.

    Of an archive and a folder of its name, the one with more.
    """
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if len(above) > DEEPEST:
        raise ValueError(f"{folder}: lies too deep; name the folder or archive of the originals itself")
    inner: dict[str, list[Item]] = {"": []}
    packed: dict[str, list[Item]] = {}
    for entry in os.scandir(folder) if here not in above else ():
        name = prefix + entry.name
        if HIDDEN.fullmatch(entry.name):
            continue
        if entry.is_dir():
            inner[name] = _folder(entry.path, f"{name}/", above | {here})
        elif entry.is_symlink() and not entry.is_file():
            raise ValueError(f"{entry.path}: links to {os.readlink(entry.path)}, which is not there; mend or remove it")
        elif name.lower().endswith((".tar", ".zip")):
            members, stem = everything(Path(entry.path)), name[:-4]
            packed[stem] = [replace(item, name=f"{stem}/{item.name}") for item in members]
        elif entry.is_file():
            inner[""].append(Item(name, entry.path, entry.stat().st_size))
    more = {name: members for name, members in packed.items() if _amount(members) > _amount(inner.get(name, []))}
    if both := packed.keys() & inner.keys():
        said = (
            f"{len(both):,} archives beside their folders; of {len(both & more.keys()):,} the archive, which has more"
        )
        print(f"{folder}: {said}", file=sys.stderr)
    return list(itertools.chain(*(inner | more).values()))


def _amount(found: list[Item]) -> tuple[int, int]:
    """Files and bytes: an interrupted unpacking has less of them."""
    return len(found), sum(item.size for item in found)


def _archive(path: Path) -> list[Item]:
    """Files of a zip or a tar."""
    with path.open("rb") as file:
        start = file.read(64)
    if kind := next((kind for magic, kind in KINDS.items() if re.match(magic, start, re.I)), None):
        raise ValueError(f"{path}: is {kind}")
    if not start.startswith(b"PK"):
        return _tar(path, OPENERS.get(start[:2]))
    infos = [(plain(info.filename), info) for info in _zip(str(path)).infolist() if not info.is_dir()]
    return [Item(name, str(path), info.file_size, member=info.filename) for name, info in infos if name]


def plain(name: str) -> str:
    """The name of a member of an archive, with slashes and without dots; empty for a hidden one."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "" if any(map(HIDDEN.fullmatch, parts)) else "/".join(parts)


def by_name(found: Iterable[Item], name: Callable[[Item], str] = lambda item: Path(item.name).name) -> dict[str, Item]:
    """Items by a name, their file name alone if not told; ValueError, one line, for two of one name."""
    named: dict[str, Item] = {}
    for item in found:
        other = named.setdefault(name(item), item)
        if other is not item:
            raise ValueError(f"{item.path}: {other.name} and {item.name} are both {name(item)}; move one away")
    return named


def _tar(path: Path, opener: Any) -> list[Item]:
    """Files of a tar, and of tars in it, by their offset, or with their content if it is compressed."""
    found: list[tuple[str, int, int]] = []
    held, size = b"", path.stat().st_size
    if opener:
        with opener(path) as file:
            held = file.read(HELD + 1)  # to the end, where the checksum is
        if (size := len(held)) > HELD:
            raise ValueError(f"{path}: is compressed; decompress it, then what it holds is read where it lies")
    with io.BytesIO(held) if opener else path.open("rb") as file:
        for name, offset, length in _members(file, 0, size):
            inner = _members(file, offset, length) if name.endswith(".tar") else []
            found += [(f"{Path(name).stem}/{each}", at, size) for each, at, size in inner]
            found += [] if inner else [(name, offset, length)]
    if not opener:
        return [Item(name, str(path), length, offset=offset) for name, offset, length in found]
    return [Item(name, str(path), length, content=held[at : at + length]) for name, at, length in found]


def _members(file: BinaryIO, offset: int, length: int) -> list[tuple[str, int, int]]:
    """(name, offset in the file, bytes) of the members of a tar that lies at `offset`, hidden ones apart."""
    members = []
    with tarfile.open(fileobj=cast("IO[bytes]", _Window(file, offset, length)), mode="r:") as archive:
        for m in archive:
            if (name := plain(m.name)) and (m.issym() or m.islnk()):
                raise tarfile.ReadError(f"{m.name} is a link; pack it again with tar --dereference --hard-dereference")
            if name and m.isfile():
                members.append((name, offset + m.offset_data, m.size))
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
        digest.update(f"{item.name} {item.size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def check_count(
    dataset: str, path: Path, have: int, published: int, partial: bool, what: str = "images"
) -> dict[str, Any]:
    """Facts for the manifest; ValueError, one line, for another count than the published one without --partial."""
    if have != published and not partial:
        counts = f"{have:,} {what}, {dataset} has {published:,}"
        raise ValueError(f"{path}: {counts}; give --partial to prepare it all the same (it is recorded)")
    return {"partial": True, "published": published} if have != published else {}


def text(content: bytes) -> str:
    """A list as text, whatever byte-order mark an editor has put before it."""
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (3, H, W)."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
