"""Images, latents, labels and captions reach training by position alone, the same for every arm."""

import json
import time
from functools import cache

import numpy as np
import pytest
import torch

import datasets
import models
from bench.diffusion import schedules
from bench.diffusion.batches import Batches
from bench.diffusion.random_streams import RandomStreams
from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Diffusion
from bench.training.trainer import Trainer, train_run
from datasets import Dataset, Store, Writer, codecs

CELLS = {"patches": "uvit-xs-16", "shapes": "unet-xs-class", "scenes": "uvit-xs-t2i"}
LINEAR = schedules.schedule(Diffusion())
DISCRETE = schedules.schedule(Diffusion(schedule="sd-discrete"))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {name: datasets.prepare(name, folder) for name in CELLS}


@cache
def smoke():
    return plan(suite_file.load("smoke"))[0].spec


def batches(store, size=64, seed=0, schedule=LINEAR, flip=False, unconditional=0.0, backbone="uvit-xs"):
    spec = smoke().but(batch=size, flip=flip, unconditional=unconditional, backbone=backbone)
    return Batches(spec, store, RandomStreams(store.manifest["name"], "b", seed), schedule)


def same(a, b):
    pairs = [(getattr(a, key), getattr(b, key)) for key in ("x", "t", "noise", "condition")]
    return all(torch.equal(x, y) for x, y in pairs if x is not None) and a.digest == b.digest


@pytest.mark.parametrize("name", CELLS)
def test_a_batch_depends_on_its_position_only(stores, name):
    first = batches(stores[name])
    taken = [first.draw(position) for position in (0, 64, 128)]
    assert same(batches(stores[name]).draw(128), taken[2])
    assert not torch.equal(taken[0].x, taken[1].x) and taken[0].digest != taken[1].digest
    assert not torch.equal(batches(stores[name], seed=1).draw(0).x, taken[0].x)


@pytest.mark.parametrize("name", CELLS)
def test_the_parts_of_a_batch_are_the_batch(stores, name):
    whole = batches(stores[name]).draw(0)
    parts = [whole.part(index, 4) for index in range(4)]
    for key in ("x", "t", "noise", "condition"):
        if getattr(whole, key) is None:
            assert all(getattr(part, key) is None for part in parts)
        else:
            assert torch.equal(torch.cat([getattr(part, key) for part in parts]), getattr(whole, key))
    assert len(parts[0].x) == 16 and same(whole.part(0, 1), whole)


@pytest.mark.parametrize("size", [16, 64, 96])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", CELLS)
def test_ranks_draw_their_slices_of_the_same_batch(stores, name, ranks, size):
    """Whatever the number of ranks, also where a slice ends in the midst of a block of draws."""
    source = batches(stores[name], size, flip=name == "patches", unconditional=0.3 * (name == "scenes"))
    whole = source.draw(size)
    slices = [source.draw(size, rank, ranks) for rank in range(ranks)]
    for key in ("x", "t", "noise", "condition"):
        if getattr(whole, key) is not None:
            assert torch.equal(torch.cat([getattr(one, key) for one in slices]), getattr(whole, key)), key
    assert {one.digest for one in slices} == {whole.digest}


def test_half_of_the_images_are_mirrored(stores):
    plain, flipped = batches(stores["patches"], 512).draw(0), batches(stores["patches"], 512, flip=True).draw(0)
    pairs = list(zip(flipped.x, plain.x, strict=True))
    mirrored = [torch.equal(a, b.flip(-1)) and not torch.equal(a, b) for a, b in pairs]
    kept = [torch.equal(a, b) for a, b in pairs]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True)) and 200 < sum(mirrored) < 312


def test_labels_belong_to_their_images(stores):
    batch = batches(stores["shapes"]).draw(0)
    images = ((batch.x + 1) * 127.5).round().byte().numpy()
    for image, label in zip(images, batch.condition.tolist(), strict=True):
        (found,) = np.flatnonzero((stores["shapes"].images == image).all(axis=(1, 2, 3)))[:1]
        assert stores["shapes"].labels[found] == label
    assert batch.condition.dtype == torch.long


def test_latents_are_sampled_anew_around_their_mean_and_scaled(stores):
    store = stores["scenes"]
    one = Store(store.path, store.manifest | {"count": 1})  # the same image again and again
    batch = batches(one, 4000).draw(0)
    mean, log_variance = np.split(np.array(store.moments[0], dtype=np.float64), 2)
    assert np.allclose(batch.x.mean(0) / store.codec.scale, mean, atol=4e-3)
    assert np.allclose(batch.x.std(0) / store.codec.scale, np.exp(0.5 * log_variance), rtol=0.1)


def test_each_caption_of_an_image_is_drawn_and_some_are_left_out(stores):
    store = stores["scenes"]
    one = Store(store.path, store.manifest | {"count": 1})
    condition = batches(one, 3000, unconditional=0.1).draw(0).condition.half().numpy()
    shares = [(condition == text).all(axis=(1, 2)).mean() for text in (*store.texts[:3], store.empty)]
    assert sum(shares) == pytest.approx(1) and shares[3] == pytest.approx(0.1, abs=0.02)
    assert all(share == pytest.approx(0.3, abs=0.03) for share in shares[:3])


def test_labels_are_left_out_where_the_backbone_has_a_null_class(stores):
    """A tenth of them; all others, and the images, are those of a run that leaves none out."""
    whole, some, never = (
        batches(stores["shapes"], 3000, backbone=backbone, unconditional=share).draw(0)
        for backbone, share in (("dit-xs-class", 0.0), ("dit-xs-class", 0.1), ("uvit-xs-class", 0.1))
    )
    left_out = some.condition == 12
    assert float(left_out.float().mean()) == pytest.approx(0.1, abs=0.02) and int(whole.condition.max()) == 11
    assert torch.equal(some.condition[~left_out], whole.condition[~left_out]) and torch.equal(some.x, whole.x)
    assert torch.equal(never.condition, whole.condition) and some.condition.dtype == torch.long


def test_discrete_times_are_the_thousand_steps(stores):
    batch = batches(stores["scenes"], 5000, schedule=DISCRETE).draw(0)
    steps = DISCRETE.network_time(batch.t)
    assert torch.allclose(steps, steps.round(), atol=1e-4) and steps.min() >= 0 and steps.max() <= 999
    assert len(steps.round().unique()) > 980


@pytest.mark.parametrize(("preset", "shape"), [("uvit-s-2", (3, 32, 32)), ("uvit-s-2-t2i", (4, 32, 32))])
def test_reading_costs_under_three_percent_of_the_smallest_published_step(tmp_path, preset, shape):
    """Processor time of drawing a batch, captions and latent noise included, against forward and backward alone."""
    latents, bits = shape[0] == 4, np.random.default_rng(0)
    dataset = Dataset("random", shape, "", "", lambda *_: None, context=(77, 768) if latents else None)
    with Writer(tmp_path, dataset) as writer:
        writer.count = 512
        writer.write("images", bits.integers(0, 256, (512, *shape), dtype=np.uint8))
        if latents:
            writer.write("moments", np.zeros((512, 8, *shape[1:]), np.float16))
            writer.write("texts", np.zeros((512, 77, 768), np.float16))
            writer.write("empty", np.zeros((77, 768), np.float16))
            writer.write("first", np.arange(513))
            codec = codecs.Blocks(np.eye(4, 12), np.zeros(12), 1.0)
            codec.save(writer.path)
            writer.facts["codec"] = codec.facts
    source = batches(Store.open(tmp_path, "random"), 4, flip=not latents, unconditional=0.1 * latents)
    model = models.build(preset)

    def step(position):
        batch = source.draw(0)
        schedules.loss(model, LINEAR, batch.x, batch.t, batch.noise, batch.condition).backward()

    def seconds(work, times):
        work(0)
        began = time.process_time()
        for position in range(times):
            work(4 * position)
        return (time.process_time() - began) / times

    assert seconds(source.draw, 50) < 0.03 * seconds(step, 1)


# Whole runs -----------------------------------------------------------------------------------------------------------

EVALUATION = {"count": 2, "samples": 128, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv", "repeats": 0}
TEXT = {"unconditional": 0.1, "diffusion": {"schedule": "sd-discrete"}, "evaluation": EVALUATION | {"guidance": 0.5}}


def tiny_run(tiny, name, **changes):
    keys = {"budget": 128, "batch": 32, "cells": [{"dataset": name, "backbone": CELLS[name]}], "evaluation": EVALUATION}
    return plan(suite_file.load(tiny(**keys | (TEXT if name == "scenes" else {}) | changes)))[3]


def events(run, root):
    return [json.loads(line) for line in run.folder(root).events.read_text().splitlines()]


@pytest.mark.parametrize("name", CELLS)
def test_every_condition_runs_end_to_end(tiny, tmp_path, stores, name):
    run = tiny_run(tiny, name)
    assert train_run(run, tmp_path, stores[name].path.parent) == "complete"
    start, *_ = log = events(run, tmp_path)
    last = [event for event in log if event["event"] == "eval"][-1]
    assert float(last["fid"]) > 0 and last["nfe"] == (4 if name == "scenes" else 2)
    assert start["reference_size"] == len(stores[name].reference)
    assert list(run.folder(tmp_path).samples.glob("*.png"))


def test_a_killed_latent_run_resumes_to_the_same_bits(tiny, tmp_path, stores, monkeypatch):
    data, run = stores["scenes"].path.parent, tiny_run(tiny, "scenes", checkpoints=2)
    train_run(run, tmp_path / "calm", data)
    step = Trainer.step

    def dies(self):
        if self.images >= 96:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, tmp_path / "killed", data)
    monkeypatch.undo()
    train_run(run, tmp_path / "killed", data)

    def numbers(root):
        log = [event for event in events(run, root) if event["event"] != "resume"]
        return [[event.get(key) for key in ("event", "images", "loss", "fid", "draws")] for event in log]

    assert numbers(tmp_path / "calm") == numbers(tmp_path / "killed")
