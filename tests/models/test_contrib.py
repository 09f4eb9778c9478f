"""A method of one's own in one file: the README's example as written, and a file that is broken."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A copy of what is needed, to put files into."""
    for name in ("models", "bench", "datasets", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(tree, *words):
    return subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True)


def test_the_example_of_the_readme_works_as_written(tree):
    code, name = re.search(r"```python\n# models/contrib/(\w+)\.py\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(2, 1)
    body = code[code.index("@register"):].strip().splitlines()
    assert len(body) <= 15
    (tree / "models" / "contrib" / f"{name}.py").write_text(code)
    method = re.search(r'@register\("(\w+)"\)', code).group(1)
    suite = re.sub(r"^arms: .*$", f"arms: [none, {method}]", (ROOT / "bench/suites/smoke.yaml").read_text(), flags=re.M)
    (tree / "mine.yaml").write_text(suite.replace("budget: 3200", "budget: 640").replace("checkpoints: 4", "checkpoints: 1").replace("count: 12", "count: 3"))
    done = python(tree, "-m", "bench", "run", "mine.yaml", "--only", f"method={method},seed=0,role=pilot", "--sync-every", "0")
    assert done.returncode == 2 and "names no run" in done.stderr  # pilots are of the baseline
    planned = python(tree, "-m", "bench", "plan", "mine.yaml", "--only", f"method={method}")
    assert planned.returncode == 0 and planned.stdout.count(f"{method}-s") >= 6, planned.stderr
    trained = python(tree, "-m", "bench", "run", "mine.yaml", "--sync-every", "0")
    assert trained.returncode == 0, trained.stderr
    assert python(tree, "-m", "bench", "report", "mine").returncode == 0
    assert method in (tree / "runs" / "mine" / "report" / "tables" / "speedup.md").read_text()


@pytest.mark.parametrize(("text", "message"), [
    ("import nothing_of_that_name", "models/contrib/broken.py: ModuleNotFoundError"), ("def", "models/contrib/broken.py: SyntaxError"),
    ("from models import Scaling, register\n@register('none')\nclass Again(Scaling): pass", "method 'none': registered twice"),
])
def test_a_broken_file_is_one_line(tree, text, message):
    (tree / "models" / "contrib" / "broken.py").write_text(text)
    done = python(tree, "-m", "bench", "plan", "smoke")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
