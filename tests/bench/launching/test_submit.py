"""Submitting to SLURM, against programs that answer like it.

What a sweep of a thousand runs costs, and what a sick site does. The real thing is in tests/slurm.
"""

import argparse
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit

from bench.cli import parser as cli
from bench.cli import status
from bench.errors import BadInput
from bench.launching import cluster_profile, slurm, submit
from bench.launching.job import BLOCKED
from bench.launching.sweep_folder import SweepFolder
from bench.planning import suite_file
from bench.planning.plan import plan
from reports.records.event_log import encode
from reports.records.reading import summarize

ROOT = Path(__file__).parents[3]
LINES = [(page, line) for page in ("README.md", "docs/slurm.md") for line in (ROOT / page).read_text().splitlines()]
WRITTEN = [
    (page, words.partition(" #")[0]) for page, line in LINES for words in re.findall(r"-m bench submit (.*)", line)
]
SWEPT = [
    (page, *words) for page, line in LINES for words in re.findall(r"make sweep SUITE=(\w+) FLAGS=\"([^\"]*)\"", line)
]
ANSWERS = {
    "sinfo": 'echo "skipbench|low up to 20:00"; echo "skipbench|high up to 1-00:00:00"',
    "scontrol": 'echo "MaxArraySize            = 1001"',
    "sbatch": """[ "$1" = --test-only ] && exit
n=$(cat "$0.count" 2>/dev/null || echo 7000); n=$((n + 1));
echo $n > "$0.count"; cp "$1" "$0.$n"; echo "Submitted batch job $n"
""",
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
def submitted(tmp_path, data, capsys):
    """submitted(SUITE) with words; what it printed, its exit code checked."""

    def call(suite, *words, code=0, root=tmp_path / "runs"):
        got = cli.main(["submit", suite, "--cluster", "slurm", "--root", str(root), "--data", str(data), *words])
        out, err = capsys.readouterr()
        assert got == code, out + err
        assert code != 2 or (err.startswith("error: ") and err.count("\n") == 1), err
        return out + err

    return call


def queue(site, *lines):
    (site / "squeue.said").write_text("".join(f"{line}\n" for line in lines))


def job(array, element, told, folder, kind, comment=""):
    """A line of squeue of a job in a batch of that kind, the last one."""
    mark = [batch["batch"] for batch in SweepFolder(folder.parent, folder.name).batches() if batch["kind"] == kind][-1]
    return f"skipbench|{array}|{element}|{told}|{mark}{comment}|skipbench-{folder.name}"


def wide(tiny, name="wide"):
    """1,000 runs: 3 pilots and 333 seeds, and one arm less than three."""
    path = tiny(name, seeds={"paired": list(range(332)), "pilots": [1000, 1001, 1002, 1003]})
    assert len(plan(suite_file.load(path))) == 1000
    return path


def test_every_submission_that_is_written_down_somewhere_is_accepted(site, submitted):
    """By a site with a partition of that name; docs say SUITE where any will do, the longest included."""
    answer(site, "sinfo", 'echo "gpu|infinite"')
    assert {page for page, *_ in WRITTEN} == {"README.md", "docs/slurm.md"} == {page for page, *_ in SWEPT}
    lines = {words.replace("SUITE", "paper") for _, words in WRITTEN if "..." not in words}
    for line in sorted({*lines, *(f"{suite} --cluster slurm {flags}" for _, suite, flags in SWEPT)}):
        suite, *words = shlex.split(line)
        said = submitted(suite, *[word for word in words if word not in ("--cluster", "slurm")], "--dry-run")
        runs = len(plan(suite_file.load(suite)))
        assert f"{runs} of {runs} runs to submit" in said, line
    assert not list(site.glob("sbatch.*"))


def test_a_cuda_suite_asks_for_gpus(tiny, site, submitted):
    path = tiny(device="cuda")
    assert "--gpus-per-node: tiny trains on cuda" in submitted(path, "--time", "10", code=2)
    for words in (
        ("--gpus-per-node", "1"),
        ("--set", "gres=gpu:1"),
        ("--set", "exclusive=true"),
        ("--set", "additional_parameters={gpus: 1}"),
    ):
        assert "12 of 12 runs to submit" in submitted(path, "--time", "10", "--dry-run", *words)


@pytest.mark.parametrize(
    ("keys", "words", "cores"),
    [
        ({"threads": 3}, (), 3),
        ({"threads": 2, "processes": 2}, (), 4),
        ({"device": "cuda"}, (), 3),
        ({"device": "cuda", "processes": 4}, (), 12),
        ({"cells": [{"dataset": "digits", "backbone": "uvit-xs", "processes": 2, "threads": 4}]}, (), 8),
        ({"device": "cuda", "processes": 4}, ("--set", "cpus_per_task=5"), 5),
    ],
)
def test_a_job_asks_for_the_cores_that_compute_and_that_read(tiny, site, submitted, keys, words, cores):
    said = submitted(tiny(**keys), "--dry-run", "--gpus-per-node", "4", *words)
    assert re.findall("cpus-per-task=(.*)", said) == [str(cores)] * 2


def test_nodes_share_the_processes_of_a_run(tiny, site, submitted):
    path, words = tiny(device="cuda", processes=4), ("--nodes", "2", "--gpus-per-node")
    submitted(path, *words, "2")
    pilots, report = (site / "sbatch.7001").read_text(), (site / "sbatch.7003").read_text()
    for word in (
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=6",
        "--kill-on-bad-exit=1",
    ):
        assert word in pilots, word
    assert "#SBATCH --nodes=1" in report
    few = "--gpus-per-node: 1 on each of 2 nodes are less than one for each of a run's 4 processes; give 2"
    assert few in submitted(path, *words, "1", code=2)
    told = "--nodes: 3 nodes cannot share the processes of a run, of which tiny has 4; choose a divisor"
    assert told in submitted(path, "--nodes", "3", "--gpus-per-node", "2", code=2)
    assert "--nodes: 2 nodes cannot share" in submitted(tiny("one"), "--nodes", "2", code=2)
    assert "--nodes: for --cluster slurm alone" in submitted(path, "--nodes", "2", "--cluster", "local", code=2)


def test_local_jobs_of_a_cuda_suite_have_gpus_of_their_own(tiny, tmp_path, data, monkeypatch):
    started = []

    class Executor(submitit.AutoExecutor):
        def submit_array(self, works):
            started.extend(works)
            return super().submit_array([print] * len(works))

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    words = ["--cluster", "local", "--root", str(tmp_path / "runs"), "--data", str(data), "--jobs", "2"]
    assert cli.main(["submit", tiny(device="cuda", processes=2), *words]) == 0
    assert cli.main(["submit", tiny("cores"), *words]) == 0
    assert [work.devices for work in started] == ["0,1", "2,3", None, None]


def test_jobs_of_a_submission_that_was_killed_before_it_knew_their_id(tiny, site, submitted, tmp_path):
    """The queue knows them by their mark: they are neither submitted again nor lost for cancel; others are not ours."""
    path, folder = tiny(), tmp_path / "runs" / "tiny"
    submitted(path, "--time", "10", "--set", "comment=of my group")
    batches = SweepFolder(tmp_path / "runs", "tiny").batches()
    pilots = batches[0] | {"job": None}
    (folder / "submitted.json").write_text(json.dumps([pilots]))  # killed between sbatch and its record
    assert f"{pilots['batch']} of my group" in (site / "sbatch.7001").read_text()
    strange = [
        "7001|4|RUNNING|None|of my group|skipbench-tiny",
        "skipbench|7002|0|RUNNING|None|000000000000|skipbench-tiny",
        "skipbench|7003|0|RUNNING|None||skipbench-tiny2",
        "Welcome to the cluster!",
    ]
    ours = [job(7001, k, "RUNNING|None", folder, "pilots", " of my group") for k in range(3)]
    queue(site, *strange, *ours)
    assert "9 of 12 runs to submit, 9 jobs in 1 arrays on slurm; 3 runs are in the queue already" in submitted(
        path, "--time", "10"
    )
    assert "--dependency=afterany:7001" in (site / "sbatch.7004").read_text()
    queue(site, *strange, *ours)
    assert submit.cancel("tiny", tmp_path / "runs", False) == 0
    assert (site / "scancel.asked").read_text() == "7001_0 7001_1 7001_2\n"


def test_each_look_is_an_array_that_waits_for_those_before(tiny, site, submitted, tmp_path):
    path = tiny(seeds={"paired": list(range(12)), "pilots": [100, 101, 102]}, looks=[6, 12])
    said = submitted(path, "--time", "10", "--dry-run")
    assert "look 1: 18 jobs, 18 runs; after pilots" in said and "look 2: 12 jobs, 12 runs; after look 1" in said
    submitted(path, "--time", "10")
    batches = SweepFolder(tmp_path / "runs", "tiny").batches()
    assert [batch["kind"] for batch in batches] == ["pilots", "look 1", "look 2", "report"]
    after = [re.findall("--dependency=(.*)", (site / f"sbatch.{7001 + k}").read_text()) for k in range(4)]
    assert after == [[], ["afterany:7001"], ["afterany:7001:7002"], ["afterany:7001:7002:7003"]]


def test_a_thousand_runs_are_submitted_in_ten_seconds(tiny, site, submitted):
    """Of the tool's own time; the processor's, so that a busy machine does not matter."""
    path, began = wide(tiny), time.process_time()
    said = submitted(path, "--time", "10")
    took = time.process_time() - began
    assert "1000 of 1000 runs to submit, 1000 jobs in 2 arrays" in said
    assert took < 10, took
    scripts = sorted(site.glob("sbatch.7*"))
    arrays = [next((line for line in path.read_text().splitlines() if "--array" in line), "") for path in scripts]
    assert arrays == ["#SBATCH --array=0-3%4", "#SBATCH --array=0-995%256", ""]
    assert (
        "--dependency=afterany:7001" in scripts[1].read_text()
        and "--dependency=afterany:7001:7002" in scripts[2].read_text()
    )


def test_a_thousand_runs_are_shown_in_two_seconds(tiny, site, submitted, tmp_path, capsys):
    """A third done, a third at work, a third waiting; without sacct."""
    path = wide(tiny)
    submitted(path, "--time", "10")
    runs = plan(suite_file.load(path))
    train = {"event": "train", "seconds": 1.0, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0}
    with runs[0].folder(tmp_path / "held").lease() as lease:
        held = lease.path.read_bytes()
    for index, run in enumerate(runs[:666]):
        folder = run.folder(tmp_path / "runs")
        folder.path.mkdir(parents=True)
        events = [{"event": "start", "images": 0, "time": 1.0}]
        events += [train | {"images": 15 * k, "time": time.time()} for k in range(64)]
        events += [{"event": "eval", "images": 960, "time": time.time(), "seconds": 64.0, "fid": 5.0}]
        folder.events.write_text("".join(encode(event) + "\n" for event in events))
        if index < 333:
            events += [{"event": "end", "images": 960, "status": "complete"}]
            folder.result.write_text(json.dumps(summarize(run.config, events)))
        else:
            folder.lock.write_bytes(held)
    folder = tmp_path / "runs" / "wide"
    queue(site, *(job(7002, k, "PENDING|Dependency", folder, "comparisons") for k in range(600, 996)))
    began = time.process_time()
    status.show(tmp_path / "runs", "wide")
    took = time.process_time() - began
    out = capsys.readouterr().out
    assert "333 complete, 334 missing, 333 running of 1000 runs" in out and out.count("PENDING (Dependency)") == 396
    assert took < 2, took


def test_an_arm_of_ones_own_is_submitted_beside_the_suite(tiny, site, submitted, tmp_path, capsys):
    """The jobs find it in their copy of the suite, whose own listing stays; the next call adds to it."""
    path, folder, arms = tiny(), tmp_path / "runs" / "tiny", ["none", "learnable(r=4)", "constant(kappa=0.7)"]
    assert cli.main(["plan", path, "--arm", arms[2], "--root", str(tmp_path / "runs")]) == 0
    assert "\n15 runs, " in capsys.readouterr().out
    assert "15 of 15 runs to submit" in submitted(path, "--time", "10", "--arm", arms[2])
    copies = list(folder.glob("code/*/bench/suites/tiny.yaml"))
    assert [suite_file.load(str(copy)).arms for copy in copies] == [arms]
    listed = [json.loads((folder / name).read_text())["arms"] for name in ("suite.json", "arms.json")]
    assert listed == [arms[:2], arms]
    assert "18 of 18 runs to submit" in submitted(path, "--time", "10", "--arm", "inv_sqrt2", "--dry-run")


def test_what_is_in_the_queue_is_not_submitted_again(tiny, site, submitted, tmp_path):
    path, folder = tiny(), tmp_path / "runs" / "tiny"
    assert "12 of 12 runs to submit" in submitted(path, "--time", "10", "--runs-per-job", "3")
    comparisons = [job(7002, k, "PENDING|Dependency", folder, "comparisons") for k in range(3)]
    pilots, report = (
        job(7001, "N/A", "RUNNING|None", folder, "pilots"),
        job(7003, "N/A", "PENDING|Dependency", folder, "report"),
    )
    queue(site, pilots, *comparisons, report, pilots.replace("7001", "7009") + "2")
    said = submitted(path, "--time", "10")
    assert "0 of 12 runs to submit, 0 jobs in 0 arrays on slurm; 12 runs are in the queue already" in said
    queue(site, pilots.replace("-tiny", "-other"), comparisons[1])
    assert "9 of 12 runs to submit" in submitted(path, "--time", "10", "--dry-run")
    answer(site, "squeue", "exit 1")
    assert "names 3 batches on slurm, but squeue gives no answer" in submitted(path, "--time", "10", code=2)
    with pytest.raises(BadInput, match="squeue gives no answer"):
        submit.cancel("tiny", tmp_path / "runs", False)
    assert not (site / "scancel.asked").exists()


def test_a_report_that_was_not_submitted_is_the_next_time(tiny, site, submitted, tmp_path):
    path, folder = tiny(), tmp_path / "runs" / "tiny"
    full = 'n=$((n + 1)); [ $n = 7003 ] && { echo "sbatch: error: too many" >&2; exit 1; };'
    answer(site, "sbatch", ANSWERS["sbatch"].replace("n=$((n + 1));", full))
    assert "sbatch refused the job: " in submitted(path, "--time", "10", code=2)
    assert [batch["kind"] for batch in SweepFolder(tmp_path / "runs", "tiny").batches()] == ["pilots", "comparisons"]
    answer(site, "sbatch", ANSWERS["sbatch"])
    queue(
        site,
        *(job(7001, k, "RUNNING|None", folder, "pilots") for k in range(3)),
        *(job(7002, k, "PENDING|Dependency", folder, "comparisons") for k in range(9)),
    )
    said = submitted(path, "--time", "10")
    assert "0 of 12 runs to submit" in said and "report: job" in said
    assert "afterany:7001:7002" in max(site.glob("sbatch.7*")).read_text()


def test_a_dry_run_prints_what_is_submitted_and_leaves_nothing(tiny, site, submitted, tmp_path):
    path, words = (
        tiny(),
        (
            "--time",
            "10",
            "--partition",
            "high",
            "--account",
            "lab",
            "--qos",
            "long",
            "--gpus-per-node",
            "2",
            "--array-parallelism",
            "4",
            "--set",
            "constraint=a100",
            "--set",
            "mem_gb=3",
            "--set",
            "exclude=n[1-2]",
        ),
    )
    dry = submitted(path, *words, "--dry-run")
    assert not (tmp_path / "runs").exists() and not list(site.glob("sbatch.*"))
    submitted(path, *words)

    def lines(text):
        found = [line.strip() for line in text.splitlines() if line.strip().startswith("#SBATCH")]
        return [line for line in found if not re.search("dependency|comment", line)]

    scripts = sorted(site.glob("sbatch.7*"))
    assert lines(dry) == lines(scripts[0].read_text()) + lines(scripts[1].read_text())
    for word in (
        "partition=high",
        "account=lab",
        "qos=long",
        "gpus-per-node=2",
        "constraint=a100",
        "mem=3GB",
        "array=0-8%4",
        "time=10",
    ):
        assert f"#SBATCH --{word}" in dry, word


def test_a_failure_is_forgotten_when_its_run_is_submitted_and_not_before(tiny, site, submitted, tmp_path):
    path = tiny()
    run = plan(suite_file.load(path))[0]
    error = run.folder(tmp_path / "runs").error
    error.parent.mkdir(parents=True)
    error.write_text("{}")
    answer(site, "srun", 'echo "skipbench|unseen"; echo "skipbench|unseen"')
    assert "is not shared" in submitted(path, "--time", "10", "--retry", "failed", code=2)
    assert error.exists()
    answer(site, "srun", ANSWERS["srun"])
    answer(site, "sbatch", '[ "$1" = --test-only ] || { echo sbatch: error: no >&2; exit 1; }')
    assert "sbatch refused the job" in submitted(path, "--time", "10", "--retry", "failed", code=2)
    assert error.read_text() == "{}"
    answer(site, "sbatch", ANSWERS["sbatch"])
    assert "12 of 12 runs to submit" in submitted(path, "--time", "10", "--retry", "failed")
    assert not error.exists()


@pytest.mark.parametrize("name", ['it\'s a "root"', "rüns, 1", "$HOME `x`;#", "-n"])
def test_a_root_and_a_suite_of_any_name(tiny, site, submitted, tmp_path, name):
    """The nodes are asked about the folder of that very name, and the scripts bear it."""
    root = tmp_path / name
    said = submitted(tiny(name), "--time", "10", root=root)
    assert "no node was free" not in said and "report: job" in said
    queue(site, job(7001, 0, "RUNNING|None", root / name, "pilots"))
    assert [found.id for found in slurm.queued(SweepFolder(root, name))] == ["7001_0"]


@pytest.mark.parametrize("name", ["100%j", "a\\b"])
def test_a_root_that_slurm_would_read_as_a_pattern(tiny, site, submitted, tmp_path, name):
    assert "SLURM cannot write into a folder with" in submitted(tiny(), "--time", "10", root=tmp_path / name, code=2)
    assert not list(site.glob("sbatch.*"))


def test_data_that_the_nodes_do_not_share(tiny, site, submitted, data):
    answer(site, "srun", 'echo "skipbench|seen"; echo "skipbench|unseen"')
    assert f"--data: {str(data)!r} is not shared" in submitted(tiny(), "--time", "10", code=2)


def test_data_that_may_only_be_read(tiny, site, submitted, data, monkeypatch):
    """What lies in the folder is looked for instead."""
    plain = slurm.tempfile.NamedTemporaryFile

    def refusing(dir, **more):
        if dir == data.resolve():
            raise OSError(errno.EROFS, "Read-only file system")
        return plain(dir=dir, **more)

    monkeypatch.setattr(slurm.tempfile, "NamedTemporaryFile", refusing)
    answer(site, "srun", 'echo "skipbench|seen"; echo "skipbench|seen"')
    assert "report: job" in submitted(tiny(), "--time", "10")


# Profiles and --set ------------------------------------------------------------------------------------------------------


def settings(*words, profile="slurm"):
    options = argparse.Namespace(
        profile=profile, set=[word for word in words if "=" in word], **dict.fromkeys(cluster_profile.OPTIONS)
    )
    return cluster_profile.parameters(cluster_profile.profile(options), "n", 1)


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("timeout_min=7", "timeout_min", 7),
        ("time=30:00", "timeout_min", 30),
        ("time=0:01", "timeout_min", 1),
        ("time=12:00:00", "timeout_min", 720),
        ("time=2-12", "timeout_min", 3600),
        ("time=1-00:30:01", "timeout_min", 1471),
        ("time=7", "timeout_min", 7),
        ("partition=p", "slurm_partition", "p"),
        ("signal_delay_s=5", "slurm_signal_delay_s", 5),
        ("comment=5", "slurm_comment", "5"),
        ("comment=[", "slurm_comment", "["),
        ("comment=0123", "slurm_comment", "0123"),
        ("comment=1:30", "slurm_comment", "1:30"),
        ("comment=on", "slurm_comment", "on"),
        ("account=0123", "slurm_account", "0123"),
        ("constraint=1e3", "slurm_constraint", "1e3"),
        ("exclusive=true", "slurm_exclusive", True),
        ("nodes=1", "nodes", 1),
        ("setup=[module load x]", "slurm_setup", ["module load x"]),
        (
            "additional_parameters={reservation: r}",
            "slurm_additional_parameters",
            {"requeue": True, "reservation": "r"},
        ),
    ],
)
def test_set_gives_any_parameter_of_submitit(word, key, value):
    assert settings(word)[key] == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("name=x", "'name' is what the sweep knows its jobs by"),
        ("job_name=x", "'job_name' is what"),
        ("dependency=afterok:1", "'dependency' is what"),
        ("additional_parameters={job-name: x}", "'job-name' is what"),
        ("batch=1", "'batch' is a key of the suite"),
        (
            "walltime=1",
            "'walltime' is unknown; choose from account, additional_parameters, array_parallelism, comment, c",
        ),
        ("map_count=3", "'map_count' is what the sweep knows its jobs by"),
        ("mem_gb=lots", "mem_gb: 'lots'"),
        ("time=2h", "time: '2h' is no time limit; give MINUTES, MM:SS, HH:MM:SS, D-HH"),
        ("time=0:00", "time: '0:00' is no time limit"),
        ("time=1-", "time: '1-' is no time limit"),
        ("cpus_per_task=0x10", "cpus_per_task: '0x10'"),
        ("setup=hello", "setup: 'hello'"),
        ("signal_delay_s=x", "signal_delay: 'x'"),
        ("nodes=two", "nodes: 'two'"),
        ("signal_delay_s=0", "signal_delay: '0'"),
        ("nodes=0", "nodes: '0'"),
        ("additional_parameters={nodes: 2}", "'nodes' is a key of its own; give --nodes 2"),
        ("tasks_per_node=2", "tasks_per_node: '2': a run"),
        ("ntasks_per_node=2", "ntasks_per_node: '2': a run"),
        ("additional_parameters={ntasks: 2}", "ntasks: '2': a run"),
        ("additional_parameters=3", "additional_parameters: '3'"),
    ],
)
def test_set_refuses_the_rest_in_one_line(word, message):
    with pytest.raises(BadInput, match=r"^--set: ") as caught:
        settings(word)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["set: hello\n", "set: [a]\n", "set: {1: [2]}\n", "setup: null\n", "time: 0\n"])
def test_a_wrong_profile_is_one_line(tmp_path, text):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"site.yaml: ") as caught:
        settings(profile=str(tmp_path / "site.yaml"))
    assert "\n" not in str(caught.value)


def test_a_profile_is_read_as_it_is_written(tmp_path):
    """No base 60 or 8, and a word that looks like a number or a truth value stays that word."""
    (tmp_path / "site.yaml").write_text(
        "time: 12:00:00\ncpus_per_task: 010\naccount: 0123\nqos: 1e3\nuse_srun: false\nsetup: [0500]\n"
        "set: {comment: yes, constraint: 1.10, gres: gpu:1, wckey: 2026-01-01, exclude: n1}\n"
        "additional_parameters: {licenses: 010, begin: 12:30, contiguous: true}\n"
    )
    found = settings(profile=str(tmp_path / "site.yaml"))
    wanted = {"account": "0123", "qos": "1e3", "use_srun": False, "setup": ["0500"], "comment": "yes", "gres": "gpu:1"}
    wanted |= {"constraint": "1.10", "wckey": "2026-01-01"}
    assert wanted.items() <= {key.removeprefix("slurm_"): value for key, value in found.items() if value != []}.items()
    assert (found["timeout_min"], found["cpus_per_task"]) == (720, 10)
    more = {"requeue": True, "licenses": "010", "begin": "12:30", "contiguous": True}
    assert found["slurm_additional_parameters"] == more


def test_a_time_is_said_back_in_words(tiny, site, submitted):
    for given, words, minutes in (("90", "1 hour 30 minutes", 90), ("1-00:30:00", "1 day 30 minutes", 1470)):
        for option in (["--time", given], ["--set", f"time={given}"]):
            said = submitted(tiny(), *option, "--dry-run")
            assert f"; time limit of a job: {words}\n" in said and f"#SBATCH --time={minutes}\n" in said
    assert "argument --time: 'soon' is no time limit; give MINUTES" in submitted(tiny(), "--time", "soon", code=2)


def test_what_a_user_exports_for_sbatch_reaches_it(tiny, site, submitted, monkeypatch):
    """But not over what the sweep, its profile or an option says, nor what its jobs would not start with."""
    answer(site, "sbatch", f'env | grep ^SBATCH_ | sort > "$0.env"; {ANSWERS["sbatch"]}')
    answer(site, "srun", f'echo "$@" > "$0.asked"; {ANSWERS["srun"]}')
    outer = {"ACCOUNT": "def-a", "PARTITION": "mars", "ERROR": "/x", "WAIT": "1", "CONSTRAINT": "a b", "TIMELIMIT": "9"}
    for key, value in outer.items():
        monkeypatch.setenv(f"SBATCH_{key}", value)
    said = submitted(tiny(), "--partition", "high")
    assert (site / "sbatch.env").read_text() == "SBATCH_ACCOUNT=def-a\nSBATCH_CONSTRAINT=a b\n"
    assert "--partition=high --account=def-a " in (site / "srun.asked").read_text()
    assert "SBATCH_ACCOUNT=def-a goes to sbatch\n" in said and "SBATCH_PARTITION=mars is not used: " in said
    assert "--gpus-per-node: cuda trains on cuda" in submitted(tiny("cuda", device="cuda"), code=2)
    monkeypatch.setenv("SBATCH_GPUS", "1")
    assert "12 of 12 runs to submit" in submitted(tiny("cuda", device="cuda"), "--dry-run")


def test_options_go_before_a_profile_and_its_settings(tmp_path):
    (tmp_path / "site.yaml").write_text("time: 5\nset: {timeout_min: 6, comment: x}\n")
    options = argparse.Namespace(
        profile=str(tmp_path / "site.yaml"), set=None, **dict.fromkeys(cluster_profile.OPTIONS) | {"time": 8}
    )
    assert cluster_profile.parameters(cluster_profile.profile(options), "n", 1)["timeout_min"] == 8
    assert settings(profile=str(tmp_path / "site.yaml"))["timeout_min"] == 6


def test_sbatch_says_what_it_would_refuse(tiny, site, submitted):
    """Its own words and the partitions, in one line, whatever a site's banners say beside them."""
    answer(site, "sinfo", 'echo "** down on Monday **"; ' + ANSWERS["sinfo"])
    answer(site, "sbatch", 'echo "$@" > "$0.asked"; echo "sbatch: error: no such partition" >&2; exit 1')
    said = submitted(tiny(), "--time", "30", "--partition", "mars", code=2)
    assert "error: --partition=mars --time=30: sbatch would refuse it: no such partition; partitions: " in said
    assert said.endswith("partitions: low up to 20:00, high up to 1-00:00:00\n")
    assert (site / "sbatch.asked").read_text().startswith("--test-only --partition=mars --time=30 ")
    assert "no such partition; --time is 1 hour (the default of profile 'slurm'); partit" in submitted(tiny(), code=2)
    answer(site, "sinfo", "exit 1")
    assert submitted(tiny(), "--time", "30", code=2).endswith("partitions: unknown\n")
    answer(site, "scontrol", "exit 1")
    said = submitted(tiny(), "--time", "30", "--dry-run", code=2)
    assert said == "error: --cluster: 'slurm': no SLURM controller answers sbatch here; run this on a login node\n"


@pytest.mark.parametrize(
    ("words", "limit", "message"),
    [
        (("--time", "21"), "20:00", "--time: 21 minutes is more than the 20 minutes that partition gpu allows"),
        ((), "20:00", "--time: 1 hour (the default of profile 'slurm') is more than the 20 minutes that partition gpu"),
        (
            ("--time", "1441", "--partition", "a,b"),
            "1-00:00:00",
            "1 day 1 minute is more than the 1 day that partition a,b allows",
        ),
        (("--time", "1440", "--partition", "a,b"), "1-00:00:00", None),
        (("--time", "100000"), "infinite", None),
    ],
)
def test_a_time_that_the_partition_does_not_allow(tiny, site, submitted, words, limit, message):
    """Of several partitions the longest counts."""
    answer(site, "sbatch", 'echo "sbatch: Job 7 to start at 2026-01-01T00:00:00 on nodes n1 in partition gpu" >&2')
    refusal = 'case "$*" in *-a*-p*) echo "sinfo: error: Conflicting options, -a and -p" >&2; exit 1;; esac'
    answer(site, "sinfo", f'{refusal}; echo "Welcome!"; echo "skipbench|1:00"; echo "skipbench|{limit}"')
    said = submitted(tiny(), *words, "--dry-run", code=2 if message else 0)
    assert (message or "12 of 12 runs to submit") in said


@pytest.mark.parametrize("banner", ["* seen by our guards | since 1999 *", "CLUSTER: alpha", "7001|x", "|||||||"])
def test_banners_of_a_site_disturb_nothing(tiny, site, submitted, tmp_path, banner, monkeypatch, capsys):
    """Nor do variables that hide jobs from squeue."""
    for name in ("srun", "scontrol", "squeue", "sinfo"):
        answer(site, name, f'echo "{banner}"; {ANSWERS[name]}')
    answer(site, "sacct", f'echo "{banner}"; echo "7001_0|COMPLETED"')
    answer(site, "squeue", f'echo "{banner}"; [ -n "$SQUEUE_STATES" ] || {ANSWERS["squeue"]}')
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    path, folder = tiny(), tmp_path / "runs" / "tiny"
    for _ in range(2):
        said = submitted(path, "--time", "10")
        assert "12 of 12 runs to submit" in said and "no node was free" not in said
    queue(site, job(7004, 0, "PENDING|Priority", folder, "pilots"))
    status.show(tmp_path / "runs", "tiny")
    assert "PENDING (Priority)" in capsys.readouterr().out
    assert submit.cancel("tiny", tmp_path / "runs", False) == 0
    assert (site / "scancel.asked").read_text() == "7004_0\n"


def test_an_answer_that_is_marked_as_ours_and_cannot_be_read_is_a_fault_of_ours(tiny, site, submitted, tmp_path):
    submitted(tiny(), "--time", "10")
    queue(site, "skipbench|7001|skipbench-tiny")
    with pytest.raises(ValueError, match="not enough values to unpack"):
        cli.main(["status", "tiny", "--root", str(tmp_path / "runs")])


def test_a_job_starts_from_its_snapshot_with_its_warnings_held_back(tiny, site, submitted, tmp_path):
    submitted(tiny(), "--time", "10")
    script = (site / "sbatch.7001").read_text()
    line = next(line for line in script.splitlines() if line.startswith("srun"))
    words = shlex.split(line)
    program = words[words.index("-S") - 1 :]
    assert program[:4] == [sys.executable, "-S", "-c", BLOCKED] and program[4:8] == [
        sys.executable,
        "-u",
        "-m",
        "submitit.core._submit",
    ]
    code = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    done = subprocess.run([*program[:5], "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{[signal.SIGUSR2, signal.SIGTERM]}\n", done.stderr
