"""One run: the same bits every time, however often it is killed, and everything of a pair is shared but the method."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time

import pytest
import torch

import models
from bench.training import trainer as train
from bench.planning import suite as suites
from bench.runs.checkpoint import load
from bench.planning.plan import plan
from bench.training.trainer import Trainer, build, execute
from datasets import Store

CLOCKS = ("time", "seconds", "eval_seconds", "sample_seconds", "feature_seconds", "checkpoint_seconds", "startup_seconds",
          "code", "git")  # the last two: somebody may edit the tree meanwhile


def events(folder):
    """The log without clocks, the state of the code, and resume lines."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines if line["event"] != "resume"]


def last_state(folder, run):
    state, notes = load(folder / "checkpoints", run.hash)
    assert notes == []
    return state


def same(a, b):
    """Equality of nested states, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(a, b, run):
    assert events(a) == events(b)
    first, second = last_state(a, run), last_state(b, run)
    for state in (first, second):
        del state["seconds"], state["log_bytes"]
    assert same(first, second)


@pytest.fixture(params=["none", "learnable(r=4)"])
def run(request, tiny):
    return next(r for r in plan(suites.load(tiny())) if r.label == request.param and r.role == "paired")


def test_two_runs_of_one_spec_give_the_same_bits(run, tmp_path, data):
    for root in ("a", "b"):
        assert execute(run, tmp_path / root, data) == "complete"
    assert_same_run(run.folder(tmp_path / "a"), run.folder(tmp_path / "b"), run)
    result = json.loads((run.folder(tmp_path / "a") / "result.json").read_text())
    assert result["status"] == "complete" and result["images"] == 960
    assert [e["images"] for e in result["evaluations"]] == run.spec["evaluation"]["images"]
    assert all(isinstance(e["fid"], float) and e["fid"] > 0 for e in result["evaluations"])


def train_until(run, root, data, steps):
    """Train and die without warning after `steps` steps."""
    step, done = Trainer.step, [0]

    def dying(self):
        loss = step(self)
        done[0] += 1
        if done[0] == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    Trainer.step = dying
    execute(run, root, data)


@pytest.mark.parametrize("deaths", [(15,), (1, 2, 17, 29), (30,)])
def test_killed_and_resumed_is_undisturbed(run, tmp_path, data, deaths):
    execute(run, tmp_path / "undisturbed", data)
    context = multiprocessing.get_context("spawn")
    for steps in deaths:
        process = context.Process(target=train_until, args=(run, tmp_path / "killed", data, steps))
        process.start()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
    execute(run, tmp_path / "killed", data)
    assert_same_run(run.folder(tmp_path / "undisturbed"), run.folder(tmp_path / "killed"), run)
    text = (run.folder(tmp_path / "killed") / "events.jsonl").read_text()
    assert '"event": "resume"' in text and "took over the lock of process" in text
    assert all(json.loads(line).get("code") for line in text.splitlines() if '"event": "resume"' in line or '"event": "start"' in line)


def test_a_damaged_newest_checkpoint_costs_time_and_no_bits(run, tmp_path, data):
    execute(run, tmp_path / "undisturbed", data)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_until, args=(run, tmp_path / "killed", data, 20))
    process.start()
    process.join()
    folder = run.folder(tmp_path / "killed")
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    execute(run, tmp_path / "killed", data)
    assert_same_run(run.folder(tmp_path / "undisturbed"), folder, run)
    assert f"{newest.name}: damaged (digest differs), passed over" in (folder / "events.jsonl").read_text()


def test_a_torn_last_line_is_cut_and_said(run, tmp_path, data):
    execute(run, tmp_path / "undisturbed", data)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_until, args=(run, tmp_path / "killed", data, 20))
    process.start()
    process.join()
    path = run.folder(tmp_path / "killed") / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    execute(run, tmp_path / "killed", data)
    assert_same_run(run.folder(tmp_path / "undisturbed"), run.folder(tmp_path / "killed"), run)
    assert "cut a torn last line" in path.read_text()


def test_a_log_broken_before_its_last_line_is_refused_and_kept(run, tmp_path, data):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_until, args=(run, tmp_path, data, 20))
    process.start()
    process.join()
    path = run.folder(tmp_path) / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"event": "tr\n', *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"events.jsonl.*2"):
        execute(run, tmp_path, data)
    assert path.read_bytes() == before


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_curve(tiny, tmp_path, data, monkeypatch):
    run = plan(suites.load(tiny()))[0]
    step = Trainer.step

    def poisoned(self):
        loss = step(self)
        return float("nan") if self.images == 512 else loss

    monkeypatch.setattr(Trainer, "step", poisoned)
    assert execute(run, tmp_path, data) == "diverged"
    result = json.loads((run.folder(tmp_path) / "result.json").read_text())
    assert result["status"] == "diverged" and result["images"] == 512
    assert [e["images"] for e in result["evaluations"]] == [i for i in run.spec["evaluation"]["images"] if i < 512]
    assert execute(run, tmp_path, data) == "diverged"  # not tried again


def test_samples_that_are_not_finite_are_recorded_as_nan(tiny, tmp_path, data, monkeypatch):
    run = plan(suites.load(tiny()))[0]
    monkeypatch.setattr(train.Evaluator, "sample", lambda self, *_: torch.full((128, 1, 8, 8), torch.nan))
    execute(run, tmp_path, data)
    assert '"fid": "nan"' in (run.folder(tmp_path) / "events.jsonl").read_text()


def test_pilots_measure_the_noise_of_an_evaluation(tiny, tmp_path, data):
    pilot = plan(suites.load(tiny()))[0]
    execute(pilot, tmp_path, data)
    (probe,) = [e for e in events(pilot.folder(tmp_path)) if e["event"] == "probe"]
    last = [e for e in events(pilot.folder(tmp_path)) if e["event"] == "eval"][-1]
    assert len(set(probe["fids"]) | {last["fid"]}) == 3  # other noise, other distances


@pytest.mark.parametrize("backbone", ["uvit-xs", "unet-xs"])
@pytest.mark.parametrize("method", models.methods())
def test_within_a_pair_all_is_shared_but_the_method(tiny, tmp_path, data, backbone, method):
    """For every registered method: initial backbone weights, indices, times and noise equal those of `none`."""
    text = "learnable(r=4)" if method == "learnable" else "learnable_per_skip(r=4)" if method == "learnable_per_skip" else method
    arms = list(dict.fromkeys(["none", text]))
    suite = suites.load(tiny(arms=arms, cells=[{"dataset": "digits", "backbone": backbone}]))
    pair = [run for run in plan(suite) if run.role == "paired" and run.spec["seed"] == 1]
    trainers = []
    for run in pair:
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        trainers.append(Trainer(run, folder, data))
    baseline = trainers[0].model.state_dict()
    for trainer in trainers[1:]:
        own = {key: value for key, value in trainer.model.state_dict().items() if not key.startswith("scaling.")}
        assert own.keys() == {key for key in baseline if not key.startswith("scaling.")}
        assert all(torch.equal(value, baseline[key]) for key, value in own.items())
    for _ in range(3):
        batches = [trainer.batch() for trainer in trainers]
        for batch in batches[1:]:
            assert all(torch.equal(getattr(batch, key), getattr(batches[0], key)) for key in ("x", "t", "noise"))
        assert len({trainer.draws for trainer in trainers}) == 1
        for trainer in trainers:
            trainer.step()
    assert len({trainer.draws for trainer in trainers}) == 1


def test_the_null_run_shares_nothing(tiny, tmp_path, data):
    runs = plan(suites.load(tiny()))
    store = Store.open(data, "digits")
    from bench.diffusion.random_streams import Streams

    baseline = next(run for run in runs if run.role == "paired" and run.label == "none")
    null = next(run for run in runs if run.role == "null" and run.pair == baseline.spec["seed"])
    weights = [build(run.spec, store, Streams(run.spec["dataset"], run.spec["backbone"], run.spec["seed"])).state_dict()
               for run in (baseline, null)]
    assert not any(torch.equal(weights[0][k], weights[1][k]) for k in weights[0] if "qkv.weight" in k)


def test_the_log_interval_does_not_touch_the_weights(run, tmp_path, data, monkeypatch):
    execute(run, tmp_path / "a", data)
    monkeypatch.setattr(train, "LOG_POINTS", 3)
    execute(dataclasses.replace(run, checkpoints=3), tmp_path / "b", data)
    first, second = (last_state(run.folder(tmp_path / root), run) for root in "ab")
    assert same(first["model"], second["model"]) and same(first["ema"], second["ema"])


def test_the_training_clock_stands_still_during_evaluations(tiny, tmp_path, data, monkeypatch):
    run = plan(suites.load(tiny()))[3]
    measure = Trainer._measure
    monkeypatch.setattr(Trainer, "_measure", lambda self, repeat=0: (time.sleep(0.5), measure(self, repeat))[1])
    began = time.perf_counter()
    execute(run, tmp_path, data)
    result = json.loads((run.folder(tmp_path) / "result.json").read_text())
    assert 0 < result["seconds"] < time.perf_counter() - began - 0.5 * len(result["evaluations"]) + 0.1
