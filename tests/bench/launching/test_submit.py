"""Submitting to SLURM, against programs that answer like it: what a sweep of a thousand runs costs, and what a sick site does.

The real thing is in tests/slurm.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from bench.cli import parser as cli
from bench.launching import cluster_profile as cluster
from bench.planning import costs
from bench.launching import submit as launch
from bench.launching import slurm as scheduler
from bench.cli import status
from bench.planning import suite as suites
from bench.errors import BadInput
from bench.runs.event_log import encode
from bench.planning.plan import plan

ROOT = Path(__file__).parents[3]
LINES = [(page, line) for page in ("README.md", "docs/slurm.md") for line in (ROOT / page).read_text().splitlines()]
WRITTEN = [(page, words.partition(" #")[0]) for page, line in LINES for words in re.findall(r"-m bench submit (.*)", line)]
SWEPT = [(page, *words) for page, line in LINES for words in re.findall(r"make sweep SUITE=(\w+) FLAGS=\"([^\"]*)\"", line)]
ANSWERS = {
    "sinfo": 'echo "low*|20:00"; echo "high|1-00:00:00"',
    "scontrol": 'echo "MaxArraySize            = 1001"',
    "sbatch": 'n=$(cat "$0.count" 2>/dev/null || echo 7000); n=$((n + 1)); echo $n > "$0.count"; cp "$1" "$0.$n"; echo "Submitted batch job $n"',
    "squeue": 'cat "$0.said" 2>/dev/null; exit 0',
    "srun": 'while [ "$1" != sh ]; do shift; done; exec "$@"',
    "scancel": 'echo "$@" > "$0.asked"',
    "sacct": "exit 1",
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of programs, before everything else on the PATH."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, body in ANSWERS.items():
        answer(folder, name, body)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def answer(site, name, body):
    (site / name).write_text(f"#!/bin/sh\n{body}\n")
    (site / name).chmod(0o755)


@pytest.fixture
def submit(tmp_path, data, capsys):
    """submit SUITE with words; what it printed, its exit code checked."""
    def call(suite, *words, code=0, root=tmp_path / "runs"):
        got = cli.main(["submit", suite, "--cluster", "slurm", "--root", str(root), "--data", str(data), *words])
        out, err = capsys.readouterr()
        assert got == code, out + err
        assert code != 2 or (err.startswith("error: ") and err.count("\n") == 1), err
        return out + err
    return call


def queue(site, *lines):
    (site / "squeue.said").write_text("".join(f"{line}\n" for line in lines))


def wide(tiny, name="wide"):
    """1,000 runs: 3 pilots and 333 seeds, and one arm less than three."""
    path = tiny(name, seeds={"paired": list(range(332)), "pilots": [1000, 1001, 1002, 1003]})
    assert len(plan(suites.load(path))) == 1000
    return path


def test_every_submission_that_is_written_down_somewhere_is_accepted(site, submit):
    """By a site with a partition of that name; docs say SUITE where any will do, the longest included."""
    answer(site, "sinfo", 'echo "gpu|infinite"')
    assert {page for page, *_ in WRITTEN} == {"README.md", "docs/slurm.md"} == {page for page, *_ in SWEPT}
    lines = {words.replace("SUITE", "paper") for _, words in WRITTEN if "..." not in words}
    for line in sorted({*lines, *(f"{suite} --cluster slurm {flags}" for _, suite, flags in SWEPT)}):
        suite, *words = shlex.split(line)
        assert "330 of 330 runs to submit" in submit(suite, *[word for word in words if word not in ("--cluster", "slurm")], "--dry-run"), line
    assert not list(site.glob("sbatch.*"))


@pytest.mark.parametrize("suite", ["paper", "small", "stability-paper"])
def test_an_hour_reaches_a_checkpoint_of_every_published_suite(suite):
    """Twice over, since the GPU's speed is assumed."""
    launch._check_interval(plan(suites.load(suite)), 30, 90)


def test_a_time_that_a_start_and_a_warning_use_up(tiny, monkeypatch):
    """A job that never gets to its first checkpoint is not submitted."""
    run = plan(suites.load(tiny()))[0]
    for seconds, refused in ((89, True), (71, True), (69, False)):
        monkeypatch.setattr(costs, "of", lambda run, seconds=seconds: costs.Cost(1, 1, seconds * run.checkpoints))
        with pytest.raises(BadInput, match="--time: 2 minutes less 30 s of warning and 20 s of starting .* at least 3") if refused else nullcontext():
            launch._check_interval([run], 2, 30)


def test_a_cuda_suite_asks_for_gpus(tiny, site, submit):
    path = tiny(device="cuda")
    assert "--gpus-per-node: tiny trains on cuda" in submit(path, "--time", "10", code=2)
    for words in (("--gpus-per-node", "1"), ("--set", "gres=gpu:1"), ("--set", "exclusive=true"), ("--set", "additional_parameters={gpus: 1}")):
        assert "12 of 12 runs to submit" in submit(path, "--time", "10", "--dry-run", *words)


def test_local_workers_of_a_cuda_suite_have_gpus_of_their_own(tiny, tmp_path, data, monkeypatch):
    started = []
    monkeypatch.setattr(launch, "_start", lambda works, *_: started.extend(works) or [])
    words = ["--cluster", "local", "--root", str(tmp_path / "runs"), "--data", str(data), "--jobs", "2"]
    assert cli.main(["submit", tiny(device="cuda", processes=2), *words]) == 0
    assert cli.main(["submit", tiny("cores"), *words]) == 0
    assert [work.gpus for work in started] == ["0,1", "2,3", None, None]


def test_jobs_of_a_submission_that_was_killed_before_it_wrote_them_down(tiny, site, submit, tmp_path):
    """They are ended by the next submission, which submits their runs again, and by cancel; others of the name are not."""
    path, folder = tiny(), tmp_path / "runs" / "tiny"
    answer(site, "scancel", 'echo "$@" >> "$0.asked"')
    submit(path, "--time", "10")
    code, = (folder / "code").iterdir()
    answer(site, "squeue", f"""case "$*" in *%Z*) echo "7001|0|skipbench-tiny|{code}"; echo "7001|1|skipbench-tiny|{code}"
        echo "7002|N/A|skipbench-tiny|/elsewhere/tiny/code/x"; echo "7003|N/A|skipbench-tiny2|{code}";; esac""")
    (folder / "submitted.json").write_text("[]")
    submit(path, "--time", "10", "--dry-run")
    assert not (site / "scancel.asked").exists()
    said = submit(path, "--time", "10")
    assert "ended 2 jobs of a submission that was cut off" in said and "12 of 12 runs to submit" in said
    (folder / "submitted.json").unlink()
    assert launch.cancel("tiny", tmp_path / "runs", False) == 0
    assert (site / "scancel.asked").read_text() == "7001_0 7001_1\n" * 2


def test_a_thousand_runs_are_submitted_in_ten_seconds(tiny, site, submit):
    """Of the tool's own time; the processor's, so that a busy machine does not matter."""
    path, began = wide(tiny), time.process_time()
    said = submit(path, "--time", "10")
    took = time.process_time() - began
    assert "1000 of 1000 runs to submit, 1000 jobs in 2 arrays" in said
    assert took < 10, took
    scripts = sorted(site.glob("sbatch.7*"))
    arrays = [next((line for line in path.read_text().splitlines() if "--array" in line), "") for path in scripts]
    assert arrays == ["#SBATCH --array=0-3%4", "#SBATCH --array=0-995%256", ""]
    assert "--dependency=afterany:7001" in scripts[1].read_text() and "--dependency=afterany:7001:7002" in scripts[2].read_text()


def test_a_thousand_runs_are_shown_in_two_seconds(tiny, site, submit, tmp_path, capsys):
    """A third done, a third at work, a third waiting; without sacct."""
    path = wide(tiny)
    submit(path, "--time", "10")
    runs = plan(suites.load(path))
    for index, run in enumerate(runs[:666]):
        folder = run.folder(tmp_path / "runs")
        folder.mkdir(parents=True)
        events = [{"event": "start", "images": 0, "time": 1.0}]
        events += [{"event": "train", "images": 15 * k, "time": time.time(), "seconds": 1.0 * k, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0} for k in range(64)]
        events += [{"event": "eval", "images": 960, "time": time.time(), "seconds": 64.0, "fid": 5.0}]
        (folder / "events.jsonl").write_text("".join(encode(event) + "\n" for event in events))
        (folder / "lock").write_text("{}")
        if index < 333:
            (folder / "result.json").write_text(json.dumps({"status": "complete", "images": 960, "evaluations": [{"fid": 5.0}]}))
    queue(site, *(f"7002|{k}|PENDING|Dependency|skipbench-wide" for k in range(600, 996)))
    began = time.process_time()
    status.show(tmp_path / "runs", "wide")
    took = time.process_time() - began
    out = capsys.readouterr().out
    assert "333 complete, 334 missing, 333 running of 1000 runs" in out and out.count("PENDING (Dependency)") == 396
    assert took < 2, took


def test_what_is_in_the_queue_is_not_submitted_again(tiny, site, submit, tmp_path):
    path = tiny()
    assert "12 of 12 runs to submit" in submit(path, "--time", "10", "--runs-per-job", "3")
    queue(site, "7001|N/A|RUNNING|None|skipbench-tiny", *(f"7002|{k}|PENDING|Dependency|skipbench-tiny" for k in range(3)),
          "7003|N/A|PENDING|Dependency|skipbench-tiny", "7009|N/A|RUNNING|None|skipbench-tiny2")
    assert "0 of 12 runs to submit, 0 jobs in 0 arrays on slurm; 12 runs are in the queue already" in submit(path, "--time", "10")
    queue(site, "7001|N/A|RUNNING|None|skipbench-other", "7002|1|PENDING|Dependency|skipbench-tiny")  # 7001 was handed out again
    assert "9 of 12 runs to submit" in submit(path, "--time", "10", "--dry-run")
    answer(site, "squeue", "exit 1")
    assert "names 5 jobs on slurm, but squeue gives no answer" in submit(path, "--time", "10", code=2)
    with pytest.raises(BadInput, match="squeue gives no answer"):
        launch.cancel("tiny", tmp_path / "runs", False)
    assert not (site / "scancel.asked").exists()


def test_a_report_that_was_not_submitted_is_the_next_time(tiny, site, submit, tmp_path):
    path = tiny()
    answer(site, "sbatch", ANSWERS["sbatch"].replace("n=$((n + 1));", 'n=$((n + 1)); [ $n = 7003 ] && { echo "sbatch: error: too many" >&2; exit 1; };'))
    assert "sbatch refused the job: " in submit(path, "--time", "10", code=2)
    assert [batch["kind"] for batch in scheduler.submitted(tmp_path / "runs" / "tiny")] == ["pilots", "comparisons"]
    answer(site, "sbatch", ANSWERS["sbatch"])
    queue(site, *(f"7001|{k}|RUNNING|None|skipbench-tiny" for k in range(3)), *(f"7002|{k}|PENDING|Dependency|skipbench-tiny" for k in range(9)))
    said = submit(path, "--time", "10")
    assert "0 of 12 runs to submit" in said and "report: job" in said
    assert "afterany:7001:7002" in max(site.glob("sbatch.7*")).read_text()


def test_a_dry_run_prints_what_is_submitted_and_leaves_nothing(tiny, site, submit, tmp_path):
    path, words = tiny(), ("--time", "10", "--partition", "high", "--account", "lab", "--qos", "long", "--gpus-per-node", "2",
                           "--array-parallelism", "4", "--set", "constraint=a100", "--set", "mem_gb=3", "--set", "exclude=n[1-2]")
    dry = submit(path, *words, "--dry-run")
    assert not (tmp_path / "runs").exists() and not list(site.glob("sbatch.*"))
    submit(path, *words)
    lines = lambda text: [line.strip() for line in text.splitlines() if "#SBATCH" in line and "dependency" not in line]  # noqa: E731
    scripts = sorted(site.glob("sbatch.7*"))
    assert lines(dry) == lines(scripts[0].read_text()) + lines(scripts[1].read_text())
    for word in ("partition=high", "account=lab", "qos=long", "gpus-per-node=2", "constraint=a100", "mem=3GB", "array=0-8%4", "time=10"):
        assert f"#SBATCH --{word}" in dry, word


def test_a_failure_is_forgotten_when_its_run_is_submitted_and_not_before(tiny, site, submit, tmp_path):
    path = tiny()
    run = plan(suites.load(path))[0]
    (run.folder(tmp_path / "runs")).mkdir(parents=True)
    error = run.folder(tmp_path / "runs") / "error.json"
    error.write_text("{}")
    answer(site, "srun", "echo unseen; echo unseen")
    assert "is not shared" in submit(path, "--time", "10", "--retry", "failed", code=2)
    assert error.exists()
    answer(site, "srun", ANSWERS["srun"])
    answer(site, "sbatch", "echo sbatch: error: no >&2; exit 1")
    assert "sbatch refused the job" in submit(path, "--time", "10", "--retry", "failed", code=2)
    assert error.read_text() == "{}"
    answer(site, "sbatch", ANSWERS["sbatch"])
    assert "12 of 12 runs to submit" in submit(path, "--time", "10", "--retry", "failed")
    assert not error.exists()


@pytest.mark.parametrize("name", ["it's a \"root\"", "rüns, 1", "$HOME `x`;#", "-n"])
def test_a_root_and_a_suite_of_any_name(tiny, site, submit, tmp_path, name):
    """The nodes are asked about the folder of that very name, and the scripts bear it."""
    root = tmp_path / name
    said = submit(tiny(name), "--time", "10", root=root)
    assert "no node was free" not in said and "report: job" in said
    queue(site, f"7001|0|RUNNING|None|skipbench-{name}")
    assert list(scheduler.queued(root / name)) == ["7001_0"]


@pytest.mark.parametrize("name", ["100%j", "a\\b"])
def test_a_root_that_slurm_would_read_as_a_pattern(tiny, site, submit, tmp_path, name):
    assert "SLURM cannot write into a folder with" in submit(tiny(), "--time", "10", root=tmp_path / name, code=2)
    assert not list(site.glob("sbatch.*"))


def test_data_that_the_nodes_do_not_share(tiny, site, submit, data):
    answer(site, "srun", "echo seen; echo unseen")
    assert f"--data: {str(data)!r} is not shared" in submit(tiny(), "--time", "10", code=2)


# Profiles and --set ------------------------------------------------------------------------------------------------------


def settings(*words, profile="slurm"):
    options = argparse.Namespace(profile=profile, set=[word for word in words if "=" in word], **dict.fromkeys(cluster.OPTIONS))
    return cluster.parameters(cluster.profile(options), "n", 1)


@pytest.mark.parametrize(("word", "key", "value"), [
    ("timeout_min=7", "timeout_min", 7), ("time=7", "timeout_min", 7), ("partition=p", "slurm_partition", "p"),
    ("signal_delay_s=5", "slurm_signal_delay_s", 5), ("comment=5", "slurm_comment", "5"), ("comment=[", "slurm_comment", "["),
    ("comment=0123", "slurm_comment", "0123"), ("comment=1:30", "slurm_comment", "1:30"), ("comment=on", "slurm_comment", "on"),
    ("account=0123", "slurm_account", "0123"), ("constraint=1e3", "slurm_constraint", "1e3"),
    ("exclusive=true", "slurm_exclusive", True), ("nodes=1", "nodes", 1), ("setup=[module load x]", "slurm_setup", ["module load x"]),
    ("additional_parameters={reservation: r}", "slurm_additional_parameters", {"requeue": True, "reservation": "r"}),
])
def test_set_gives_any_parameter_of_submitit(word, key, value):
    assert settings(word)[key] == value


@pytest.mark.parametrize(("word", "message"), [
    ("name=x", "'name' is what the sweep knows its jobs by"), ("job_name=x", "'job_name' is what"), ("dependency=afterok:1", "'dependency' is what"),
    ("additional_parameters={job-name: x}", "'job-name' is what"),
    ("batch=1", "'batch' is a key of the suite"), ("map_count=3", "'map_count' is unknown; choose from account"),
    ("mem_gb=lots", "mem_gb: 'lots'"), ("setup=hello", "setup: 'hello'"), ("signal_delay_s=x", "signal_delay: 'x'"), ("nodes=two", "nodes: 'two'"),
    ("signal_delay_s=0", "signal_delay: 0"), ("nodes=2", "nodes: 2: a run lives on one node"), ("tasks_per_node=2", "tasks_per_node: 2: a run"),
    ("ntasks_per_node=2", "ntasks_per_node: 2: a run"), ("additional_parameters={ntasks: 2}", "ntasks: 2: a run"),
    ("additional_parameters=3", "additional_parameters: 3"),
])
def test_set_refuses_the_rest_in_one_line(word, message):
    with pytest.raises(BadInput, match="^--set: ") as caught:
        settings(word)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["set: hello\n", "set: [a]\n", "set: {1: 2}\n", "setup: null\n", "time: 0\n"])
def test_a_wrong_profile_is_one_line(tmp_path, text):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(BadInput, match="site.yaml: ") as caught:
        settings(profile=str(tmp_path / "site.yaml"))
    assert "\n" not in str(caught.value)


def test_options_go_before_a_profile_and_its_settings(tmp_path):
    (tmp_path / "site.yaml").write_text("time: 5\nset: {timeout_min: 6, comment: x}\n")
    options = argparse.Namespace(profile=str(tmp_path / "site.yaml"), set=None, **dict.fromkeys(cluster.OPTIONS) | {"time": 8})
    assert cluster.parameters(cluster.profile(options), "n", 1)["timeout_min"] == 8
    assert settings(profile=str(tmp_path / "site.yaml"))["timeout_min"] == 6


@pytest.mark.parametrize(("name", "minutes", "message"), [
    ("nowhere", 1, "--partition: 'nowhere' is unknown; choose from high, low"), ("low,nowhere", 1, "'nowhere' is unknown"),
    (None, 21, "more than the 20 that partition low allows"), ("low", 21, "more than the 20"), ("low,high", 1441, "more than the 1440"),
    ("low,high", 1440, None),
])
def test_partitions_and_their_limits(site, name, minutes, message):
    if message is None:
        scheduler.check_partition(name, minutes)
        return
    with pytest.raises(BadInput, match=message):
        scheduler.check_partition(name, minutes)


def test_a_job_starts_from_its_snapshot_with_its_warnings_held_back(tiny, site, submit, tmp_path):
    submit(tiny(), "--time", "10")
    script = (site / "sbatch.7001").read_text()
    assert f"{sys.executable} -S bench/launching/hold.py {sys.executable} -u -m submitit.core._submit" in script
    code, = (tmp_path / "runs" / "tiny" / "code").iterdir()
    assert (code / "bench" / "launching" / "hold.py").is_file()
    done = subprocess.run([sys.executable, "-S", "bench/launching/hold.py", sys.executable, "-c", "import os; print(os.getcwd())"], cwd=code,
                          capture_output=True, text=True)
    assert done.stdout.strip() == str(code), done.stderr
