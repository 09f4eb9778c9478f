"""What is wrong is said in one line before anything is submitted."""

import os
import shutil
import subprocess
import sys

import pytest
from sweep import HERE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--partition", "nowhere"),
            "--partition=nowhere --time=10: sbatch would refuse it: invalid partition specified: nowhere",
        ),
        (("--partition", "nowhere"), "; partitions: low up to 20:00, high up to 20:00"),
        (
            ("--partition", "low", "--time", "30"),
            "--time: 30 minutes is more than the 20 minutes that partition low allows",
        ),
        (("--time", "21"), "--time: 21 minutes is more than the 20 minutes that partition low allows"),
        (("--set", "budget=1"), "--set: 'budget' is a key of the suite"),
        (("--set", "walltime=1"), "--set: 'walltime' is unknown; choose from account, "),
        (("--set", "nodes=two"), "--set: "),
        (("--set", "oops"), "--set: 'oops' is not KEY=VALUE"),
        (("--profile", "mars"), "--profile: 'mars' is neither a file nor a profile; choose from slurm"),
        (("--tracking", "sqlite:///x.db"), "--tracking: 'sqlite:///x.db': jobs open no database"),
    ],
)
def test_wrong_options(sweep, words, message):
    sweep.write("wrong", budget=96000, checkpoints=1)
    assert message in sweep.submit(*words, code=2)
    assert not sweep.batches() and not sweep.cluster.ask("squeue", "-h").strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: low\n", "key: 'partitoin' is unknown; choose from partition, account"),
        ("time: soon\n", "time: 'soon'"),
        ("- a\n", "the file and its key `set` are tables of keys"),
        ("a: [\n", "not YAML"),
    ],
)
def test_wrong_profiles(sweep, tmp_path, text, message):
    sweep.write("wrong")
    (tmp_path / "site.yaml").write_text(text)
    assert message in sweep.submit("--profile", str(tmp_path / "site.yaml"), code=2)
    assert not sweep.batches()


def test_a_profile_of_a_site(sweep, tmp_path):
    sweep.write("site")
    (tmp_path / "mine.yaml").write_text("partition: high\ntime: 7\nruns_per_job: 4\nset: {comment: hello}\n")
    said = sweep.submit("--profile", str(tmp_path / "mine.yaml"), "--time", "8", "--dry-run")
    assert "#SBATCH --partition=high" in said and "#SBATCH --time=8" in said
    assert "#SBATCH --comment=hello" in said
    assert "4 jobs in 2 arrays" in said


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root, to hide a folder from the nodes"
)
def test_a_folder_that_the_nodes_do_not_share(sweep):
    sweep.write("alone")
    sweep.root.mkdir()
    command = (
        f"mount -t tmpfs tmpfs {sweep.root} && exec {sys.executable} -m bench submit {sweep.suite} --cluster slurm "
        f"--root {sweep.root} --data {sweep.data} --time 10"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], cwd=HERE, env=sweep.cluster.environment, capture_output=True, text=True
    )
    if "mount" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 2 and "is not shared" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not sweep.cluster.ask("squeue", "-h").strip()


def test_no_sbatch_on_this_machine(sweep, tmp_path):
    sweep.write("bare")
    (tmp_path / "empty").mkdir()
    assert "needs sbatch, which is not on this machine" in sweep.submit(code=2, PATH=str(tmp_path / "empty"))
    assert not sweep.root.exists() or not sweep.batches()
