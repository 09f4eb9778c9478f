"""Every way of computing agrees with plain fp32, and one process with two."""

import dataclasses
import json
import multiprocessing
import shutil
import time

import pytest
import torch
import yaml

from bench.planning import compute_defaults as fastest
from bench.runs import lock
from bench.performance import perf
from bench.training import distributed as ranks
from bench.launching import runner
from bench.planning import suite as suites
from bench.runs.lock import Locked
from bench.planning.plan import plan
from bench.launching.runner import run as run_suite
from bench.training.trainer import Trainer

COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def losses(run, folder, data, steps=20, **changes):
    run = dataclasses.replace(run, spec=run.spec | changes)
    folder.mkdir()
    trainer = Trainer(run, folder, data)
    trainer._compile()
    found = [trainer.step() for _ in range(steps)]
    trainer.log.close()
    return found


@pytest.mark.parametrize(("choice", "backbone"), [
    *((choice, backbone) for backbone in ("uvit-xs", "unet-xs") for choice in (
        {"precision": "bf16"}, {"channels_last": True}, {"checkpointing": True}, {"accumulate": 4})),
    pytest.param({"compile": True}, "uvit-xs", marks=COMPILER),  # one: compiling takes a minute
], ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_a_choice_agrees_with_plain_fp32_over_twenty_steps(tiny, tmp_path, data, backbone, choice):
    run = plan(suites.load(tiny(cells=[{"dataset": "digits", "backbone": backbone}], dropout=0.0)))[0]
    eager = {"precision": "fp32", "compile": False, "channels_last": False}  # whatever the table holds for this preset
    plain = losses(run, tmp_path / "a", data, **eager)
    other = losses(run, tmp_path / "b", data, **eager | choice)
    bound = {"checkpointing": 0.0, "accumulate": 1e-4, "channels_last": 1e-4}.get(next(iter(choice)), 0.01)
    assert perf.difference(other, plain) <= bound
    if choice != {"checkpointing": True}:
        assert other != plain  # the choice was taken


def test_recomputation_keeps_the_masks_of_dropout(tiny, tmp_path, data):
    run = plan(suites.load(tiny(dropout=0.3)))[0]
    assert losses(run, tmp_path / "a", data, 5) == losses(run, tmp_path / "b", data, 5, checkpointing=True)


def test_recomputation_keeps_less(tiny, tmp_path, data):
    run = plan(suites.load(tiny()))[0]

    def kept(folder, **changes):
        sizes = []
        folder.mkdir()
        trainer = Trainer(dataclasses.replace(run, spec=run.spec | changes), folder, data)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.nbytes), t)[1], lambda t: t):
            batch = trainer.batch()
            trainer.model(batch.x, batch.t)
        return sum(sizes)

    assert kept(tmp_path / "b", checkpointing=True) < kept(tmp_path / "a") / 2


def test_what_a_suite_leaves_open_is_filled_in_from_the_table(tiny, monkeypatch):
    monkeypatch.setattr(fastest, "table", lambda: {"uvit-xs": {"cpu": {"precision": "bf16", "compile": True}}})
    spec = plan(suites.load(tiny()))[0].spec
    assert (spec["precision"], spec["compile"], spec["channels_last"]) == ("bf16", True, False)
    spec = plan(suites.load(tiny(precision="fp32", compile=False)))[0].spec
    assert (spec["precision"], spec["compile"]) == ("fp32", False)


def test_the_table_names_presets_and_choices():
    import models

    for preset, devices in fastest.table().items():
        assert preset in models.presets()
        assert set(devices) <= {"cpu", "cuda"} and all(set(choice) <= set(fastest.KEYS) for choice in devices.values())


def test_perf_measures_every_condition():
    for preset in ("uvit-xs-class", "unet-xs-t2i"):
        found = perf.measure(preset, {}, batch=4, steps=2)
        assert 0 < found.reading < found.step and found.bare > 0 and len(found.losses) == 20


def test_runs_of_one_method_share_a_graph_and_no_method_is_left_eager(tiny, tmp_path, data, monkeypatch):
    """torch stops compiling after some graphs of one function, with a warning only; here that is after the first."""
    graphs, compiled = [], torch.nn.Module.compile

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled(self, backend=count))
    runs = {run.label: run for run in plan(suites.load(tiny(arms=["none", "inv_sqrt2", "constant"], compile=True))) if run.role == "paired"}
    counts = []
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=False):
        for i, method in enumerate(("none", "inv_sqrt2", "constant", "none")):
            folder = tmp_path / str(i)
            folder.mkdir()
            trainer = Trainer(runs[method], folder, data)
            trainer._compile()
            trainer.log.close()
            counts.append(len(graphs))
    torch.compiler.reset()
    assert counts == [1, 2, 3, 3]


# Several processes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_draw_the_same_and_agree(tiny, tmp_path, data, accumulate):
    """The same spec on one process and on two (gloo): the same images, times and noise; losses to 1e-4 over 20 steps."""
    keys = dict(budget=640, arms=["none"], evaluation={"count": 2, "samples": 128, "sampler": "dpmpp-2m", "steps": 2,
                                                       "extractor": "small-conv", "repeats": 0})
    found = {}
    for processes in (1, 2):
        name = f"on{processes}"
        path = tiny(name=name, processes=processes, accumulate=accumulate if processes == 2 else 1, **keys)
        assert run_suite(suites.load(path), tmp_path, data, "role=pilot,seed=100", 1, None) == 0
        (folder,) = [f for f in (tmp_path / name).iterdir() if "-s100-" in f.name]
        found[processes] = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    one, two = ([event for event in found[n] if event["event"] in ("train", "eval")] for n in (1, 2))
    assert [event["images"] for event in one] == [event["images"] for event in two]
    assert len([e for e in one if e["event"] == "train"]) == 20
    for a, b in zip(one, two, strict=True):
        assert a.get("draws") == b.get("draws")
        if a["event"] == "train":
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        else:
            assert float(b["fid"]) == pytest.approx(float(a["fid"]), rel=1e-2)


def test_a_killed_run_on_two_processes_resumes(tiny, tmp_path, data):
    """Its checkpoint and log are rank 0's; what is cut off is trained again."""
    path = tiny(name="two", processes=2, budget=320, arms=["none"], checkpoints=5)
    runs = plan(suites.load(path))
    assert run_suite(suites.load(path), tmp_path, data, "role=pilot,seed=100", 1, None) == 0
    run = next(run for run in runs if run.spec["seed"] == 100)
    folder = run.folder(tmp_path)
    whole = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    (folder / "result.json").unlink()
    newest = sorted((folder / "checkpoints").glob("*"))
    for file in newest:
        if file.name.startswith(max(f.name for f in newest)[:12]):
            file.unlink()
    assert run_suite(suites.load(path), tmp_path, data, "role=pilot,seed=100", 1, None) == 0
    again = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]

    def numbers(events):
        return [(e["event"], e["images"], e.get("loss"), e.get("fid")) for e in events if e["event"] != "resume"]

    assert numbers(again) == numbers(whole) and any(e["event"] == "resume" for e in again)


def test_ranks_leave_with_their_worker(tiny, tmp_path, data):
    """A scheduler that lost sight of them would let them train on. What they leave is taken up; what is done is no failure."""
    path = tiny(name="left", processes=2, budget=3200, arms=["none"], checkpoints=20)
    run = next(run for run in plan(suites.load(path)) if run.spec["seed"] == 100)
    folder = run.folder(tmp_path)
    worker = multiprocessing.get_context("spawn").Process(target=ranks.launch, args=(run, path, tmp_path, data))
    worker.start()
    until = time.monotonic() + 120
    while not list((folder / "checkpoints").glob("*.pt")):
        assert worker.is_alive() and time.monotonic() < until
        time.sleep(0.05)
    owner = json.loads((folder / "lock").read_text())["pid"]
    with pytest.raises(Locked, match="in use by another process"):
        ranks.launch(run, path, tmp_path, data)
    worker.kill()
    worker.join()
    while lock.started(owner):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not (folder / "result.json").exists()
    for _ in range(2):  # the second time there is nothing left to do
        ranks.launch(run, path, tmp_path, data)
        log = (folder / "events.jsonl").read_text()
        assert log.count('"event": "resume"') == 1 and log.count('"event": "end"') == 1


def test_processes_must_divide_the_batch(tiny):
    with pytest.raises(ValueError, match="processes: 3 does not fit; batch 32 is no multiple of 3"):
        suites.load(tiny(processes=3))
    with pytest.raises(ValueError, match="accumulate: 5 does not fit; batch 32 is no multiple of 10"):
        suites.load(tiny(processes=2, accumulate=5))
    assert yaml.safe_load(open(tiny(processes=2)))["processes"] == 2


@pytest.mark.parametrize(("device", "units", "threads", "processes", "workers"), [
    ("cpu", 8, 1, 1, 8), ("cpu", 8, 2, 2, 2), ("cpu", 2, 1, 4, 1), ("cuda", 8, 1, 1, 8), ("cuda", 8, 4, 2, 4), ("cuda", 1, 1, 2, 1)])
def test_workers_leave_room_for_the_processes_of_a_run(tiny, monkeypatch, device, units, threads, processes, workers):
    monkeypatch.setattr(runner.os, "sched_getaffinity", lambda _: set(range(units)), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: units)
    suite = suites.load(tiny(device=device, threads=threads, processes=processes))
    assert runner.default_workers(suite) == workers


def test_each_worker_sees_the_gpus_of_its_own_runs(tiny, monkeypatch, tmp_path):
    """One for each process of a run, no two workers the same."""
    begun = []
    context = type("Context", (), {"Process": lambda self, target, args, daemon: begun.append(args[0]) or type("Process", (), {"start": lambda self: None})()})
    monkeypatch.setattr(runner.multiprocessing, "get_context", lambda _: context())
    runner.Pool(suites.load(tiny(device="cuda", processes=2)), tmp_path, tmp_path, None, 2)
    runner.Pool(suites.load(tiny()), tmp_path, tmp_path, None, 2)
    assert [list(gpus) for gpus in begun] == [[0, 1], [2, 3], [], []]
    monkeypatch.setattr(runner.worker, "work", lambda *_: 0)
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "before")
    for gpus, seen in ((range(0), "before"), (range(2, 4), "2,3")):
        with pytest.raises(SystemExit):
            runner._enter(gpus, "s", tmp_path, tmp_path, None)
        assert runner.os.environ["CUDA_VISIBLE_DEVICES"] == seen
