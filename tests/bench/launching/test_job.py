"""What a job does when it starts, is warned, and starts again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit
from tiny_suite import TINY

from bench.launching.coordinator import Coordinator
from bench.launching.job import BLOCKED, Work
from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Run
from reports.records import lease
from reports.records.run_folder import RunFolder, State
from tests.tools.chaos import outcome


def wait(folder: RunFolder, kind: str) -> dict:
    """The last event of a kind, once there is one."""
    until = time.monotonic() + 300
    while not (event := folder.last_event(kind)):
        assert time.monotonic() < until, f"no {kind} event"
        time.sleep(0.05)
    return event


def write(path: str, root: Path, data: Path) -> Run:
    """The work of a job of the first run of a suite, as submitit finds it; returns the run."""
    run = plan(suite_file.load(path))[0]
    work = Work(path, str(root / "runs"), str(data), f"run={run.id}", devices="5")
    submission = submitit.core.utils.DelayedSubmission(work)
    submission.set_timeout(60, 3)
    submission.dump(root / "7_submitted.pkl")
    return run


@pytest.fixture
def job(tiny, tmp_path, data):
    """A run long enough to be disturbed, and the folder of its job."""
    return write(tiny(budget=64000, checkpoints=1), tmp_path, data), tmp_path


def start(folder: Path, node: int = 0, nodes: int = 1) -> subprocess.Popen[str]:
    """The process of a job, or of its task on one of several nodes: what submitit starts."""
    command = [sys.executable, "-S", "-c", BLOCKED, sys.executable, "-u", "-m", "submitit.core._submit", str(folder)]
    told = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7", "SUBMITIT_LOCAL_NTASKS": str(nodes)}
    told |= {"SUBMITIT_LOCAL_GLOBALID": str(node), "SUBMITIT_LOCAL_LOCALID": "0"}
    told |= {"SUBMITIT_LOCAL_JOB_NUM_NODES": str(nodes)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=os.environ | told, text=True, start_new_session=True, **streams)


def end(process: subprocess.Popen[str]) -> str:
    """What it said; every process of the job ends with it."""
    said, until = process.communicate(timeout=300)[0], time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    return said


def blocks_warnings(process_id: int) -> bool:
    status = Path(f"/proc/{process_id}/status").read_text()
    return bool(int(status.partition("SigBlk:")[2].split()[0], 16) >> signal.SIGUSR2 - 1 & 1)


@pytest.mark.parametrize("whom", ["the job", "every process"])
def test_a_warned_job_saves_before_it_is_requeued_and_goes_on(job, whom):
    """SLURM warns every process of a step, submitit's local executor the job's own alone."""
    run, folder = job
    process = start(folder)
    wait(run.folder(folder / "runs"), "train")
    (os.kill if whom == "the job" else os.killpg)(process.pid, signal.SIGUSR2)
    before = run.folder(folder / "runs").last_event("train")["images"]
    said = end(process)
    assert "Calling checkpoint method" in said and process.returncode != 0
    assert run.folder(folder / "runs").state() is State.STOPPED
    process = start(folder)
    note = wait(run.folder(folder / "runs"), "resume")["note"]
    assert int(note.split()[1]) >= before, note
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_free(folder: RunFolder) -> None:
    until = time.monotonic() + 30
    while folder.is_held() and time.monotonic() < until:
        time.sleep(0.05)
    assert folder.state() is State.STOPPED


def test_a_job_that_is_ended_without_a_warning_saves(job):
    """SIGTERM alone, as `scancel` sends it: nobody trains on, and the run is not called failed."""
    run, folder = job
    process = start(folder)
    wait(run.folder(folder / "runs"), "train")
    os.killpg(process.pid, signal.SIGTERM)
    wait_free(run.folder(folder / "runs"))
    assert list(run.folder(folder / "runs").checkpoints.glob("*.pt"))
    time.sleep(1.5)
    assert process.poll() is None and run.folder(folder / "runs").state() is State.STOPPED  # it waits for its end
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_job_that_is_warned_while_it_starts_is_requeued(job):
    run, folder = job
    process = start(folder)
    until = time.monotonic() + 20
    while not blocks_warnings(process.pid) and time.monotonic() < until:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGUSR2)
    assert "Calling checkpoint method" in end(process)
    assert run.folder(folder / "runs").state() in (State.MISSING, State.STOPPED)


def test_a_run_outlives_no_job(job):
    run, folder = job
    process = start(folder)
    wait(run.folder(folder / "runs"), "train")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # until everybody has closed the pipe
    wait_free(run.folder(folder / "runs"))
    assert run.folder(folder / "runs").state() is State.STOPPED


# Several nodes, each of them a task of its own here -------------------------------------------------------------------


def test_the_tasks_of_two_nodes_train_a_run_together(tiny, tmp_path, data):
    """Also where one comes late, and the trainer is killed meanwhile; it ends with the bits of one machine."""
    path = tiny(processes=2, budget=3200, checkpoints=20, evaluation=TINY["evaluation"] | {"count": 2, "repeats": 0})
    run, (alone, both) = write(path, tmp_path, data), (tmp_path / "alone", tmp_path / "runs")
    first = start(tmp_path, 0, 2)
    time.sleep(3)
    second = start(tmp_path, 1, 2)
    wait(run.folder(both), "checkpoint")
    os.kill(lease.process_id(run.folder(both).lock), signal.SIGKILL)
    said = [end(process) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0] and (tmp_path / "7_store.json").is_file(), said
    assert (
        run.folder(both).state() is State.COMPLETE and "took over the lock" in wait(run.folder(both), "resume")["note"]
    )
    assert Coordinator(plan(suite_file.load(path)), alone, data).train([run]) == 0
    assert outcome(run, both) == outcome(run, alone)


def test_a_node_leaves_with_the_first_one(tiny, tmp_path, data):
    """SLURM ends the first one where the other is lost; what is trained goes on from its last checkpoint."""
    run = write(tiny(processes=2, budget=64000, checkpoints=500), tmp_path, data)
    first, second = start(tmp_path, 0, 2), start(tmp_path, 1, 2)
    wait(run.folder(tmp_path / "runs"), "checkpoint")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    end(second)
    assert second.returncode and run.folder(tmp_path / "runs").state() is State.STOPPED
