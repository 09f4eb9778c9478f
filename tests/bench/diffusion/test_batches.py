"""Images, latents, labels and captions reach training and sampling, by position alone, the same for every arm."""

import json
import time

import numpy as np
import pytest
import torch

import datasets
import models
from bench.diffusion import schedules as diffusion
from bench.evaluation import evaluator as evaluate
from bench.planning import suite as suites
from bench.diffusion.batches import Batches, Prompts
from bench.diffusion.schedules import SDDiscrete, VPSDE
from bench.evaluation.evaluator import Evaluator
from bench.planning.plan import plan
from bench.diffusion.random_streams import Streams
from bench.training.trainer import Trainer, execute
from datasets import Dataset, Store, Writer, codecs

CELLS = {"patches": "uvit-xs-16", "shapes": "unet-xs-class", "scenes": "uvit-xs-t2i"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {name: datasets.prepare(name, folder) for name in CELLS}


def batches(store, size=64, seed=0, schedule=None, **changes):
    spec = {"batch": size, "flip": False, "unconditional": 0.0, **changes}
    return Batches(spec, store, Streams(store.manifest["name"], "b", seed), schedule or VPSDE())


def same(a, b):
    return all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("x", "t", "noise", "condition")
               if getattr(a, key) is not None)


@pytest.mark.parametrize("name", CELLS)
def test_a_batch_depends_on_its_position_only(stores, name):
    first = batches(stores[name])
    taken = [first.draw(position) for position in (0, 64, 128)]
    assert same(batches(stores[name]).draw(128), taken[2])
    assert not torch.equal(taken[0].x, taken[1].x) and taken[0].drawn != taken[1].drawn
    assert not torch.equal(batches(stores[name], seed=1).draw(0).x, taken[0].x)


def test_half_of_the_images_are_mirrored(stores):
    plain, flipped = batches(stores["patches"], 512).draw(0), batches(stores["patches"], 512, flip=True).draw(0)
    mirrored = [bool(torch.equal(a, b.flip(-1)) and not torch.equal(a, b)) for a, b in zip(flipped.x, plain.x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped.x, plain.x, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True)) and 200 < sum(mirrored) < 312


def test_labels_belong_to_their_images(stores):
    drawn = batches(stores["shapes"]).draw(0)
    images = ((drawn.x + 1) * 127.5).round().byte().numpy()
    for image, label in zip(images, drawn.condition.tolist(), strict=True):
        (found,) = np.flatnonzero((stores["shapes"].images == image).all(axis=(1, 2, 3)))[:1]
        assert stores["shapes"].labels[found] == label
    assert drawn.condition.dtype == torch.long


def test_latents_are_sampled_anew_around_their_mean_and_scaled(stores):
    store = stores["scenes"]
    one = Store(store.path, store.manifest | {"count": 1})  # the same image again and again
    drawn = batches(one, 4000).draw(0)
    mean, log_variance = np.split(np.array(store.moments[0], dtype=np.float64), 2)
    assert np.allclose(drawn.x.mean(0) / store.codec.scale, mean, atol=4e-3)
    assert np.allclose(drawn.x.std(0) / store.codec.scale, np.exp(0.5 * log_variance), rtol=0.1)


def test_each_caption_of_an_image_is_drawn_and_some_are_left_out(stores):
    store = stores["scenes"]
    one = Store(store.path, store.manifest | {"count": 1})
    drawn = batches(one, 3000, unconditional=0.1).draw(0).condition.half().numpy()
    shares = [(drawn == text).all(axis=(1, 2)).mean() for text in (*store.texts[:3], store.empty)]
    assert sum(shares) == pytest.approx(1) and shares[3] == pytest.approx(0.1, abs=0.02)
    assert all(share == pytest.approx(0.3, abs=0.03) for share in shares[:3])


def test_discrete_times_are_the_thousand_steps(stores):
    drawn = batches(stores["scenes"], 5000, schedule=SDDiscrete()).draw(0)
    steps = SDDiscrete().network_time(drawn.t)
    assert torch.allclose(steps, steps.round(), atol=1e-4) and steps.min() >= 0 and steps.max() <= 999
    assert len(steps.round().unique()) > 980


def test_prompts_follow_the_training_frequency_and_come_from_val(stores):
    shapes = stores["shapes"]
    rare = Store(shapes.path, shapes.manifest)
    rare.__dict__["labels"] = np.array([0] * 90 + [5] * 10)
    labels = Prompts(rare).draw(4000, torch.Generator().manual_seed(0))
    assert set(labels.tolist()) == {0, 5} and (labels == 5).float().mean() == pytest.approx(0.1, abs=0.02)
    texts = Prompts(stores["scenes"]).draw(8, torch.Generator().manual_seed(0)).half().numpy()
    assert all((stores["scenes"].val_texts == text).all(axis=(1, 2)).any() for text in texts)


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
        diffusion.loss(model, VPSDE(), batch.x, batch.t, batch.noise, batch.condition).backward()

    def seconds(work, times):
        work(0)
        began = time.process_time()
        for position in range(times):
            work(4 * position)
        return (time.process_time() - began) / times

    assert seconds(source.draw, 50) < 0.03 * seconds(step, 1)


# Whole runs ------------------------------------------------------------------------------------------------------------


def tiny_run(tiny, name, **changes):
    evaluation = {"count": 2, "samples": 128, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv", "repeats": 0}
    keys = {"budget": 128, "batch": 32, "cells": [{"dataset": name, "backbone": CELLS[name]}]}
    if name == "scenes":
        keys |= {"unconditional": 0.1, "diffusion": {"schedule": "sd-discrete"}}
        evaluation |= {"guidance": 0.5}
    return plan(suites.load(tiny(evaluation=evaluation, **keys, **changes)))


@pytest.mark.parametrize("name", CELLS)
def test_every_condition_runs_end_to_end(tiny, tmp_path, stores, name):
    data = stores[name].path.parent
    run = tiny_run(tiny, name)[3]
    assert execute(run, tmp_path, data) == "complete"
    events = [json.loads(line) for line in (run.folder(tmp_path) / "events.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "eval"][-1]
    assert float(last["fid"]) > 0 and last["nfe"] == (4 if name == "scenes" else 2)
    assert events[0]["reference_size"] == len(stores[name].reference)
    assert list((run.folder(tmp_path) / "samples").glob("*.png"))


@pytest.mark.parametrize("name", ["shapes", "scenes"])
def test_samples_depend_on_the_condition_and_arms_share_it(tiny, tmp_path, stores, name, monkeypatch):
    data = stores[name].path.parent
    runs = [run for run in tiny_run(tiny, name) if run.role == "paired" and run.spec["seed"] == 1]
    asked = []

    def record(self, model, condition):
        asked.append(condition)
        return lambda x, t: torch.zeros_like(x)

    monkeypatch.setattr(evaluate.Evaluator, "_epsilon", record)
    for run in runs:
        Evaluator(run.spec, stores[name], data).sample(torch.nn.Identity(), 0, 0)
    assert len(asked) == 2 and torch.equal(*asked) and len(asked[0]) == 128
    assert not torch.equal(asked[0][:64], asked[0][64:])


def test_more_samples_do_not_change_the_first_ones(tiny, stores):
    run = tiny_run(tiny, "shapes")[3]
    data = stores["shapes"].path.parent
    fewer, more = (Evaluator(run.spec | {"evaluation": run.spec["evaluation"] | {"samples": samples}}, stores["shapes"], data)
                   for samples in (100, 300))
    model = models.build("unet-xs-class", image_size=12, seeds=(0, 0)).eval()
    with torch.inference_mode():
        a, b = fewer.sample(model, 0, 0), more.sample(model, 0, 0)
        c = more.sample(model, 0, 256)
    assert len(a) == 100 and len(b) == 256 and len(c) == 44
    assert torch.allclose(a, b[:100], atol=1e-4)


def test_guidance_of_weight_zero_is_the_condition_alone(stores):
    torch.manual_seed(0)
    model = models.build("uvit-xs-t2i").eval()
    x, t, schedule = torch.randn(4, 4, 8, 8), torch.rand(4), SDDiscrete()
    text, empty = torch.randn(4, 12, 32), torch.randn(4, 12, 32)
    plain = diffusion.epsilon(model, schedule, text)(x, t)
    without = diffusion.epsilon(model, schedule, empty)(x, t)
    assert torch.allclose(diffusion.guided(model, schedule, text, empty, 0.0)(x, t), plain, atol=1e-5)
    assert torch.allclose(diffusion.guided(model, schedule, text, empty, 1.0)(x, t), 2 * plain - without, atol=1e-4)


def test_a_killed_latent_run_resumes_to_the_same_bits(tiny, tmp_path, stores, monkeypatch):
    data = stores["scenes"].path.parent
    run = tiny_run(tiny, "scenes", checkpoints=2)[3]
    execute(run, tmp_path / "a", data)
    step = Trainer.step

    def dies(self):
        if self.images >= 96:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path / "b", data)
    monkeypatch.undo()
    execute(run, tmp_path / "b", data)

    def numbers(root):
        lines = (run.folder(tmp_path / root) / "events.jsonl").read_text().splitlines()
        return [[e.get(k) for k in ("event", "images", "loss", "fid", "draws")] for e in map(json.loads, lines)
                if e["event"] != "resume"]

    assert numbers("a") == numbers("b")
