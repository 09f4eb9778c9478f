"""The command line as a user meets it: real processes, exit codes, one line for what is wrong."""

import getpass
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from bench.cli import parser as cli
from bench.cli import verbs
from bench.planning.plan import plan
from bench.planning.suite_file import load
from reports.records import lease

ROOT = Path(__file__).parents[3]
HIDE, START = "import runpy, sys; sys.modules", "runpy.run_module('bench', run_name='__main__')"
VERBS = (
    "plan",
    "run",
    "submit",
    "status",
    "sync",
    "report",
    "check",
    "data",
    "perf",
    "import-weights",
    "sample",
    "export",
    "cancel",
    "ui",
)


def bench(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)], cwd=ROOT, capture_output=True, text=True, **options
    )


def refused(*words):
    """The one line with which the command line refuses these words."""
    done = bench(*words)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert verb in capsys.readouterr().out


def test_the_version_is_that_of_the_citation_file(capsys):
    assert cli.main(["--version"]) == 0
    version = capsys.readouterr().out.removeprefix("skipbench ").strip()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"version {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "VERB"),
        (["trian"], "invalid choice: 'trian'.*plan"),
        (["run"], "SUITE"),
        (["run", "quik"], "'quik' is neither"),
        (["run", "quick", "--workers", "0"], "'0' is not a whole number"),
        (["run", "quick", "--only", "arm=x"], "choose from"),
        (["plan", "quick", "--only", "method=nonne"], "names no run"),
        (["status", "quick", "--root", "/nonexistent"], "has no runs in"),
        (["report", "quick", "--root", "/nonexistent"], "has no runs in"),
        (["sync", "quick", "--root", "/nonexistent"], "has no runs"),
        (["check", "quick", "--root", "/nonexistent"], "has no runs in"),
        (["cancel", "quick", "--root", "/nonexistent"], "has no runs in"),
        (["data", "prepare"], "name of a dataset is missing"),
        (["data", "prepare", "mnist"], "'mnist' is unknown; choose from"),
        (
            ["data", "prepare", "cifar10", "--data", "/nonexistent"],
            "--source PATH, .*; or, to fetch it, with --download",
        ),
        (["data", "burn"], "invalid choice: 'burn'"),
        (["submit", "quick", "--cluster", "moon"], "invalid choice: 'moon'"),
        (["import-weights", "none.pt", "--preset", "uvit-xs"], "none.pt"),
        (["sample", "none-s0"], "'none-s0' is no run in runs; python -m bench status SUITE"),
        (["sample", "none-s0", "--seed", "-1"], "--seed"),
        (["export", "none-s0"], "'none-s0' is no run in runs"),
        (["perf", "--preset", "uvit-xxl"], "uvit-xxl.*choose from"),
        (["perf", "--recipe", "smoke", "--suite", "smoke"], "--suite and --recipe ask different things"),
        (["perf", "--seeds", "4"], "--seeds needs --recipe SUITE"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, message, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(message, said), said


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    """Only what the project itself says of its input is bad input; a library's ValueError is a bug."""
    monkeypatch.setattr(verbs, "plan", lambda o: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(["plan", "quick"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-S", "-m", "bench"], 2, r"\Askipbench: 'yaml' is not installed in this Python; call make setup and .*\n\Z"),
        (["-c", f"{HIDE}['bench.cli.verbs'] = None; {START}"], 1, r"(?s)\ATraceback.*bench\.cli\.verbs"),
        (["-c", f"{HIDE}['yaml.nodes'] = None; {START}"], 1, r"(?s)\ATraceback.*yaml\.nodes"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line_and_a_broken_one_a_traceback(words, code, said):
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code and re.search(said, done.stderr), done.stderr


REST = {
    "submit": ["smoke", "--cluster", "local"],
    "data": ["list"],
    "perf": ["--suite", "smoke"],
    "import-weights": ["weights.pt", "--preset", "uvit-xs"],
    "sample": ["run"],
    "export": ["run"],
    "ui": [],
}
WRITERS = ("run", "submit", "sync", "cancel")


def said_in_one_line(words, capsys):
    """The line with which the command line refuses these words, in this process."""
    assert cli.main(list(map(str, words))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: "), said
    return said


@pytest.mark.parametrize("option", ["--root", "--data"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_path_that_is_no_folder_is_refused_by_every_verb(verb, option, tmp_path, capsys):
    (tmp_path / "file").touch()
    for path in ("/dev/null/x", tmp_path / "file", tmp_path / "file" / "x"):
        said = said_in_one_line([verb, *REST.get(verb, ["smoke"]), option, path], capsys)
        assert option in said and str(path) in said and "is no folder" in said


@pytest.mark.parametrize(
    "words",
    [["report", "smoke", "--out", "/dev/null/x"]]
    + [["import-weights", "w.pt", "--preset", "uvit-xs", "--out", out] for out in ("/dev/null/x", "/tmp")],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(words, capsys):
    assert "--out" in said_in_one_line(words, capsys)


def test_a_read_only_root_is_refused_by_those_that_write_into_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    for verb in VERBS:
        if verb in WRITERS:
            said = said_in_one_line([verb, *REST.get(verb, ["smoke"]), "--root", tmp_path / "new"], capsys)
            assert f"{tmp_path} cannot be written to" in said
    assert "has no runs in" in said_in_one_line(["status", "smoke", "--root", tmp_path], capsys)


def test_a_report_of_a_sweep_that_may_only_be_read_says_where_else_it_could_go(tmp_path, capsys, monkeypatch):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "suite.json").write_text(json.dumps(SUITE_JSON))
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    said = said_in_one_line(["report", "s", "--root", tmp_path], capsys)
    assert said == f"error: --out: {tmp_path / 's' / 'report'} cannot be written to; give another folder\n"


def test_a_home_in_a_path_is_the_users(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"has no runs in {tmp_path / 'x'};" in said_in_one_line(["status", "smoke", "--root=~/x"], capsys)


def test_a_folder_that_takes_no_file_whatever_its_permissions_say_is_refused_as_well(capsys):
    for verb in WRITERS:
        said = said_in_one_line([verb, *REST.get(verb, ["smoke"]), "--root", "/proc/runs"], capsys)
        assert "'/proc/runs' cannot be used: /proc cannot be written to" in said


@pytest.mark.parametrize("length", [75, 76, 200])
def test_processes_start_whatever_the_length_of_tmpdir(length, tmp_path):
    """The name of a socket may have 107 bytes; other temporary files go where they were told to."""
    folder = tmp_path
    while len(str(folder)) < length - 100:
        folder = folder / ("x" * 99)
    folder = folder / ("y" * (length - len(str(folder)) - 1))
    folder.mkdir(parents=True)
    script = (
        "import sys, tempfile\nfrom bench.launching import process\nchild = process.begin(print, 'begun')\n"
        "child.join()\nsys.exit(child.exitcode or tempfile.gettempdir())"
    )
    told = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=told)
    assert (done.stdout, done.stderr) == ("begun\n", f"{folder}\n")


def test_a_user_without_a_home_and_a_name(monkeypatch, capsys, tmp_path):
    """As in `docker run -u 12345`: libraries ask for both."""
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    for key in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    assert cli.main(["data", "list", "--data", str(tmp_path)]) == 0
    assert str(Path.home()) == f"{tempfile.gettempdir()}/skipbench-{os.getuid()}" and Path.home().is_dir()
    assert getpass.getuser() == f"user-{os.getuid()}"


def test_an_ascii_locale_and_a_path_that_it_cannot_spell(tiny, tmp_path):
    """What is printed are the very bytes of the path."""
    folder = tmp_path / "Größe 100% #1? 数据"
    suite = shutil.copy(tiny(title="Größe"), tmp_path / "ü.yaml")
    told = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = bench("plan", suite, "--root", folder, env=told, encoding="utf-8")
    assert done.returncode == 0 and "12 runs" in done.stdout, done.stderr
    assert str(folder) in bench("check", folder / "weg", "--root", folder, env=told, encoding="utf-8").stderr


def test_make_takes_a_variable_as_one_word():
    given = {"SUITE": "it's mine.yaml", "ROOT": "two words 100% #1 ?", "DATA": "~/d & e"}
    words = ["make", "--dry-run", "--old-file=setup", "reproduce", "sweep", *(f"{k}={v}" for k, v in given.items())]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    where = ["--root", given["ROOT"], "--data", given["DATA"]]
    told = [shlex.split(line)[3:] for line in done.stdout.splitlines() if "bench" in line]
    assert told == [
        ["run", given["SUITE"], *where],
        *(["report", given["SUITE"], *where[:2]], ["sync", given["SUITE"], *where[:2]]),
        ["submit", given["SUITE"], "--cluster", "slurm", *where],
    ]


def test_what_the_system_refuses_of_a_given_path_is_one_line_and_of_another_a_fault_of_ours(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(verbs, "plan", lambda o: (o.root / "file" / "x").mkdir())
    (tmp_path / "file").touch()
    said = said_in_one_line(["plan", "quick", "--root", tmp_path], capsys)
    assert said == f"error: {tmp_path / 'file' / 'x'}: Not a directory\n"
    monkeypatch.setattr(verbs, "plan", lambda o: Path("/dev/null/x").mkdir())
    with pytest.raises(NotADirectoryError):
        cli.main(["plan", "quick", "--root", str(tmp_path)])
    monkeypatch.setattr(verbs, "plan", lambda o: (o.root / "missing").read_text())
    with pytest.raises(FileNotFoundError):
        cli.main(["plan", "quick", "--root", str(tmp_path)])


SUITE_JSON = {
    "protocol": 2, "suite": "s", "title": "s", "scale": "mini", "baseline": "none", "arms": ["none"],
    "seeds": {"paired": [0], "pilots": [100, 101, 102], "null": [10000]},
    "cells": [{"dataset": "digits", "backbone": "uvit-xs", "budget": 960, "evaluations": [960]}],
    "runs": [
        {"run": "r", "dataset": "digits", "backbone": "uvit-xs", "method": "none", "role": "paired", "seed": 0, "pair": 0}
    ],
}  # fmt: skip


@pytest.mark.parametrize("verb", ["status", "check", "report"])
@pytest.mark.parametrize(
    "result", ["{", "[1]", "{}", '{"status": 3}', '{"status": "finished"}', '{"status": "complete"}']
)
def test_a_broken_result_is_named_in_one_line(verb, result, tmp_path, capsys):
    (tmp_path / "s" / "r").mkdir(parents=True)
    (tmp_path / "s" / "suite.json").write_text(json.dumps(SUITE_JSON))
    (tmp_path / "s" / "r" / "result.json").write_text(result)
    assert str(tmp_path / "s" / "r" / "result.json") in said_in_one_line([verb, "s", "--root", tmp_path], capsys)


def test_a_suite_of_another_protocol_version_is_refused_in_the_same_line(tmp_path, capsys):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "suite.json").write_text(json.dumps(SUITE_JSON | {"protocol": 1}))
    said = {said_in_one_line([verb, "s", "--root", tmp_path], capsys) for verb in ("status", "check", "report")}
    assert len(said) == 1 and "protocol version 1, this reader knows 2: move the folder away" in said.pop()


@pytest.mark.parametrize("words", [["status", "s"], ["report", "s"], ["check", "s"], ["sync", "s", "--dry-run"]])
def test_readers_start_without_torch(words, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "suite.json").write_text(json.dumps(SUITE_JSON))
    script = (
        "import sys\nclass Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'timm', 'torchvision'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from bench.cli.parser import main\n"
        f"code = main({[*words, '--root', str(tmp_path)]!r})\n"
        "sys.exit(0 if code in (0, 1, 2) else 3)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_the_whole_way(tiny, tmp_path, data):
    """run, status, check, report, sync on a suite of twelve runs; then again, with nothing left to do."""
    where = ["--root", tmp_path / "runs", "--data", data]
    suite = tiny(budget=320)
    assert bench("run", suite, "--dry-run", *where).stdout.count("missing") == 12
    done = bench("run", suite, "--workers", 2, *where)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 runs done" in done.stdout and "images/s" in done.stdout
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert bench("status", "tiny", *where).stdout.count("complete") == 13
    assert bench("check", "tiny", *where).stdout.strip().endswith("passed; progress of 1 cell is not judged in a trial")
    one = next((tmp_path / "runs" / "tiny").glob("*-s0-*"))
    assert bench("check", one).stdout.strip() == "all checks passed"
    report = bench("report", suite, *where)
    assert report.returncode == 0 and (tmp_path / "runs" / "tiny" / "report" / "index.html").is_file(), report.stderr
    again = bench("run", suite, *where)
    assert again.returncode == 0 and "12 done, 0 to train" in again.stdout
    assert bench("sync", "tiny", *where).returncode == 0


def test_interrupted_and_started_again_it_goes_on(tiny, tmp_path, data):
    where = ["--root", tmp_path / "runs", "--data", data, "--sync-every", 0]
    suite = tiny(budget=3200, arms=["none"])
    command = [sys.executable, "-m", "bench", "run", suite, "--only", "role=pilot", *map(str, where)]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    until = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("tiny/*/checkpoints/*.pt")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and "goes on where it was" in process.stderr.read()
    assert not [p for p in (tmp_path / "runs").glob("tiny/*/lock") if lease.is_held(p)]
    assert bench("run", suite, "--only", "role=pilot", *where).returncode == 0
    logs = [p.read_text() for p in (tmp_path / "runs").glob("tiny/*/events.jsonl")]
    assert len(logs) == 3 and any('"event": "resume"' in log for log in logs)


def _alive(pid):
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_process_is_replaced_and_a_killed_run_leaves_no_orphans(tiny, tmp_path, data):
    where = ["--root", tmp_path / "runs", "--data", data, "--sync-every", 0, "--workers", 1]
    suite = tiny(budget=3200, arms=["none"])
    command = [sys.executable, "-m", "bench", "run", suite, "--only", "role=pilot", *map(str, where)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    victim = _owner(tmp_path)
    os.kill(victim, signal.SIGKILL)
    successor = _owner(tmp_path, victim)
    forked_from = _parent(successor)
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while any(map(_alive, (successor, forked_from))) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(map(_alive, (successor, forked_from)))
    assert bench("run", suite, "--only", "role=pilot", *where).returncode == 0


def test_a_killed_forkserver_is_replaced(tiny, tmp_path, data):
    """Its run, which nobody can collect any more, goes on; the others are started by another forkserver."""
    where = ["--root", tmp_path / "runs", "--data", data, "--sync-every", 0, "--workers", 1]
    suite = tiny(budget=3200, arms=["none"])
    command = [sys.executable, "-m", "bench", "run", suite, "--only", "role=pilot", *map(str, where)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    os.kill(_parent(_owner(tmp_path)), signal.SIGKILL)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "Traceback" not in err, err
    assert "3 complete" in bench("status", "tiny", *where[:2]).stdout


def test_a_method_that_raises_a_value_error_is_a_failed_run_and_the_suite_goes_on(tiny, tmp_path, data):
    """What a user's file says in a run is no bad input."""
    for name in ("models", "bench", "datasets", "reports"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tree" / "models" / "contrib" / "broken.py").write_text(
        'from models import Scaling, register\n\n\n@register("broken")\nclass Broken(Scaling):\n    """Breaks."""\n\n'
        '    def skip(self, s, where):\n        raise ValueError("no such\\nscale")\n'
    )
    suite = tiny(budget=320, arms=["none", "broken"])
    where = ["--root", str(tmp_path / "runs"), "--data", str(data)]
    command = [sys.executable, "-m", "bench", "run", suite, "--sync-every", "0", *where]
    done = subprocess.run(command, cwd=tmp_path / "tree", capture_output=True, text=True)
    assert done.returncode == 1 and "9 of 12 runs done" in done.stdout, done.stderr
    assert done.stderr.count("failed: ValueError: no such scale") == 3 and "Traceback" not in done.stderr
    errors = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "tiny").glob("*/error.json")]
    assert len(errors) == 3 and {error["error"] for error in errors} == {"ValueError: no such scale"}
    assert all("models/contrib/broken.py" in error["traceback"] for error in errors)
    assert "9 complete, 3 failed of 12 runs" in bench("status", "tiny", *where).stdout


def test_a_reader_that_has_seen_enough_is_no_killed_process(tiny, tmp_path, data):
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        tiny(budget=3200, arms=["none"]),
        "--root",
        tmp_path / "runs",
        "--data",
        data,
        "--sync-every",
        "0",
    ]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "to train" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == ""


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_processes_of_runs_begin_with_everything_imported():
    """A name that cannot be imported would only make each of them slower."""
    script = (
        "import multiprocessing\nfrom bench.launching import process\nprocess.warm_up()\n"
        "child = multiprocessing.get_context('forkserver').Process(target=exec, args=("
        "\"import sys; sys.exit('bench.training.trainer' not in sys.modules)\",))\n"
        "child.start(); child.join(); raise SystemExit(child.exitcode)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def _owner(tmp_path, other=None, suite="tiny"):
    """Process id of the living owner of a run, once it is another one than `other`."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in (tmp_path / "runs").glob(f"{suite}/*/lock"):
            pid = lease.process_id(path)
            if pid and pid != other and _alive(pid):
                return pid
        time.sleep(0.1)
    raise AssertionError("no process took a run")


def test_a_folder_of_another_configuration_is_refused_before_anything_starts(tiny, tmp_path, data):
    suite = tiny(budget=320)
    folder = plan(load(suite))[0].folder(tmp_path / "runs").path
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"hash": "feedfacefeedface"}')
    said = refused("run", suite, "--root", tmp_path / "runs", "--data", data)
    assert "belongs to another configuration (feedfacefeed" in said
    assert [p.name for p in folder.iterdir()] == ["config.json"]


def test_submit_local_and_cancel(tiny, tmp_path, data):
    where = ["--root", tmp_path / "runs", "--data", data]
    suite = tiny(budget=320, arms=["none"], seeds={"paired": [0], "pilots": [100, 101, 102]})
    assert "5 of 5 runs missing" in bench("submit", suite, "--cluster", "local", "--dry-run", *where).stdout
    assert not (tmp_path / "runs").exists()
    said = bench("submit", suite, "--cluster", "local", "--jobs", 2, *where).stdout
    assert said.splitlines()[-1].startswith("then: python -m bench report ")
    until = time.monotonic() + 120
    while "5 complete" not in bench("status", "tiny", *where).stdout and time.monotonic() < until:
        time.sleep(1)
    assert "5 complete" in bench("status", "tiny", *where).stdout
    long = tiny("long", budget=96000, arms=["none"])
    assert bench("submit", long, "--cluster", "local", "--jobs", 1, *where).returncode == 0
    owner = _owner(tmp_path, suite="long")
    assert "1 jobs would be ended" in bench("cancel", "long", "--dry-run", *where).stdout and _alive(owner)
    assert "1 jobs ended" in bench("cancel", "long", *where).stdout
    until = time.monotonic() + 10
    while _alive(owner) and time.monotonic() < until:
        time.sleep(0.2)
    assert not _alive(owner)


def test_data_prepare_list_verify(tmp_path):
    assert "not prepared" in bench("data", "list", "--data", tmp_path).stdout
    assert "would prepare" in bench("data", "prepare", "digits", "--dry-run", "--data", tmp_path).stdout and not list(
        tmp_path.iterdir()
    )
    assert "1,797 images 1x8x8" in bench("data", "prepare", "digits", "--data", tmp_path).stdout
    assert bench("data", "verify", "--data", tmp_path).returncode == 0
    images = tmp_path / "digits" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"\x07")
    done = bench("data", "verify", "digits", "--data", tmp_path)
    assert done.returncode == 1 and "sha256 differs" in done.stdout


def test_plan_counts_and_starts_nothing(tmp_path):
    done = bench("plan", "smoke", "--root", tmp_path)
    assert (
        done.returncode == 0 and "24 runs, " in done.stdout and "MFLOPs" in done.stdout and not list(tmp_path.iterdir())
    )


def test_plan_of_a_suite_with_looks_says_the_least_and_the_most(tiny, tmp_path, capsys):
    path = tiny(seeds={"paired": list(range(12)), "pilots": [100, 101, 102]}, looks=[6, 12])
    assert cli.main(["plan", path, "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "looks after 6, 12 pairs" in said
    assert "least: 21 runs, 20,160 training images" in said and "most: 33 runs, 31,680 training images" in said
