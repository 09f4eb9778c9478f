"""Several processes of one run: the same draws, one owner, and an end together."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_suite import TINY

from bench.diffusion.random_streams import RandomStreams
from bench.evaluation.evaluator import Evaluator
from bench.launching import coordinator, local
from bench.launching.coordinator import Coordinator
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.runs import checkpoint, compute, distributed
from bench.runs.run_spec import Run
from bench.training.trainer import Trainer, build, follow_run, train_run
from bench.training.warning import EndWarning
from datasets import Store
from reports.records import lease
from reports.records.lease import Held, Lease
from reports.records.run_folder import RunFolder, State

TWICE = {"evaluation": TINY["evaluation"] | {"count": 2, "repeats": 0}, "arms": ["none"]}


def train(path: str, root: Path, data: Path) -> int:
    """Train one pilot; what a coordinator returns."""
    runs = plan(load(path))
    return Coordinator(runs, root, data).train(runs[:1])


def coordinate(path: str, root: Path, data: Path) -> None:
    """A coordinator that is busy for half a second when a process has ended."""
    end = coordinator._end
    coordinator._end = lambda *words: (time.sleep(0.5), end(*words))[1]
    raise SystemExit(train(path, root, data))


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.events.read_text().splitlines()]


def numbers(folder: RunFolder) -> list[Any]:
    """What must not depend on interruptions."""
    return [(e["event"], e["images"], e.get("loss"), e.get("fid")) for e in lines(folder) if e["event"] != "resume"]


def at_work(run: Run, root: Path) -> RunFolder:
    """Waits until the run has saved a checkpoint."""
    folder, until = run.folder(root), time.monotonic() + 120
    while not list(folder.checkpoints.glob("*.pt")):
        assert time.monotonic() < until
        time.sleep(0.05)
    return folder


@pytest.fixture
def begun(tiny, tmp_path, data):
    """A pilot on two processes under way in a process of its own: (path, run, folder, coordinating process)."""
    path = tiny(processes=2, budget=3200, checkpoints=50, **TWICE)
    run = plan(load(path))[0]
    worker = multiprocessing.get_context("spawn").Process(target=coordinate, args=(path, tmp_path, data))
    worker.start()
    yield path, run, at_work(run, tmp_path), worker
    worker.kill()
    worker.join()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_draw_the_same_and_agree(tiny, tmp_path, data, accumulate):
    """The same run on one process and on two: the same images, times and noise; losses to 1e-4 over 20 steps."""
    found = {}
    for processes in (1, 2):
        parts = accumulate if processes == 2 else 1
        path = tiny(f"on{processes}", processes=processes, accumulate=parts, budget=640, **TWICE)
        assert train(path, tmp_path, data) == 0
        found[processes] = lines(plan(load(path))[0].folder(tmp_path))
    one, two = ([event for event in found[n] if event["event"] in ("train", "eval")] for n in (1, 2))
    assert [event["images"] for event in one] == [event["images"] for event in two]
    assert len([e for e in one if e["event"] == "train"]) == 20
    for a, b in zip(one, two, strict=True):
        assert a.get("draws") == b.get("draws")
        if a["event"] == "train":
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        else:
            assert float(b["fid"]) == pytest.approx(float(a["fid"]), rel=1e-2)


def measure(rank: int, port: int, path: str, data: Path, answer: Any) -> None:
    """An evaluation of an untrained network as one of two ranks."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.join("cpu")
    answer.put((rank, evaluate(path, data)))


def evaluate(path: str, data: Path) -> tuple[float, bytes]:
    run = plan(load(path))[0]
    compute.set_up(run.spec)
    store = Store.open(data, run.spec.dataset)
    model = build(run.spec, store, RandomStreams(run.spec.dataset, run.spec.backbone, run.spec.seed))
    found = Evaluator(run.spec, store, data)(model)
    return found.distance, found.grid.numpy().tobytes()


def test_an_evaluation_on_two_processes_is_that_of_one(tiny, data):
    """Three batches of samples, which the ranks take in turns."""
    path = tiny(evaluation=TINY["evaluation"] | {"samples": 600})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    ranks = [context.Process(target=measure, args=(rank, port, path, data, answer)) for rank in range(2)]
    for one in ranks:
        one.start()
    found = dict(answer.get(timeout=120) for _ in ranks)
    for one in ranks:
        one.join(60)
    assert found[0] == evaluate(path, data) and math.isnan(found[1][0])


def test_told_to_leave_both_do_and_the_run_goes_on(begun, tmp_path, data):
    """The checkpoint and the log are rank 0's."""
    path, run, folder, worker = begun
    os.kill(lease.process_id(folder.lock), signal.SIGTERM)  # rank 0 alone; its coordinator starts both again
    worker.join(200)
    assert worker.exitcode == 0 and folder.state() is State.COMPLETE
    told = lines(folder)
    assert [e["event"] for e in told].count("resume") == 1
    undisturbed = tmp_path / "undisturbed"
    assert train(path, undisturbed, data) == 0
    assert numbers(folder) == numbers(run.folder(undisturbed))


def test_a_killed_rank_is_replaced(begun):
    """The error that the other one meets is no failure of the run."""
    _, _, folder, worker = begun
    os.kill(lease.process_id(folder.lock), signal.SIGKILL)
    worker.join(200)
    assert worker.exitcode == 0 and folder.state() is State.COMPLETE
    assert "took over the lock" in json.dumps([e for e in lines(folder) if e["event"] == "resume"])


def test_a_rank_restores_the_checkpoint_that_rank_0_restored(tiny, tmp_path, data, monkeypatch):
    """And not a newer one, which rank 0 may have passed over and removed, and another machine still sees."""
    run = plan(load(tiny(budget=320, checkpoints=2, **TWICE)))[0]
    monkeypatch.setattr(checkpoint, "drop_after", lambda *_: None)  # else a run that is done keeps none
    train_run(run, tmp_path, data)
    taken, newest = (int(path.stem) for path in sorted(run.folder(tmp_path).checkpoints.glob("*.pt")))
    restored = []
    monkeypatch.setattr(distributed, "of_rank_0", lambda number: taken)
    monkeypatch.setattr(Trainer, "fit", lambda self: restored.append(self.images))
    monkeypatch.setattr(Trainer, "finish", lambda self, state: state)
    follow_run(run, tmp_path, data, EndWarning())
    assert restored == [taken] and taken < newest


def test_a_run_moves_from_four_processes_to_one_and_back(tiny, tmp_path, data):
    """How many there are is no part of its identity: it draws the same images, and says how it was computed."""
    settings = {"budget": 3200, "checkpoints": 50, **TWICE}
    for resumes, processes in enumerate((4, 1)):
        path = tiny(processes=processes, **settings)
        run = plan(load(path))[0]
        worker = multiprocessing.get_context("spawn").Process(target=coordinate, args=(path, tmp_path, data))
        worker.start()
        folder, until = run.folder(tmp_path), time.monotonic() + 120
        at_work(run, tmp_path)
        while resumes and '"event": "resume"' not in folder.events.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        worker.kill()
        worker.join()
        while folder.is_held():
            assert time.monotonic() < until
            time.sleep(0.1)
    assert train(tiny(processes=4, **settings), tmp_path, data) == 0
    assert json.loads(folder.result.read_text())["computed"]["processes"] == [4, 1]
    assert [e["processes"] for e in lines(folder) if e["event"] in ("start", "resume")] == [4, 1, 4]
    whole = tmp_path / "whole"
    assert train(tiny(processes=1, **settings), whole, data) == 0
    ours, theirs = ([e for e in lines(one) if e["event"] == "eval"] for one in (folder, run.folder(whole)))
    assert [e["draws"] for e in ours] == [e["draws"] for e in theirs]
    losses = [[e["loss"] for e in lines(one) if e["event"] == "train"] for one in (folder, run.folder(whole))]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_ranks_leave_with_their_coordinator(begun, tmp_path, data):
    """A scheduler that lost sight of them would let them train on."""
    path, _, folder, worker = begun
    with pytest.raises(Held, match="in use by process"), Lease(folder.lock):
        pass
    worker.kill()
    worker.join()
    until = time.monotonic() + 30
    while folder.is_held():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert folder.state() is State.STOPPED
    assert train(path, tmp_path, data) == 0
    log = folder.events.read_text()
    assert log.count('"event": "resume"') == 1 and log.count('"event": "end"') == 1


@pytest.mark.parametrize(
    ("units", "threads", "processes", "workers"), [(8, 1, 1, 8), (8, 2, 2, 2), (2, 1, 4, 1), (8, 3, 1, 2)]
)
def test_workers_leave_room_for_the_processes_of_a_run(tiny, monkeypatch, units, threads, processes, workers):
    monkeypatch.setattr(local, "cores", lambda: units)
    assert local.default_workers(load(tiny(threads=threads, processes=processes))) == workers


def test_each_worker_gets_the_gpus_of_its_own_runs(tiny, monkeypatch):
    """One for each process of a run, no two workers the same, and only those that this process may see."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    suite = load(tiny(device="cuda", processes=2))
    assert local.devices(suite, None) == local.devices(suite, 2) == ["0,1", "2,3"] and local.devices(suite, 1) == [
        "0,1"
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,3,GPU-1")
    assert local.devices(suite, None) == ["7,3"]
    with pytest.raises(ValueError, match=r"--workers: tiny trains on cuda.*3 are visible here; give at most 1"):
        local.devices(suite, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match=r"device: tiny trains on cuda.*0 are visible here"):
        local.devices(suite, None)
