"""The code of a sweep, frozen at its submission: a copy beside the runs, which its jobs import instead of the tree.

A job may start, or be requeued, days after it was submitted; whoever edits the tree meanwhile must not change it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from pathlib import Path

import yaml

from bench.planning import suite as suites
from bench.errors import BadInput
from bench.runs.record import write_json
from bench.planning.suite import Suite

TREE = Path(__file__).parents[2]
PACKAGES = ("bench", "models", "datasets", "reports")
KINDS = (".py", ".yaml", ".css", ".html")
GIT = "git.json"  # in a snapshot: the state of the checkout that it was taken from


def files(tree: Path = TREE) -> list[Path]:
    """Every file of the code, sorted, relative to `tree`; suites and cluster profiles are input, not code."""
    found = [path.relative_to(tree) for package in PACKAGES for path in (tree / package).rglob("*") if path.suffix in KINDS]
    return sorted(path for path in found if path.parts[:2] not in (("bench", "suites"), ("bench", "clusters")))


@functools.cache
def digest(tree: Path = TREE) -> str:
    """blake2b over names and bytes of the code."""
    total = hashlib.blake2b(digest_size=16)
    for path in files(tree):
        total.update(f"{path.as_posix()}\0".encode() + hashlib.blake2b((tree / path).read_bytes()).digest())
    return total.hexdigest()


def take(suite: Suite, root: Path) -> Path:
    """Copy code and suite into ROOT/SUITE/code/DIGEST, once, and return that folder."""
    text = yaml.safe_dump(suites.raw(suite.path), sort_keys=False)
    name = hashlib.blake2b((digest() + text).encode(), digest_size=6).hexdigest()
    folder = Path(root).resolve() / suite.name / "code" / name
    if not folder.is_dir():
        _copy(folder, suite.name, text)
    if digest(folder) != digest():
        raise BadInput(f"{folder}: is not the code that it is named after; move it away to submit again")
    return folder


def _copy(folder: Path, suite: str, text: str) -> None:
    """Beside, then renamed; of two that race the second finds the first's."""
    from bench.training.environment import git_state

    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    for path in files():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / path, partial / path)
    (partial / "bench" / "suites").mkdir()
    (partial / "bench" / "suites" / f"{suite}.yaml").write_text(text)
    write_json(partial / GIT, git_state())
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)


def recorded_git() -> dict | None:
    """The git state that a snapshot remembers; None where the code runs from its tree."""
    path = TREE / GIT
    return json.loads(path.read_text()) if path.is_file() else None
