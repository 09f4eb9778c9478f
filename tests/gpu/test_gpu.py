"""What only a GPU shows: `make gpu`. GPU_TESTS_ON=cpu runs the same code on a CPU, as far as it goes there.

On CUDA no run is promised bit for bit: kernels that add in any order are faster. What is drawn is, and a resumed run
draws what an undisturbed one does; its losses agree within 5 %.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_suite import TINY

import datasets
import models
from bench.diffusion import schedules
from bench.evaluation import features, frechet
from bench.performance.perf import measure
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.runs.run_spec import Execution
from bench.training.trainer import Trainer, follow_run, train_run
from bench.training.warning import EndWarning, Leaving
from reports.records.run_folder import RunFolder, State

DEVICE = os.environ.get("GPU_TESTS_ON", "cuda")
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("no GPU is visible here", allow_module_level=True)
BACKBONES = ("uvit-xs", "unet-xs", "dit-xs")
PAIRS = [(one, name) for one in BACKBONES for name in models.methods() if name != "plain" or one == "dit-xs"]
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def pilot(tiny, **changes):
    return plan(load(tiny(device=DEVICE, **changes)))[0]


def log(folder: RunFolder, kind: str) -> list[dict]:
    events = map(json.loads, folder.events.read_text().splitlines())
    return [event for event in events if event["event"] == kind]


def trainer(run, folder: Path, data: Path) -> Trainer:
    folder.mkdir(parents=True)
    return Trainer(run, RunFolder(folder), data)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_left_and_resumed_it_draws_the_same_and_ends(tiny, tmp_path, data, precision):
    run = pilot(tiny, precision=precision)
    warning = EndWarning()
    evaluate = Trainer.evaluate

    def warned(self):
        evaluate(self)
        warning.given = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", warned)
        with pytest.raises(Leaving):
            train_run(run, tmp_path / "left", data, warning)
    assert train_run(run, tmp_path / "left", data) is train_run(run, tmp_path / "whole", data) is State.COMPLETE
    left, whole = run.folder(tmp_path / "left"), run.folder(tmp_path / "whole")
    assert len(log(left, "resume")) == 1
    assert [e["draws"] for e in log(left, "eval")] == [e["draws"] for e in log(whole, "eval")]
    losses = [[e["loss"] for e in log(folder, "train")] for folder in (left, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert log(whole, "start")[0]["device"] == DEVICE and left.weights.is_file()


@pytest.mark.parametrize(("backbone", "method"), PAIRS)
def test_every_method_takes_a_step_in_bf16_and_leaves_skips_in_it(tiny, tmp_path, data, backbone, method):
    text = f"{method}(r=4)" if method in ("learnable", "learnable_per_skip") else method
    cells = [{"dataset": "digits", "backbone": backbone}]
    arms = list(dict.fromkeys(["none", text]))
    run = plan(load(tiny(device=DEVICE, precision="bf16", cells=cells, arms=arms)))[-1 if text != "none" else 0]
    one, seen = trainer(run, tmp_path / "run", data), []
    join = type(one.model.scaling).join

    def noted(self, trunk, s, where):
        joined = join(self, trunk, s, where)
        seen.append(joined.dtype == torch.promote_types(trunk.dtype, s.dtype))
        return joined

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(one.model.scaling), "join", noted)
        assert torch.isfinite(one.step())
    assert seen and all(seen)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("choice", ["bf16 channels-last", pytest.param("bf16 compiled", marks=COMPILER)])
def test_every_way_of_computing_agrees_with_fp32(backbone, choice):
    plain, other = (measure(backbone, name, 32, 2, DEVICE, 1, "wall time") for name in ("fp32", choice))
    assert other.difference(plain) < 0.02 and other.memory > 0


def rank(number: int, port: int, run, root: Path, data: Path) -> None:
    """One of two ranks that share a device: over gloo, as NCCL wants a device for each."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo")
    follow_run(run, root, data, EndWarning()) if number else train_run(run, root, data)


def test_two_ranks_on_one_device_train_one_run(tiny, tmp_path, data):
    changes = {"budget": 640, "evaluation": TINY["evaluation"] | {"count": 2, "repeats": 0}}
    one, two = (pilot(tiny, name=f"on{n}", processes=n, **changes) for n in (1, 2))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    train_run(one, tmp_path, data)
    mp.spawn(rank, (port, two, tmp_path, data), nprocs=2)
    single, both = (run.folder(tmp_path) for run in (one, two))
    assert [e["draws"] for e in log(single, "eval")] == [e["draws"] for e in log(both, "eval")]
    losses = [[e["loss"] for e in log(folder, "train")] for folder in (single, both)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_step_waits_for_nothing_but_what_it_reads(tiny, tmp_path, data, monkeypatch):
    """On CUDA, torch itself refuses any wait between two looks at the losses."""
    one = trainer(pilot(tiny, precision="bf16"), tmp_path / "run", data)
    one.step()
    if DEVICE == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            one.step()
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert one.read_losses() and len(one.losses) == 5


@pytest.mark.skipif(DEVICE == "cpu", reason="the published size takes a GPU")
def test_rows_are_there_before_a_step_at_the_published_size_wants_them(tmp_path):
    from bench.performance.perf import write_store

    write_store(tmp_path, datasets.get("celeba64"), 8192)
    run = next(run for run in plan(load("paper")) if run.spec.backbone == "uvit-s-4")
    spec = run.spec.but(evaluation=run.spec.evaluation.model_dump() | {"extractor": "small-conv"})
    one = trainer(dataclasses.replace(run, spec=spec, execution=Execution()), tmp_path / "run", tmp_path)
    waited, rows = [], one.loader.rows

    def timed(position):
        began = time.perf_counter()
        found = rows(position)
        waited.append(time.perf_counter() - began)
        return found

    one.loader.rows = timed
    for _ in range(8):
        one.step()
    one.read_losses()
    began, waited[:] = time.perf_counter(), []
    for _ in range(32):
        one.step()
    one.read_losses()
    taken = time.perf_counter() - began
    print(f"waited for rows: {sum(waited) / taken:.2%} of {taken / 32 * 1e3:.1f} ms a step")
    assert sum(waited) < 0.05 * taken


def test_an_evaluation_by_inception_of_random_weights(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save({"x": torch.zeros(1)}, path)
        module = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(module.state_dict(), path)
    count = 64
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    found = [features.load("inception", path, device=device)(images.to(device)).cpu() for device in ("cpu", DEVICE)]
    assert found[0].shape == (count, 2048) and torch.allclose(*found, rtol=1e-2, atol=1e-2)
    accumulator = frechet.Accumulator(2048)
    accumulator.add(features.load("inception", path, device=DEVICE)(images.to(DEVICE)))
    assert accumulator.size == count


def test_draws_on_a_device_do_not_depend_on_the_parts_of_a_batch(tiny, tmp_path, data):
    run = pilot(tiny)
    one = trainer(run, tmp_path / "run", data)
    whole = one.batches.draw(32)
    halves = [one.batches.draw(32, number, 2) for number in range(2)]
    for key in ("x", "t", "noise"):
        assert torch.equal(torch.cat([getattr(half, key) for half in halves]), getattr(whole, key))
    assert whole.x.device.type == DEVICE and isinstance(one.schedule, schedules.Schedule)
