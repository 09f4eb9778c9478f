"""Workers: pilots first, frozen targets, failures told, nothing twice."""

import json
from collections import Counter

import pytest

from bench import protocol, suite as suites, worker
from bench.errors import BadInput
from bench.plan import plan, publish, select
from bench.record import state
from bench.train import Trainer


def test_work_trains_everything_and_freezes_the_targets_between(tiny, tmp_path, data, monkeypatch):
    order = []
    start = Trainer.start
    monkeypatch.setattr(Trainer, "start", lambda self, note=None: (
        order.append((self.run.role, (tmp_path / "tiny" / "protocol.json").exists())), start(self, note))[1])
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
