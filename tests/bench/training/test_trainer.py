"""One run: the same bits every time, however often it is interrupted, and all of a pair is shared but the method."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_suite import TINY

import models
from bench.diffusion.random_streams import RandomStreams
from bench.evaluation.evaluator import Evaluator
from bench.launching import process
from bench.launching.process import Exit
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.runs import checkpoint
from bench.runs.run_spec import Run
from bench.training import trainer as module
from bench.training.trainer import Trainer, build, train_run
from bench.training.warning import EndWarning, Leaving
from datasets import Store
from reports.records.lease import Held
from reports.records.run_folder import RunFolder, State

ELSEWHERE = ("time", "code", "git", "host", "device_name", "versions")  # what another machine or tree changes
LABELS = ("none", "learnable(r=4)")


def events(folder: RunFolder) -> list[dict[str, Any]]:
    """The log of an undisturbed run: without clocks, the place, and resume lines."""
    lines = [json.loads(line) for line in folder.events.read_text().splitlines()]
    kept = [line for line in lines if line["event"] != "resume"]
    return [{k: v for k, v in line.items() if k not in ELSEWHERE and not k.endswith("seconds")} for line in kept]


def resumes(folder: RunFolder) -> list[dict[str, Any]]:
    """The resume lines of a log."""
    lines = [json.loads(line) for line in folder.events.read_text().splitlines()]
    return [line for line in lines if line["event"] == "resume"]


def last_state(folder: RunFolder, run: Run) -> dict[str, Any]:
    state, notes = checkpoint.load(folder.checkpoints, run.spec.hash, folder.events)
    assert state is not None and notes == []
    return state


def same(a: Any, b: Any) -> bool:
    """Equality of nested states, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_same_run(a: RunFolder, b: RunFolder, run: Run) -> None:
    assert events(a) == events(b)
    first, second = last_state(a, run), last_state(b, run)
    for state in (first, second):
        del state["seconds"], state["log_bytes"]
    assert same(first, second)


@pytest.fixture(scope="module", autouse=True)
def kept():
    """Runs that have ended keep their last checkpoints here, to be compared whole; others keep their EMA alone."""
    with pytest.MonkeyPatch.context() as patch:
        drop = checkpoint.drop_after
        patch.setattr(checkpoint, "drop_after", lambda folder, images=None: images is None or drop(folder, images))
        yield drop


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the undisturbed runs of this module lie."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def planned(folder):
    """The runs of the tiny suite: pilots, and for each seed both arms."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return plan(load(str(folder / "tiny.yaml")))


@pytest.fixture(scope="module")
def undisturbed(folder, data):
    """Trains a run, once, and returns its folder."""

    def trained(run: Run) -> RunFolder:
        root = folder / f"every{run.execution.checkpoints}"
        train_run(run, root, data)
        return run.folder(root)

    return trained


@pytest.fixture(scope="module", params=LABELS)
def run(request, planned):
    return next(r for r in planned if r.label == request.param and r.role == "paired")


# Interrupted ----------------------------------------------------------------------------------------------------------


def interrupted(run: Run, root: Path, data: Path, where: str, count: int, number: int) -> None:
    """Train; the process sends itself a signal in its `count`-th step or sampling: SIGKILL after it, others before."""
    owner = {"step": Trainer, "sample": Evaluator}[where]
    original, calls = getattr(owner, where), []

    def call(self: Any, *words: Any) -> Any:
        calls.append(0)
        if len(calls) == count and number != signal.SIGKILL:
            os.kill(os.getpid(), number)
            assert where == "step", "sampling went on"
        result = original(self, *words)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, where, call)
    warning = EndWarning().listen()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, process.WARNINGS)  # blocked since the forkserver began
    try:
        train_run(run, root, data, warning)
    except Leaving:
        os._exit(Exit.LEFT)


def interrupt(run: Run, root: Path, data: Path, where: str, count: int, number: int) -> int | None:
    """The exit code of an interrupted process."""
    process.warm_up()
    child = get_context("forkserver").Process(target=interrupted, args=(run, root, data, where, count, number))
    child.start()
    child.join(120)
    return child.exitcode


def rarely(run: Run) -> Run:
    """With one planned checkpoint, at its end."""
    return dataclasses.replace(run, execution=run.execution.model_copy(update={"checkpoints": 1}))


@pytest.mark.parametrize("deaths", [(15,), (1, 2, 17, 9), (30,)], ids=str)
def test_killed_and_resumed_is_undisturbed(run, tmp_path, data, undisturbed, deaths):
    for steps in deaths:
        assert interrupt(run, tmp_path, data, "step", steps, signal.SIGKILL) == -signal.SIGKILL
    assert run.folder(tmp_path).state() is State.STOPPED
    assert train_run(run, tmp_path, data) is State.COMPLETE
    folder = run.folder(tmp_path)
    assert_same_run(undisturbed(run), folder, run)
    notes = resumes(folder)
    assert notes and "took over the lock of process" in notes[-1]["note"] and all(note["code"] for note in notes)


@pytest.mark.parametrize(
    ("role", "where", "count", "number", "images"),
    [
        ("paired", "step", 14, signal.SIGTERM, 448),
        ("paired", "step", 17, signal.SIGUSR2, 544),
        ("paired", "sample", 2, signal.SIGTERM, None),
        ("paired", "sample", 4, signal.SIGUSR2, 960),
        ("pilot", "sample", 5, signal.SIGTERM, 960),
        ("pilot", "sample", 6, signal.SIGUSR2, 960),
    ],
)
def test_warned_it_saves_leaves_and_ends_as_undisturbed(
    planned, tmp_path, data, undisturbed, role, where, count, number, images
):
    """Between two steps, in an evaluation, and in the repeated ones at a pilot's end; at most a step is lost."""
    run = rarely(next(r for r in planned if r.role == role))
    folder = run.folder(tmp_path)
    assert interrupt(run, tmp_path, data, where, count, number) == Exit.LEFT
    assert folder.state() is State.STOPPED and not folder.lock.exists()
    images = run.spec.evaluation.images[count - 1] if images is None else images
    assert int(sorted(folder.checkpoints.iterdir())[-1].stem) == images  # nothing but what was broken off is lost
    log = folder.events.read_text()
    assert ('"event": "checkpoint"' in log) is (count > 4 and where == "sample")
    assert train_run(run, tmp_path, data) is State.COMPLETE
    assert [line["note"] for line in resumes(folder)] == [f"from {images} images"]
    assert_same_run(undisturbed(run), folder, run)


def test_warned_again_and_again_it_goes_on_step_by_step(planned, tmp_path, data, undisturbed):
    run = rarely(next(r for r in planned if r.role == "paired"))
    for _ in range(3):
        assert interrupt(run, tmp_path, data, "step", 1, signal.SIGUSR2) == Exit.LEFT
    train_run(run, tmp_path, data)
    assert [line["images"] for line in resumes(run.folder(tmp_path))] == [32, 64, 96]
    assert_same_run(undisturbed(run), run.folder(tmp_path), run)


def test_a_save_long_after_the_last_leaves_no_event(planned, tmp_path, data, undisturbed, monkeypatch):
    run = rarely(next(r for r in planned if r.role == "paired"))
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    step = Trainer.step

    def dying(self):
        if self.images == 448:
            raise OSError(5, "Input/output error")
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(Trainer, "step", dying)
        train_run(run, tmp_path, data)
    folder = run.folder(tmp_path)
    assert '"event": "checkpoint"' not in folder.events.read_text()
    train_run(run, tmp_path, data)
    assert [line["note"] for line in resumes(folder)] == ["from 448 images"]
    assert_same_run(undisturbed(run), folder, run)


def test_a_damaged_newest_checkpoint_costs_time_and_no_bits(run, tmp_path, data, undisturbed):
    interrupt(run, tmp_path, data, "step", 20, signal.SIGKILL)
    folder = run.folder(tmp_path)
    newest = sorted(folder.checkpoints.glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    train_run(run, tmp_path, data)
    assert_same_run(undisturbed(run), folder, run)
    assert f"{newest.name}: damaged, passed over" in resumes(folder)[0]["note"]


def test_a_torn_last_line_is_cut_and_said(run, tmp_path, data, undisturbed):
    interrupt(run, tmp_path, data, "step", 20, signal.SIGKILL)
    folder = run.folder(tmp_path)
    folder.events.write_bytes(folder.events.read_bytes()[:-7])
    train_run(run, tmp_path, data)
    assert_same_run(undisturbed(run), folder, run)
    assert "cut a torn last line" in resumes(folder)[0]["note"]


def test_a_log_that_ends_before_the_checkpoint_falls_back_to_an_older_one(run, tmp_path, data, undisturbed):
    """A power cut: the checkpoint reached the disk, and the last lines did not."""
    interrupt(run, tmp_path, data, "step", 20, signal.SIGKILL)
    folder = run.folder(tmp_path)
    newest = sorted(folder.checkpoints.glob("*.pt"))[-1]
    lines = folder.events.read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if newest.name.encode() in line)
    folder.events.write_bytes(b"".join(lines[:last]))
    train_run(run, tmp_path, data)
    assert_same_run(undisturbed(run), folder, run)
    assert f"{newest.name}: no line of the event log ends where it was saved, passed over" in resumes(folder)[0]["note"]


def test_a_log_broken_before_its_last_line_is_refused_and_kept(planned, tmp_path, data):
    run = planned[-1]
    interrupt(run, tmp_path, data, "step", 20, signal.SIGKILL)
    path = run.folder(tmp_path).events
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"event": "tr\n', *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"events.jsonl.*2"):
        train_run(run, tmp_path, data)
    assert path.read_bytes() == before


def test_a_run_that_was_taken_over_is_left_to_its_new_owner(planned, tmp_path, data, monkeypatch):
    """From then on not a line more, no checkpoint, no mark of a failure."""
    run, step, seen = planned[-1], Trainer.step, []
    folder = run.folder(tmp_path)

    def lose(self):
        if self.images == 448:
            folder.lock.unlink()
            folder.lock.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=aa\nduration=60.0\n")
            seen.append((folder.events.read_bytes(), sorted(folder.checkpoints.iterdir())))
        return step(self)

    monkeypatch.setattr(Trainer, "step", lose)
    with pytest.raises(Held, match="was taken over by process 1 on elsewhere"):
        train_run(run, tmp_path, data)
    assert [(folder.events.read_bytes(), sorted(folder.checkpoints.iterdir()))] == seen
    assert not folder.error.exists() and "elsewhere" in folder.lock.read_text()
    with pytest.raises(Held, match="in use by process 1 on elsewhere"):
        train_run(run, tmp_path, data)


# Undisturbed ----------------------------------------------------------------------------------------------------------


def test_two_runs_of_one_spec_give_the_same_bits(run, tmp_path, data, undisturbed):
    assert train_run(run, tmp_path, data) is State.COMPLETE
    folder = undisturbed(run)
    assert_same_run(folder, run.folder(tmp_path), run)
    result = json.loads(folder.result.read_text())
    assert result["status"] == "complete" and result["images"] == 960
    assert [e["images"] for e in result["evaluations"]] == run.spec.evaluation.images
    assert all(isinstance(e["fid"], float) and e["fid"] > 0 for e in result["evaluations"])
    grids = [folder.sample(images).read_bytes() for images in run.spec.evaluation.images]
    assert len(set(grids)) == len(grids) and resumes(folder) == []
    assert (
        train_run(run, tmp_path, data) is State.COMPLETE and resumes(run.folder(tmp_path)) == []
    )  # nothing left to do


@pytest.mark.parametrize("every", [1, 7])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_curve(planned, tmp_path, data, monkeypatch, every):
    """It is dated to its step, also where the losses are read later."""
    run, step = planned[0], Trainer.step

    def poisoned(self):
        loss = step(self)
        if self.images == 512:
            self.unread[-1] = torch.tensor(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "step", poisoned)
    monkeypatch.setattr(module, "LOG_POINTS", 4)
    monkeypatch.setitem(module.READ_EVERY, "cpu", every)
    assert train_run(run, tmp_path, data) is State.DIVERGED
    result = json.loads(run.folder(tmp_path).result.read_text())
    assert result["status"] == "diverged" and result["images"] == 512 and "nan at 512 images" in result["reason"]
    assert [e["images"] for e in result["evaluations"]] == [i for i in run.spec.evaluation.images if i < 512]
    assert train_run(run, tmp_path, data) is State.DIVERGED  # not tried again


def test_a_run_that_is_done_keeps_its_ema_alone(planned, tmp_path, data, undisturbed, kept, monkeypatch):
    run = planned[3]
    ema = last_state(undisturbed(run), run)["ema"]
    monkeypatch.setattr(checkpoint, "drop_after", kept)
    train_run(run, tmp_path, data)
    folder = run.folder(tmp_path)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["ema.safetensors"]
    assert same(load_file(folder.weights), ema) and folder.state() is State.COMPLETE


def test_samples_that_are_not_finite_are_recorded_as_nan(planned, tmp_path, data, monkeypatch):
    monkeypatch.setattr(Evaluator, "sample", lambda self, *_: torch.full((128, 1, 8, 8), torch.nan))
    train_run(planned[0], tmp_path, data)
    assert '"fid": "nan"' in planned[0].folder(tmp_path).events.read_text()


def test_pilots_measure_the_noise_of_an_evaluation(planned, data, undisturbed):
    log = events(undisturbed(planned[0]))
    (probe,) = [e for e in log if e["event"] == "probe"]
    last = [e for e in log if e["event"] == "eval"][-1]
    assert len(set(probe["fids"]) | {last["fid"]}) == 3  # other noise, other distances


def test_the_log_interval_does_not_touch_the_weights(run, tmp_path, data, undisturbed, monkeypatch):
    monkeypatch.setattr(module, "LOG_POINTS", 3)
    train_run(rarely(run), tmp_path, data)
    first, second = last_state(undisturbed(run), run), last_state(run.folder(tmp_path), run)
    assert same(first["model"], second["model"]) and same(first["ema"], second["ema"])


def test_losses_that_are_read_late_are_the_same_run(run, tmp_path, data, undisturbed, monkeypatch):
    """Between two logged steps the accelerator is not waited for."""
    read, counts = Trainer.read_losses, []
    monkeypatch.setattr(Trainer, "read_losses", lambda self: (counts.append(len(self.unread)), read(self))[1])
    monkeypatch.setattr(module, "LOG_POINTS", 3)
    monkeypatch.setitem(module.READ_EVERY, "cpu", 16)
    train_run(rarely(run), tmp_path, data)
    first, second = last_state(undisturbed(run), run), last_state(run.folder(tmp_path), run)
    assert same(first["model"], second["model"]) and same(first["ema"], second["ema"])
    assert sum(counts) == run.spec.steps and max(counts) > 1


def test_the_training_clock_stands_still_during_evaluations(planned, tmp_path, data, monkeypatch):
    measure = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda self, *words: (time.sleep(0.5), measure(self, *words))[1])
    began = time.perf_counter()
    train_run(planned[3], tmp_path, data)
    result = json.loads(planned[3].folder(tmp_path).result.read_text())
    assert 0 < result["seconds"] < time.perf_counter() - began - 0.5 * len(result["evaluations"]) + 0.1


def test_recomputation_gives_the_same_bits_and_the_same_identity(run, tmp_path, data, undisturbed):
    """A run goes on where its suite meanwhile says another way to compute it."""
    other = dataclasses.replace(run, execution=run.execution.model_copy(update={"checkpointing": True}))
    assert interrupt(run, tmp_path, data, "step", 14, signal.SIGTERM) == Exit.LEFT
    train_run(other, tmp_path, data)
    assert_same_run(undisturbed(run), run.folder(tmp_path), run)


# Pairs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "method"),
    [(backbone, name) for backbone in ("uvit-xs", "unet-xs") for name in models.methods() if name != "plain"]
    + [("dit-xs", name) for name in ("norm_cat", "learnable", "none")],
)
def test_within_a_pair_all_is_shared_but_the_method(tiny, tmp_path, data, backbone, method):
    """For every registered method: initial backbone weights, indices, times and noise equal those of the baseline."""
    text = f"{method}(r=4)" if method in ("learnable", "learnable_per_skip") else method
    baseline, cells = "plain" if backbone == "dit-xs" else "none", [{"dataset": "digits", "backbone": backbone}]
    suite = load(tiny(arms=list(dict.fromkeys([baseline, text])), baseline=baseline, cells=cells))
    pair = [run for run in plan(suite) if run.role == "paired" and run.spec.seed == 1]
    trainers = []
    for run in pair:
        folder = run.folder(tmp_path)
        folder.path.mkdir(parents=True)
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


def test_the_null_run_shares_nothing(planned, data):
    store = Store.open(data, "digits")
    baseline = next(run for run in planned if run.role == "paired" and run.label == "none")
    null = next(run for run in planned if run.role == "null" and run.pair == baseline.spec.seed)
    streams = partial(RandomStreams, baseline.spec.dataset, baseline.spec.backbone)
    weights = [build(run.spec, store, streams(run.spec.seed)).state_dict() for run in (baseline, null)]
    assert not any(torch.equal(weights[0][k], weights[1][k]) for k in weights[0] if "qkv.weight" in k)


def test_a_floor_run_starts_a_rounding_away_from_its_baseline(tiny, tmp_path, data):
    """Its draws are the baseline's; every weight is changed by about one part in a million; the start event says so."""
    plain = next(run for run in plan(load(tiny())) if run.role == "paired")
    floor = dataclasses.replace(plain, role="floor", spec=plain.spec.but(perturbation=1e-6))
    roots = [tmp_path / "plain", tmp_path / "floor"]
    for run, root in zip((plain, floor), roots, strict=True):
        train_run(run, root, data)
    starts = [events(run.folder(root))[0] for run, root in zip((plain, floor), roots, strict=True)]
    assert starts[0]["init_change"] == 0 and 5e-7 < starts[1]["init_change"] < 2e-6
    assert starts[0]["init_digest"] != starts[1]["init_digest"]
    results = [json.loads(run.folder(root).result.read_text()) for run, root in zip((plain, floor), roots, strict=True)]
    assert results[0]["evaluations"][-1]["draws"] == results[1]["evaluations"][-1]["draws"]
    assert results[0]["evaluations"][-1]["fid"] != results[1]["evaluations"][-1]["fid"]
