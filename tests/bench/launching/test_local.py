"""Training on this machine: what is started beside it ends with it, and folders of another protocol stay untouched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from beside import said_beside

from bench.cli import parser as cli
from bench.launching import local
from bench.launching.sweep_folder import SweepFolder
from bench.planning import suite_file
from bench.planning.plan import plan

ROOT = Path(__file__).parents[3]


def test_nothing_outlives_a_run_that_is_killed(tiny, tmp_path, data):
    """kill -9 of the command: the projection into MLflow and the processes of runs leave with it."""
    where = ["--root", str(tmp_path / "runs"), "--data", str(data), "--sync-every", "1"]
    process = subprocess.Popen([sys.executable, "-m", "bench", "run", tiny(budget=96000), *where], cwd=ROOT)
    until = time.monotonic() + 120
    while not (tmp_path / "runs" / ".mlflow.root").exists() and time.monotonic() < until:  # the first pass has begun
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert len(children) > 3 and not alive, alive


def test_a_projection_that_fails_is_said(tiny, tmp_path):
    """And one that works ends with a last pass when it is told to."""
    assert re.fullmatch(r"error: suite: 'none' has no runs in .*\n", said_beside("none", tmp_path, 1.0))
    suite = suite_file.load(tiny())
    SweepFolder(tmp_path, suite.name).publish(suite, plan(suite))
    said = said_beside("tiny", tmp_path, 1.0, "http://127.0.0.1:1")
    assert said.count("does not answer") == 1
    assert said.endswith("sync ended with code 1; run it again with: python -m bench sync\n")


def version_1(folder: Path, file: str, key: str) -> None:
    content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {"cells": {}}
    (folder / file).write_text(json.dumps(content | {key: 1}))


@pytest.mark.parametrize(("file", "key"), [("suite.json", "protocol"), ("protocol.json", "version")])
@pytest.mark.parametrize("words", [["run"], ["submit", "--cluster", "local"], ["sync"]])
def test_a_folder_of_another_protocol_version_is_refused_untouched(tiny, tmp_path, data, capsys, words, file, key):
    """In the line of report and check, before anything is written."""
    verb, *more = words
    suite, root = tiny(), tmp_path / "runs"
    loaded = suite_file.load(suite)
    local.SweepFolder(root, "tiny").publish(loaded, plan(loaded))
    version_1(root / "tiny", file, key)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert cli.main([verb, suite, *more, "--root", str(root), "--data", str(data)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {root.resolve() / 'tiny' / file}: protocol version 1, this reader knows 2: move")
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("content", "lacks"), [({}, "lacks the object 'cells'"), ({"cells": {"a/b": {}}}, r"cells[a/b]: lacks 'pilots'")]
)
def test_a_protocol_file_without_its_keys_is_one_line(tiny, tmp_path, data, capsys, content, lacks):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "protocol.json").write_text(json.dumps({"version": 2} | content))
    assert cli.main(["run", tiny(), "--root", str(tmp_path), "--data", str(data)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/tiny/protocol.json" in said and lacks in said and said.count("\n") == 1


def test_options_of_the_other_cluster_are_refused(tiny, tmp_path, data, capsys):
    where = ["--root", str(tmp_path / "runs"), "--data", str(data)]
    words = ["--partition", "x", "--gpus-per-node", "1", "--set", "nodes=1", "--time", "5"]
    assert cli.main(["submit", tiny(), "--cluster", "local", *words, *where]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == "error: --partition, --gpus-per-node, --set: for --cluster slurm alone, and this is local; leave it out\n"
    )
    assert cli.main(["submit", tiny(), "--cluster", "slurm", "--jobs", "2", *where]) == 2
    assert capsys.readouterr().err == "error: --jobs: for --cluster local alone, and this is slurm; leave it out\n"
    assert not (tmp_path / "runs").exists()
