"""The code that runs: its files, their digest, and the state of the checkout that it comes from."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import Any

from reports.records.files import read_json

TREE = Path(__file__).parents[2]
PACKAGES = ("bench", "models", "datasets", "reports")
KINDS = (".py", ".yaml", ".css", ".html", ".md", ".json", ".safetensors")
GIT = "git.json"  # in a snapshot: the state of the checkout that it was taken from


def files(tree: Path = TREE) -> list[Path]:
    """Every file of the code, sorted, relative to `tree`; suites and cluster profiles are input, not code."""
    found = [p.relative_to(tree) for package in PACKAGES for p in (tree / package).rglob("*") if p.suffix in KINDS]
    return sorted(path for path in found if path.parts[:2] not in (("bench", "suites"), ("bench", "clusters")))


@functools.cache
def digest(tree: Path = TREE) -> str:
    """blake2b over names and bytes of the code."""
    total = hashlib.blake2b(digest_size=16)
    for path in files(tree):
        total.update(f"{path.as_posix()}\0".encode() + hashlib.blake2b((tree / path).read_bytes()).digest())
    return total.hexdigest()


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit, and whether the tree differs from it; None without a checkout. A snapshot tells its origin."""
    if (TREE / GIT).is_file():
        recorded: dict[str, Any] = read_json(TREE / GIT)
        return recorded
    command = ["git", "-C", str(TREE), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": lines[0].split()[-1], "dirty": not all(line.startswith("#") for line in lines)}
