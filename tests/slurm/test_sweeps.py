"""Whole sweeps through job arrays on a real cluster."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import numpy as np
import pytest
from cluster import wait
from sweep import HERE, Sweep

from bench.runs import source_code
from reports.records.lease import process_id
from tests.reports import synthetic
from tests.tools.chaos import outcome

STORM = int(os.environ.get("STORM", "24"))  # runs; `STORM=200 pytest tests/slurm -n 0 -k storm` for the long form


def everything_done(sweep):
    return all(folder.is_done() for folder in sweep.folders())


def starts(sweep):
    return [folder.events.read_text().count('{"event": "start"') for folder in sweep.folders()]


def test_smoke_ends_with_the_bits_of_a_local_run(sweep, tmp_path):
    """Pilots, then what depends on them, then the report: one command."""
    sweep.suite = "smoke"
    said = sweep.submit("--runs-per-job", "3", "--time", "10")
    assert "24 of 24 runs to submit, 8 jobs in 2 arrays" in said and "after" in said
    pilots, comparisons, report = sweep.batches()
    assert (pilots["kind"], comparisons["kind"], report["kind"]) == ("pilots", "comparisons", "report")
    assert len(pilots["elements"]) == 2 and len(comparisons["elements"]) == 6
    sweep.wait(1200)
    assert everything_done(sweep), sweep.log()
    assert (sweep.path / "report" / "index.html").is_file(), sweep.log()
    assert (sweep.path / "protocol.json").is_file()
    table = sweep.bench("status")
    assert "24 complete of 24 runs; target bands frozen" in table and table.count("COMPLETED") == 24
    there = sweep.root
    local = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "run",
            "smoke",
            "--root",
            str(tmp_path / "local"),
            "--data",
            str(sweep.data),
            "--sync-every",
            "0",
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert local.returncode == 0, local.stderr
    for run in sweep.runs():
        assert outcome(run, there) == outcome(run, tmp_path / "local"), run.id
    frozen = [json.loads((root / "smoke" / "protocol.json").read_text()) for root in (there, tmp_path / "local")]
    assert frozen[0] == frozen[1]


def test_two_submissions_at_the_same_moment_train_each_run_once(sweep):
    sweep.write("twice")
    words = (
        "submit",
        sweep.suite,
        "--root",
        str(sweep.root),
        "--data",
        str(sweep.data),
        "--cluster",
        "slurm",
        "--runs-per-job",
        "4",
        "--time",
        "10",
    )
    both = [sweep.start(*words) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    jobs = Counter(run for batch in sweep.batches() for runs in batch["elements"] for run in runs)
    assert set(jobs.values()) == {1} and len(jobs) == len(sweep.runs())
    assert any("are in the queue already" in out for out, _ in said)
    sweep.wait()
    assert everything_done(sweep), sweep.log()
    assert set(starts(sweep)) == {1}
    assert not any('"event": "resume"' in folder.events.read_text() for folder in sweep.folders())


def test_the_tree_may_change_after_submission(cluster, sweep, tmp_path, data):
    tree = tmp_path / "tree"
    for package in ("bench", "models", "datasets", "reports"):
        shutil.copytree(HERE / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    edited = Sweep(cluster, tmp_path, data, tree)
    edited.write("snap")
    edited.submit("--runs-per-job", "12")
    (tree / "bench" / "training" / "trainer.py").write_text("raise SystemExit('edited')\n")
    (tree / "models" / "__init__.py").write_text("raise SystemExit('edited')\n")
    (tmp_path / "snap.yaml").write_text("edited: yes\n")
    edited.wait()
    code = edited.batches()[0]["code"]
    records = list(edited.path.glob("*/events.jsonl"))
    assert len(records) == 12 and all((path.parent / "result.json").is_file() for path in records), edited.log()
    digests = {json.loads(path.read_text().splitlines()[0])["code"] for path in records}
    assert digests == {source_code.digest(edited.path / "code" / code)}


def test_a_pilot_that_died_is_finished_by_those_that_need_it(sweep):
    """`afterany` lets the comparisons start after a killed pilot; they do not wait for ever, nor go on without it."""
    sweep.write("orphan", budget=9600)
    sweep.submit("--runs-per-job", "3", "--time", "10")
    pilot = sweep.runs()[1]
    folder = pilot.folder(sweep.root)
    wait("the second pilot", folder.is_held, 120)
    os.kill(process_id(folder.lock), signal.SIGKILL)
    sweep.wait()
    assert everything_done(sweep), sweep.log()
    assert starts(sweep) == [1] * len(sweep.runs())


def test_cancel_ends_what_was_submitted_and_only_that(sweep):
    other = sweep.cluster.ask("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60").strip()
    sweep.write("gone", budget=96000)
    sweep.submit("--runs-per-job", "4")
    assert "would be ended" in sweep.bench("cancel", "--dry-run")
    assert "5 jobs ended" in sweep.bench("cancel")
    sweep.wait(60)
    assert other in sweep.cluster.ask("squeue", "-h", "-o", "%A")


def test_failed_runs_wait_for_a_word(sweep):
    sweep.write("sick")
    sweep.submit("--only", "role=pilot", "--runs-per-job", "3")
    sweep.wait()
    run = sweep.runs()[0]
    folder = run.folder(sweep.root)
    folder.result.unlink()
    folder.error.write_text("{}")
    said = sweep.submit("--only", "role=pilot", "--dry-run")
    assert "1 runs failed and are left out" in said and "0 of 3 runs to submit" in said
    assert "1 of 3 runs to submit" in sweep.submit("--only", "role=pilot", "--dry-run", "--retry", "failed")
    assert folder.error.exists()


def test_long_sweeps_are_split_at_the_limit_of_the_site(sweep):
    """MaxArraySize is 26 here; each array depends on the pilots."""
    sweep.write("wide", seeds={"paired": list(range(20)), "pilots": [100, 101, 102]})
    said = sweep.submit("--dry-run")
    assert "63 of 63 runs to submit, 63 jobs in 4 arrays" in said
    assert "#SBATCH --array=0-25%26" in said and "--array=0-7%8" in said
    assert "#SBATCH --signal=USR2@90" in said and not sweep.batches()


def test_status_joins_the_record_with_the_queue(sweep, tmp_path):
    sweep.write("seen", budget=9600)
    sweep.submit("--runs-per-job", "3", "--time", "10")
    first = sweep.runs()[0].folder(sweep.root)
    wait("the first pilot", lambda: first.last_event("train"), 120)
    table = sweep.bench("status")
    assert "RUNNING" in table and "PENDING (Dependency)" in table and "running" in table
    lame = tmp_path / "lame"
    lame.mkdir()
    (lame / "sacct").write_text("#!/bin/sh\nexit 1\n")
    (lame / "sacct").chmod(0o755)
    assert "running" in sweep.bench("status", PATH=f"{lame}:{sweep.cluster.environment['PATH']}")
    watched = sweep.start("status", sweep.suite, "--root", str(sweep.root), "--watch", "1")
    sweep.wait()
    out, err = watched.communicate(timeout=60)
    assert watched.returncode == 0 and "12 complete of 12 runs" in out, err


# A storm --------------------------------------------------------------------------------------------------------------


def server(folder, port):
    """A tracking server that answers; a busy machine takes minutes to start one."""
    quiet = os.environ | {"GIT_PYTHON_REFRESH": "quiet", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--workers", "1"], env=quiet, start_new_session=True, **streams)

    def answers():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait("the tracking server", answers, 300)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process


def test_a_storm_of_short_runs_and_a_server_that_is_killed_twice(sweep, tmp_path):
    """STORM real runs of a few steps; every history complete, no point twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pairs = (STORM - 3) // 3 + 1
    sweep.write("storm", budget=640, seeds={"paired": list(range(pairs)), "pilots": [100, 101, 102]})
    runs, uri = sweep.runs(), f"http://127.0.0.1:{port}"
    assert len(runs) >= STORM
    process, watcher = server(tmp_path, port), None
    try:
        sweep.submit("--time", "10")
        watcher = sweep.start("sync", sweep.suite, "--root", str(sweep.root), "--tracking", uri, "--watch", "2")
        for share in (0.3, 0.6):
            wait(
                "runs",
                lambda share=share: sum(folder.is_done() for folder in sweep.folders()) >= share * len(runs),
                900,
            )
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(5)
            process = server(tmp_path, port)
        sweep.wait(1800)
        assert everything_done(sweep), sweep.log()
        watcher.send_signal(signal.SIGTERM)
        out, err = watcher.communicate(timeout=300)
        assert watcher.returncode == 0, err
        check_histories(runs, sweep, uri)
    finally:
        if watcher:
            watcher.kill()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_histories(runs, sweep, uri):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    found = {
        run.data.tags["run"]: run
        for run in client.search_runs([experiment.experiment_id], max_results=5000)
        if "run" in run.data.tags
    }
    assert set(found) == {run.id for run in runs}
    for run in runs:
        events = [json.loads(line) for line in run.folder(sweep.root).events.read_text().splitlines()]
        assert found[run.id].info.status == "FINISHED"
        for name, kind in (("loss", "train"), ("frechet_small-conv", "eval")):
            stored = [point.step for point in client.get_metric_history(found[run.id].info.run_id, name)]
            assert stored == [event["images"] for event in events if event["event"] == kind], (run.id, name)


@pytest.mark.parametrize("seconds", [2])
def test_jobs_project_into_a_server_themselves(sweep, tmp_path, seconds):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sweep.write("inside")
    process = server(tmp_path, port)
    try:
        sweep.submit("--only", "role=pilot", "--tracking", f"http://127.0.0.1:{port}", "--time", "10")
        sweep.wait()
        check_histories([run for run in sweep.runs() if run.role == "pilot"], sweep, f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_run_on_two_processes(sweep, tmp_path):
    """DDP inside a job: the same run as two processes train it here."""
    sweep.write("pair", processes=2)
    said = sweep.submit("--only", "role=pilot,seed=100", "--dry-run")
    assert "#SBATCH --cpus-per-task=2" in said
    sweep.submit("--only", "role=pilot,seed=100", "--time", "10")
    sweep.wait()
    run = sweep.runs()[0]
    assert run.folder(sweep.root).is_done(), sweep.log()
    local = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "run",
            sweep.suite,
            "--root",
            str(tmp_path / "local"),
            "--data",
            str(sweep.data),
            "--only",
            "role=pilot,seed=100",
            "--sync-every",
            "0",
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert local.returncode == 0, local.stderr
    assert outcome(run, sweep.root) == outcome(run, tmp_path / "local")


def test_jobs_of_a_later_look_end_where_all_is_decided(cluster, sweep):
    """Each look is an array after the one before, and asks for verdicts before it trains."""
    keys = {"arms": ["none", "constant"], "seeds": {"paired": [*range(12)], "pilots": [100, 101, 102]}}
    sweep.write("looks", **keys, looks=[6, 12])
    cluster.ask("scontrol", "update", "partitionname=low", "state=down")
    said = sweep.submit("--runs-per-job", "3")
    for run in sweep.runs():  # what the first jobs would find done: their results are written here
        if not run.look:
            images = np.array(run.spec.evaluation.images) * (1.6 if run.label == "constant" else 1.0)
            factor = np.exp(0.05 * np.random.default_rng([run.spec.seed, len(run.label)]).standard_normal())
            synthetic.write_run(
                sweep.path, run.config, synthetic.events(run.config, 100 * run.spec.budget / images / factor)
            )
    cluster.ask("scontrol", "update", "partitionname=low", "state=up")
    assert [batch["kind"] for batch in sweep.batches()] == ["pilots", "look 1", "look 2", "report"], said
    sweep.wait()
    table = " ".join(sweep.bench("status").split())
    assert "12 not needed of" in table and "constant decided after 6" in table, table + sweep.log()
    assert (sweep.path / "report" / "index.html").is_file(), sweep.log()
    assert not [run.id for run in sweep.runs() if run.look and run.folder(sweep.root).events.is_file()]
