"""Whatever a cluster does to a job, its run ends with the bits of a run that nothing happened to."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from cluster import below, living, wait
from sweep import BUDGET, CHECKPOINTS

INTERVAL = BUDGET // CHECKPOINTS  # images between checkpoints


def lost(run, before):
    """Images that were trained twice."""
    return before - int(run.events("resume")[0]["note"].split()[1])


def test_a_job_at_its_time_limit_is_requeued(long):
    """Also when `scontrol requeue` is ended together with the job that it requeues, which raises in the midst of a step."""
    long.submit("--time", "2", "--set", "signal_delay_s=30")
    long.wait_checkpoints(1)
    with long.held():
        pass
    wait("the end of the run", lambda: long.folder.is_done() or long.folder.error.exists(), 600)
    notes = long.check(len(long.events("resume")) or 1)
    assert all(note.startswith("from ") for note in notes)
    assert "timed-out" in long.sweep.log() or "preempted" in long.sweep.log()


def test_a_job_preempted_by_a_higher_partition(long):
    long.submit("--partition", "low", "--time", "10")
    long.wait_checkpoints()
    with long.held():
        preempt(long.sweep.cluster)
    wait("the preemption", lambda: not long.folder.lock.exists() or long.events("resume"), 90)
    long.check()


def test_a_warning_in_the_middle_of_a_long_interval_loses_seconds(long_interval):
    """Its one checkpoint is at its end; it saves when it is warned, and goes on from there."""
    run = long_interval
    run.submit("--partition", "low", "--time", "10")
    wait("training", lambda: len(run.events("train")) > 20, 120)
    preempt(run.sweep.cluster)
    wait("the preemption", lambda: not run.folder.is_held(), 90)
    last, saved = run.events("train")[-1], max(run.folder.checkpoints.glob("*.pt"))
    assert last["images"] < BUDGET and int(saved.stem) >= last["images"]
    assert saved.stat().st_mtime - last["time"] < 30
    (note,) = run.check()
    assert note == f"from {int(saved.stem)} images"


def preempt(cluster):
    """A job that wants every node, from the partition that goes before."""
    assert cluster.ask(
        "sbatch", "--parsable", "-p", "high", "-N", "4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2"
    )


def test_a_job_preempted_while_it_still_starts(long):
    """The warning comes before Python can take it: it is held back, and the job requeued all the same."""
    long.submit("--partition", "low", "--time", "10")
    job, cluster = long.sweep.ids()[0], long.sweep.cluster
    wait("its start", lambda: "RUNNING" in (cluster.ask("squeue", "-h", "-j", job, "-o", "%T") or ""), 120)
    preempt(cluster)
    wait("the preemption", lambda: "PENDING" in (cluster.ask("squeue", "-h", "-j", job, "-o", "%T") or "PENDING"), 90)
    long.wait_done(480)
    assert not long.folder.error.exists()
    long.check(len(long.events("resume")))


def test_a_run_on_two_processes_that_is_preempted(sweep):
    """The warning reaches the ranks, too; the run is not called failed for it, and goes on."""
    sweep.write("both", processes=2, budget=38400)
    sweep.submit("--partition", "low", "--only", "role=pilot,seed=100", "--time", "10", "--set", "signal_delay_s=5")
    folder = sweep.runs()[0].folder(sweep.root)
    wait("a checkpoint", lambda: list(folder.checkpoints.glob("*.pt")), 240)
    preempt(sweep.cluster)
    wait("the end of the run", lambda: folder.is_done() or folder.error.exists(), 600)
    assert folder.is_done(), sweep.log()
    log = folder.events.read_text()
    assert log.count('"event": "start"') == 1 and log.count('"event": "resume"') == 1


def test_a_node_that_dies_with_its_processes(long):
    long.submit("--time", "10")
    long.wait_checkpoints()
    node, cluster = long.node(), long.sweep.cluster
    cluster.kill(node)
    try:
        before = (long.events("train") or [{"images": 0}])[-1]["images"]  # all that it had trained
        assert long.folder.lock.exists()  # nobody could take it away
        notes = long.check()
    finally:
        cluster.start(node)
    assert "which is dead" in notes[0]
    assert lost(long, before) <= INTERVAL


def test_a_node_whose_daemon_dies_while_the_task_lives_on(long):
    """SLURM requeues the job while its old process still trains: never two writers."""
    long.submit("--time", "10")
    long.wait_checkpoints()
    node, cluster, owner = long.node(), long.sweep.cluster, long.owner()
    cluster.kill(node, processes=False)
    try:
        job, owners = long.sweep.ids()[0], {owner}
        while not long.folder.result.exists():
            try:
                owners.add(long.owner())
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            time.sleep(0.2)
        assert owners == {owner}  # the old task has finished it; the requeued one waited
        long.check(resumes=0)
        wait(
            "the requeued job",
            lambda: "COMPLETED" in (cluster.ask("sacct", "-X", "-n", "-o", "State", "-j", job) or ""),
            120,
        )
        assert "NODE_FAIL" in cluster.ask("sacct", "-D", "-X", "-n", "-o", "State", "-j", job) or living(owner) is False
    finally:
        cluster.start(node)


def test_kill_9_of_the_trainer_and_of_its_job(long):
    """The job replaces its trainer; who submits again replaces the job."""
    long.submit("--time", "10")
    long.wait_checkpoints()
    os.kill(long.owner(), signal.SIGKILL)
    wait("another trainer", lambda: long.events("resume"), 60)
    os.kill(long.job_process(), signal.SIGKILL)
    long.sweep.wait()
    assert not long.folder.is_held() and not long.folder.is_done()
    assert "1 of 1 runs to submit" in long.submit("--time", "10")
    assert all("which is dead" in note for note in long.check(resumes=2))
    assert "0 of 1 runs to submit" in long.submit("--time", "10")


def test_a_requeue_that_finds_damage(long):
    """A torn log, a truncated newest checkpoint and the lock of a dead process."""
    long.submit("--time", "10")
    long.wait_checkpoints(3)
    job, cluster, owner = long.sweep.ids()[0], long.sweep.cluster, long.owner()
    dead = long.folder.lock.read_text()
    assert cluster.ask("scontrol", "requeuehold", job) is not None
    wait("the end of the task", lambda: not living(owner), 60)
    wait("a held job", lambda: "PENDING" in (cluster.ask("squeue", "-h", "-j", job, "-o", "%T") or ""), 60)
    long.folder.lock.write_text(dead)
    with long.folder.events.open("a") as log:
        log.write('{"event": "train", "ima')
    newest = max(long.folder.checkpoints.glob("*.pt"))
    os.truncate(newest, newest.stat().st_size // 2)
    assert cluster.ask("scontrol", "release", job) is not None
    (note,) = long.check()
    assert all(word in note for word in ("which is dead", "cut a torn last line", f"{newest.name}: damaged"))


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="needs root, to mount a small disk")
def test_a_disk_that_fills_up_during_a_checkpoint(long, tmp_path):
    long.sweep.root.mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, str(long.sweep.root)], capture_output=True, text=True).returncode

    if mount("-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        pytest.skip("mounting is not allowed here")
    try:
        filler = long.sweep.root / "filler"
        long.submit("--time", "10")
        long.wait_checkpoints()
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        long.sweep.wait()
        assert not long.folder.result.exists()
        said = [line for line in long.sweep.log().splitlines() if ": failed: " in line]
        assert len(said) == 1 and "No space left on device" in said[0], long.sweep.log()
        filler.unlink()
        assert mount("-o", "remount,size=64m") == 0
        long.submit("--time", "10", "--retry", "failed")
        long.check()
    finally:
        long.sweep.cluster.ask("scancel", *long.sweep.ids())
        long.sweep.wait()
        subprocess.run(["umount", "-l", str(long.sweep.root)], check=True)


def test_a_cancelled_job_saves_and_nothing_of_it_outlives_it(long_interval):
    run = long_interval
    run.submit("--time", "10")
    wait("training", lambda: run.events("train"), 120)
    doomed = [run.job_process(), *below(run.job_process())]
    assert run.owner() in doomed
    assert "ended" in run.sweep.bench("cancel")
    wait("the end of the task", lambda: not any(map(living, doomed)), 60)
    assert int(max(run.folder.checkpoints.glob("*.pt")).stem) >= run.events("train")[-1]["images"]
    assert not run.folder.error.exists() and not run.folder.is_held()
