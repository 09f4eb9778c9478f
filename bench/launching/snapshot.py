"""The code of a sweep, frozen at its submission: a copy beside the runs, which its jobs import instead of the tree.

A job may start, or be requeued, days after it was submitted; whoever edits the tree meanwhile must not change it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import yaml

from bench.errors import BadInput
from bench.planning import suite_file
from bench.planning.suite import Suite
from bench.runs import source_code
from reports.records.files import write_json


def take(suite: Suite, root: Path) -> Path:
    """Copy code and suite into ROOT/SUITE/code/DIGEST, once, and return that folder."""
    text = yaml.safe_dump(suite_file.read(suite.path), sort_keys=False)
    name = hashlib.blake2b((source_code.digest() + text).encode(), digest_size=6).hexdigest()
    folder = Path(root).resolve() / suite.name / "code" / name
    if not folder.is_dir():
        _copy(folder, suite.name, text)
    if source_code.digest(folder) != source_code.digest():
        raise BadInput(f"{folder}: is not the code that it is named after; move it away to submit again")
    return folder


def suite_in(folder: Path, suite: str) -> Path:
    """The suite file in a snapshot."""
    return folder / "bench" / "suites" / f"{suite}.yaml"


def _copy(folder: Path, suite: str, text: str) -> None:
    """Beside, then renamed; of two that race the second finds the first's."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    for path in source_code.files():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source_code.TREE / path, partial / path)
    suite_in(partial, suite).parent.mkdir()
    suite_in(partial, suite).write_text(text)
    write_json(partial / source_code.GIT, source_code.git_state())
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)
