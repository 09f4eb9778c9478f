"""Workers: pilots first, frozen targets, failures told, nothing twice."""

import json
import subprocess
import threading
from collections import Counter

import pytest

from bench.runs import protocol
from bench.planning import suite as suites
from bench.launching import worker
from bench.errors import BadInput
from bench.planning.plan import plan, publish, select
from bench.runs.record import state
from bench.training.trainer import Trainer


def test_work_trains_everything_and_freezes_the_targets_between(tiny, tmp_path, data, monkeypatch):
    order = []
    start = Trainer.start
    monkeypatch.setattr(Trainer, "start", lambda self, *told: (
        order.append((self.run.role, (tmp_path / "tiny" / "protocol.json").exists())), start(self, *told))[1])
    path = tiny(budget=320)
    assert worker.work(path, tmp_path, data) == 0
    assert Counter(order) == {("pilot", False): 3, ("paired", True): 6, ("null", True): 3}
    before = (tmp_path / "tiny" / "protocol.json").read_bytes()
    assert worker.work(path, tmp_path, data) == 0  # nothing is left
    assert len(order) == 12 and (tmp_path / "tiny" / "protocol.json").read_bytes() == before


def test_only_brings_its_pilots_with_it(tiny):
    runs = plan(suites.load(tiny()))
    assert Counter(run.role for run in worker.needed(runs, select(runs, "method=none,seed=0"))) == {"pilot": 3, "paired": 1}
    assert Counter(run.role for run in worker.needed(runs, select(runs, "role=pilot,seed=100"))) == {"pilot": 1}


def test_a_failure_is_recorded_and_the_suite_goes_on(tiny, tmp_path, data, monkeypatch, capsys):
    path = tiny(budget=320)
    runs = plan(suites.load(path))
    victim = next(run for run in runs if run.role == "paired")
    step = Trainer.step

    def failing(self):
        if self.run.id == victim.id and self.images >= 160:
            raise OSError(28, "No space left on device")
        return step(self)

    monkeypatch.setattr(Trainer, "step", failing)
    assert worker.work(path, tmp_path, data) == 1
    assert Counter(state(run.folder(tmp_path)) for run in runs) == {"done": 11, "failed": 1}
    error = json.loads((victim.folder(tmp_path) / "error.json").read_text())
    assert "No space left" in error["error"] and "Traceback" in error["traceback"]
    assert f"{victim.id}: failed: OSError" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "step", step)
    worker.forget_failures(runs, tmp_path)
    assert worker.work(path, tmp_path, data) == 0


def test_without_its_pilots_no_comparison_starts(tiny, tmp_path, data, monkeypatch):
    path = tiny(budget=320)
    step = Trainer.step

    def failing(self):
        if self.run.role == "pilot":
            raise RuntimeError("broken")
        return step(self)

    monkeypatch.setattr(Trainer, "step", failing)
    assert worker.work(path, tmp_path, data) == 1
    states = Counter((run.role, state(run.folder(tmp_path))) for run in plan(suites.load(path)))
    assert states == {("pilot", "failed"): 3, ("paired", "absent"): 6, ("null", "absent"): 3}


def test_targets_of_other_pilots_are_refused(tiny, tmp_path, data):
    path = tiny(budget=320)
    worker.work(path, tmp_path, data, only="role=pilot")
    assert protocol.frozen(plan(suites.load(path)), tmp_path)
    changed = plan(suites.load(tiny(budget=640)))
    with pytest.raises(BadInput, match="frozen from other pilots"):
        protocol.frozen(changed, tmp_path)


def test_two_workers_share_a_suite(tiny, tmp_path, data):
    import multiprocessing

    path = tiny(budget=320)
    publish(suites.load(path), plan(suites.load(path)), tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=worker.work, args=(path, tmp_path, data)) for _ in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    logs = [(run.folder(tmp_path) / "events.jsonl").read_text() for run in plan(suites.load(path))]
    assert all(log.count('"event": "start"') == 1 and '"resume"' not in log for log in logs)


def test_a_worker_that_is_told_to_leave_calls_no_run_failed(tiny, tmp_path, data, monkeypatch):
    """What is raised in the midst of a step by whoever ends the job: `scontrol requeue` is ended with the job it requeues."""
    path, leaving = tiny(budget=320), threading.Event()
    run, step = plan(suites.load(path))[0], Trainer.step

    def leave(self):
        if self.images >= 160:
            leaving.set()
            raise subprocess.CalledProcessError(-15, ["scontrol", "requeue", "1"])
        return step(self)

    monkeypatch.setattr(Trainer, "step", leave)
    with pytest.raises(SystemExit):
        worker.work(path, tmp_path, data, only=f"run={run.id}", leaving=leaving)
    assert state(run.folder(tmp_path)) == "begun" and not (run.folder(tmp_path) / "lock").exists()
    monkeypatch.setattr(Trainer, "step", step)
    assert worker.work(path, tmp_path, data, only=f"run={run.id}", leaving=threading.Event()) == 0


def test_a_run_that_was_taken_over_is_left_to_its_new_owner(tiny, tmp_path, data, monkeypatch):
    """The lock is another's in the middle of the run: not a line more, no mark of a failure."""
    path = tiny(budget=320)
    run, step, seen = plan(suites.load(path))[0], Trainer.step, []
    folder = run.folder(tmp_path)

    def lose(self):
        if self.images >= 160 and not seen:
            (folder / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
            seen.append((folder / "events.jsonl").read_bytes())
        return step(self)

    monkeypatch.setattr(Trainer, "step", lose)
    monkeypatch.setattr(worker.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # it waits for the other one
        worker.work(path, tmp_path, data, only=f"run={run.id}")
    assert state(folder) == "begun" and (folder / "events.jsonl").read_bytes() == seen[0]
    assert json.loads((folder / "lock").read_text())["host"] == "elsewhere"
