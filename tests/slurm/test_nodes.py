"""A run over two nodes of the cluster: a task on each, and in it one rank; gloo carries the gradients."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from cluster import below, wait
from sweep import LONG, LongRun, Sweep
from tiny_suite import TINY

from bench.launching.coordinator import Coordinator
from bench.planning import suite_file
from bench.planning.plan import plan
from tests.tools.chaos import outcome

SUBMIT = ("--nodes", "2", "--time", "20", "--set", "signal_delay_s=60")
PATIENCE = 600.0  # seconds; four processes start one after the other
FEW = {"processes": 2, "checkpoints": 60, "budget": 9600, "evaluation": TINY["evaluation"] | {"count": 2, "repeats": 0}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[str, list[dict]]:
    """What two processes on one machine make of the run."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "long.yaml").write_text(yaml.safe_dump({**TINY, **LONG, **FEW}))
    runs = plan(suite_file.load(str(folder / "long.yaml")))
    assert Coordinator(runs, folder, data).train(runs[:1]) == 0
    return outcome(runs[0], folder)


@pytest.fixture
def wide(sweep: Sweep, alone: tuple[str, list[dict]]) -> LongRun:
    """The run, not yet submitted."""
    return LongRun(sweep, alone, **FEW)


def trainers(sweep: Sweep) -> dict[str, list[int]]:
    """Processes of the job's tasks by node, the tasks themselves first."""
    found = {node: [pid for step in sweep.cluster.steps(node) for pid in below(step)] for node in sweep.cluster.nodes}
    return {node: pids for node, pids in found.items() if pids}


def test_warned_and_bereft_of_a_rank_it_ends_with_the_bits_of_one_machine(wide):
    """First SLURM warns the job, which saves and is requeued; then the rank on the second node is killed."""
    wide.submit(*SUBMIT)
    job, cluster = wide.sweep.ids()[0], wide.sweep.cluster
    wide.wait_checkpoints(3, PATIENCE)
    assert (cluster.ask("squeue", "-h", "-j", job, "-o", "%D") or "").strip() == "2"
    before = wide.events("train")[-1]["images"]
    assert cluster.ask("scancel", "--signal=USR2", job) is not None
    wait("its resumption", lambda: wide.events("resume"), PATIENCE)
    assert int(wide.events("resume")[0]["note"].split()[1]) >= before  # it has saved
    first, last = wide.owner(), max(event["images"] for event in wide.events("checkpoint"))
    wait("a further checkpoint", lambda: wide.events("checkpoint")[-1]["images"] > last, PATIENCE)
    (second,) = [pids for pids in trainers(wide.sweep).values() if first not in pids]
    os.kill(second[-1], signal.SIGKILL)
    wide.wait_done(PATIENCE)
    wide.check(len(wide.events("resume")))
    assert len(wide.events("start")) == 1 and len(wide.events("resume")) >= 2
    wide.sweep.wait(PATIENCE)
    assert "COMPLETED" in (cluster.ask("sacct", "-X", "-n", "-o", "State", "-j", job) or "")


def test_a_task_that_is_killed_ends_the_other_and_the_run_goes_on(wide):
    """SLURM ends the job; nothing of it outlives it, and the run is not called failed."""
    wide.submit(*SUBMIT)
    wide.wait_checkpoints(2, PATIENCE)
    first = wide.owner()
    (second,) = [pids for pids in trainers(wide.sweep).values() if first not in pids]
    os.kill(second[0], signal.SIGKILL)
    wide.sweep.wait(PATIENCE)
    assert not wide.folder.is_held() and not wide.folder.error.exists() and not wide.folder.is_done()
    wide.submit(*SUBMIT)
    wide.wait_done(PATIENCE)
    wide.check(len(wide.events("resume")))
