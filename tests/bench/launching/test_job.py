"""What a job does when it starts, and starts again."""

import os

import pytest

from bench.planning import suite as suites
from bench.launching import worker
from bench.launching.job import STARTS, Work
from bench.planning.plan import plan


@pytest.fixture
def starts(tiny, tmp_path, monkeypatch):
    """Start a job of one run, as submitit does; its exit code, and how often it came to train."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path / "jobs"))
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path, trained = tiny(), []
    run = plan(suites.load(path))[0]
    monkeypatch.setattr(worker, "work", lambda *_, **__: trained.append(os.environ.get("CUDA_VISIBLE_DEVICES")) or 0)
    return run, lambda **more: Work(path, str(tmp_path / "runs"), "", f"run={run.id}", **more)(), trained


def test_a_job_that_never_gets_to_a_checkpoint_ends(starts, tmp_path, capsys):
    run, start, trained = starts
    checkpoints = run.folder(tmp_path / "runs") / "checkpoints"
    checkpoints.mkdir(parents=True)
    for images in (0, 960):  # a checkpoint, and it may start as often again
        (checkpoints / f"{images:012d}.pt").touch()
        assert [start() for _ in range(STARTS)] == [0] * STARTS
    assert capsys.readouterr().err == ""
    assert start() == 1 and len(trained) == 2 * STARTS
    said = capsys.readouterr().err
    assert "3 starts of this job in a row reached no new checkpoint" in said and said.count("\n") == 1


def test_a_job_sees_the_gpus_that_it_was_given(starts, monkeypatch):
    _, start, trained = starts
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    start(gpus="2,3")
    assert trained == ["2,3"]
