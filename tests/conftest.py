"""A tiny suite that trains in seconds, and the stores and folders it needs."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run beside each other

import pytest
import yaml
from tiny_suite import TINY


@pytest.fixture
def tiny(tmp_path: Path):
    """Writes a variant of the tiny suite and returns its path: tiny(budget=320, name="other")."""

    def write(name: str = "tiny", **changes: object) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}))
        return str(path)

    return write


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits prepared."""
    import datasets

    folder = tmp_path_factory.mktemp("data")
    datasets.prepare("digits", folder)
    return folder
