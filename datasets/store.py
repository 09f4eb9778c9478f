"""The prepared form of a dataset: memory-mapped arrays beside a manifest with their digests.

    DATA/NAME/manifest.json    name, shape, count, recipe, files with bytes and sha256, digest of the whole
    DATA/NAME/images.npy       uint8 (count, C, H, W)

A store is written into a folder beside its place and renamed when it is whole, so what has the name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

FORMAT = 1


@dataclass(frozen=True)
class Dataset:
    """How a dataset is prepared and what it carries.

    shape: of one image, (C, H, W). condition: what the images carry: none, class or text. recipe: the preprocessing
    in words, kept in the manifest. prepare(writer, source) writes the arrays.
    """

    name: str
    shape: tuple[int, int, int]
    about: str
    recipe: str
    prepare: Callable[[Writer, Path | None], None]
    condition: str = "none"


@dataclass(frozen=True)
class Store:
    """A prepared dataset, opened."""

    path: Path
    manifest: dict

    @staticmethod
    def exists(root: Path, name: str) -> bool:
        """Whether a complete store of that name lies under `root`."""
        return (Path(root) / name / "manifest.json").is_file()

    @classmethod
    def open(cls, root: Path, name: str) -> Store:
        """Open the store; ValueError, one line, if it is not there, of another format, or if a file has lost bytes."""
        path = Path(root) / name
        try:
            manifest = json.loads((path / "manifest.json").read_text())
        except FileNotFoundError:
            raise ValueError(f"dataset {name}: not prepared in {root}; run: python -m bench data prepare {name}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"dataset {name}: {path / 'manifest.json'} is not JSON ({error})") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"dataset {name}: {path / 'manifest.json'} is not of format {FORMAT}; prepare it again")
        store = cls(path, manifest)
        for file, entry in manifest["files"].items():
            size = (path / file).stat().st_size if (path / file).is_file() else None
            if size != entry["bytes"]:
                raise ValueError(f"dataset {name}: {path / file} has {size} bytes, expected {entry['bytes']}; "
                                 f"delete {path} and prepare it again")
        return store

    @property
    def digest(self) -> str:
        """sha256 over the digests of all files: the identity of the data."""
        return self.manifest["digest"]

    @property
    def count(self) -> int:
        """Number of images."""
        return self.manifest["count"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return tuple(self.manifest["shape"])

    @cached_property
    def images(self) -> np.ndarray:
        """All images, uint8 (count, C, H, W), memory-mapped and read-only."""
        return np.load(self.path / "images.npy", mmap_mode="r", allow_pickle=False)

    def verify(self) -> list[str]:
        """Read every byte; one line per file whose digest is not the manifest's."""
        failures = [f"{self.path / file}: sha256 differs from the manifest's"
                    for file, entry in self.manifest["files"].items() if sha256(self.path / file) != entry["sha256"]]
        if combined_digest(self.manifest["files"]) != self.digest:
            failures.append(f"{self.path / 'manifest.json'}: digest does not belong to its files")
        return failures


class Writer:
    """Writes a store beside its place; renames it into place when the `with` block ends without an error."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.dataset = dataset
        self.final = Path(root) / dataset.name
        self.path = Path(root) / f".{dataset.name}.{os.getpid()}.partial"
        self.files: dict[str, dict] = {}
        self.count = 0

    def __enter__(self) -> Writer:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one array, first axis the image."""
        file = self.path / f"{name}.npy"
        with file.open("wb") as out:
            np.save(out, array, allow_pickle=False)
            out.flush()
            os.fsync(out.fileno())
        self.files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        self.count = len(array)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            (self.path / "manifest.json").write_text(json.dumps(self._manifest(), indent=1) + "\n")
            if not self.final.exists():  # two writers make the same bytes: the first to finish is kept
                self._rename()
        shutil.rmtree(self.path, ignore_errors=True)

    def _rename(self) -> None:
        try:
            self.path.rename(self.final)
        except OSError:
            if not (self.final / "manifest.json").is_file():
                raise

    def _manifest(self) -> dict:
        return {"format": FORMAT, "name": self.dataset.name, "count": self.count, "shape": list(self.dataset.shape),
                "condition": self.dataset.condition, "recipe": self.dataset.recipe,
                "digest": combined_digest(self.files), "files": self.files}


def combined_digest(files: dict[str, dict]) -> str:
    """sha256 over "name sha256" lines in the order of the names."""
    lines = "".join(f"{name} {entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
