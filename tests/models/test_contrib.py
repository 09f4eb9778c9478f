"""A method of one's own in one file, from the command line: the README's example as written, and a broken file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A copy of what is needed, to put files into."""
    for name in ("models", "bench", "datasets", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def bench(tree, *words):
    return subprocess.run([sys.executable, "-m", "bench", *words], cwd=tree, capture_output=True, text=True)


def test_the_example_of_the_readme_works_as_written(tree):
    """It is planned, trained and reported under its name."""
    readme = (ROOT / "README.md").read_text()
    name, code = re.search(r"```python\n# models/contrib/(\w+)\.py\n(.*?)```", readme, re.S).groups()
    assert len(code[code.index("@register"):].strip().splitlines()) <= 15
    (tree / "models" / "contrib" / f"{name}.py").write_text(code)
    method = re.search(r'@register\("(\w+)"\)', code).group(1)
    suite = yaml.safe_load((ROOT / "bench/suites/smoke.yaml").read_text())
    suite |= {"arms": ["none", method], "cells": [{"dataset": "digits", "backbone": "unet-xs"}]}
    suite |= {"budget": 320, "checkpoints": 1}
    suite["evaluation"] |= {"count": 3, "steps": 2}
    (tree / "mine.yaml").write_text(yaml.safe_dump(suite))
    planned = bench(tree, "plan", "mine.yaml", "--only", f"method={method}")
    assert planned.returncode == 0 and planned.stdout.count(f"{method}-s") >= 3, planned.stderr
    trained = bench(tree, "run", "mine.yaml", "--sync-every", "0", "--workers", "1")
    assert trained.returncode == 0, trained.stderr
    reported = bench(tree, "report", "mine")
    assert reported.returncode == 0, reported.stderr
    assert method in (tree / "runs" / "mine" / "report" / "tables" / "speedup.md").read_text()


def test_a_broken_file_is_one_line(tree):
    (tree / "models" / "contrib" / "broken.py").write_text("import nothing_of_that_name")
    done = bench(tree, "plan", "smoke")
    assert done.returncode == 2 and "models/contrib/broken.py: ModuleNotFoundError" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
