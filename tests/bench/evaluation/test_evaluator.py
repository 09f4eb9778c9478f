"""An evaluation: conditions and noise are the cell's, the model is left as it was, images are kept as a grid."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
import models
from bench.diffusion import schedules
from bench.evaluation.evaluator import Evaluator, conditions, save_grid, thumbnails
from bench.planning import costs, suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Diffusion
from bench.training.warning import Leaving
from datasets import Store

CELLS = {"digits": "unet-xs", "shapes": "unet-xs-class", "scenes": "uvit-xs-t2i"}
EVALUATION = {"count": 2, "samples": 128, "sampler": "dpmpp-2m", "steps": 2, "extractor": "small-conv", "repeats": 0}
TEXT = {"unconditional": 0.1, "diffusion": {"schedule": "sd-discrete"}, "evaluation": EVALUATION | {"guidance": 0.5}}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {name: datasets.prepare(name, folder) for name in CELLS}


@pytest.fixture
def specs(tiny):
    """specs(name): of all arms of seed 1."""

    def of(name):
        keys = {"cells": [{"dataset": name, "backbone": CELLS[name]}], "evaluation": EVALUATION}
        runs = plan(suite_file.load(tiny(**keys | (TEXT if name == "scenes" else {}))))
        return [run.spec for run in runs if run.role == "paired" and run.spec.seed == 1]

    return of


def evaluator(spec, store, **changes):
    spec = spec.but(evaluation=spec.evaluation.model_dump() | changes)
    return Evaluator(spec, store, store.path.parent)


class Recorded(torch.nn.Module):
    """Predicts no noise, and keeps the conditions it is given; or something else in its `act`."""

    def __init__(self, act=None):
        super().__init__()
        self.act, self.conditions = act, []

    def forward(self, x, t, condition=None):
        self.conditions.append(condition)
        return self.act(x) if self.act else torch.zeros_like(x)


def test_prompts_follow_the_training_frequency_and_come_from_val(stores):
    shapes = stores["shapes"]
    rare = Store(shapes.path, shapes.manifest)
    rare.__dict__["labels"] = np.array([0] * 90 + [5] * 10)
    labels = conditions(rare, 4000, torch.Generator().manual_seed(0))
    assert set(labels.tolist()) == {0, 5} and (labels == 5).float().mean() == pytest.approx(0.1, abs=0.02)
    texts = conditions(stores["scenes"], 8, torch.Generator().manual_seed(0)).half().numpy()
    assert all((stores["scenes"].val_texts == text).all(axis=(1, 2)).any() for text in texts)
    assert conditions(stores["digits"], 8, torch.Generator()) is None


@pytest.mark.parametrize("name", ["shapes", "scenes"])
def test_samples_depend_on_the_condition_and_arms_share_it(specs, stores, name):
    asked = []
    for spec in specs(name):
        model = Recorded()
        evaluator(spec, stores[name]).sample(model, 0, 0)
        asked.append(model.conditions[0])
    assert len(asked) == 2 and torch.equal(*asked) and len(asked[0]) == (256 if name == "scenes" else 128)
    assert not torch.equal(asked[0][:64], asked[0][64:128])
    if name == "scenes":  # guidance asks with the empty prompt too
        assert (asked[0][128:].half().numpy() == stores[name].empty).all()


def test_more_samples_do_not_change_the_first_ones(specs, stores):
    fewer, more = (evaluator(specs("shapes")[0], stores["shapes"], samples=samples) for samples in (100, 300))
    model = models.build("unet-xs-class", image_size=12, seeds=(0, 0)).eval()
    with torch.inference_mode():
        a, b, c = fewer.sample(model, 0, 0), more.sample(model, 0, 0), more.sample(model, 0, 256)
    assert len(a) == 100 and len(b) == 256 and len(c) == 44
    assert torch.allclose(a, b[:100], atol=1e-4)


def test_each_repeat_has_noise_of_its_own(specs, stores):
    found = evaluator(specs("digits")[0], stores["digits"])
    first, again, other = (found(Recorded(), repeat) for repeat in (0, 0, 1))
    assert first.kernel_distance == again.kernel_distance != other.kernel_distance
    assert first.distance == again.distance != other.distance and torch.equal(first.grid, again.grid)
    assert first.grid.shape == (64, 1, 8, 8) and first.grid.dtype == torch.uint8
    assert first.sample_seconds > 0 and first.feature_seconds > 0


def test_samples_that_are_not_finite_have_no_distance(specs, stores):
    found = evaluator(specs("digits")[0], stores["digits"])(Recorded(lambda x: x * math.nan))
    assert math.isnan(found.distance) and math.isnan(found.kernel_distance) and found.grid.shape == (64, 1, 8, 8)


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_the_mode_of_a_model_as_it_was_even_if_it_is_broken_off(specs, stores, training):
    found, modes = evaluator(specs("digits")[0], stores["digits"]), []
    model = Recorded(lambda x: modes.append(model.training) or torch.zeros_like(x)).train(training)
    found(model)
    assert modes == [False, False] and model.training is training

    def leave(x):
        raise Leaving

    model.act = leave
    with pytest.raises(Leaving):
        found(model)
    assert model.training is training


def test_clipping_bounds_samples(specs, stores):
    plain, clipped = (evaluator(specs("digits")[0], stores["digits"], clip=clip) for clip in (False, True))
    noise = Recorded(lambda x: -20 * torch.ones_like(x))
    assert float(plain.sample(noise, 0, 0).abs().max()) > 2 > 1.1 > float(clipped.sample(noise, 0, 0).abs().max())


def test_guidance_of_weight_zero_is_the_condition_alone():
    torch.manual_seed(0)
    model = models.build("uvit-xs-t2i").eval()
    x, t, schedule = torch.randn(4, 4, 8, 8), torch.rand(4), schedules.schedule(Diffusion(schedule="sd-discrete"))
    text, empty = torch.randn(4, 12, 32), torch.randn(4, 12, 32)
    plain = schedules.epsilon(model, schedule, text)(x, t)
    without = schedules.epsilon(model, schedule, empty)(x, t)
    assert torch.allclose(schedules.guided(model, schedule, text, empty, 0.0)(x, t), plain, atol=1e-5)
    assert torch.allclose(schedules.guided(model, schedule, text, empty, 1.0)(x, t), 2 * plain - without, atol=1e-4)


def test_a_grid_shows_the_images_as_they_are(tmp_path):
    images = torch.randint(0, 256, (64, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_grid(tmp_path / "new" / "grid.png", images)
    shown = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert shown.shape == (49, 49, 3) and (shown[0] == 255).all()
    assert (shown[7:12, 1:6] == images[8].permute(1, 2, 0).numpy()).all()  # the ninth begins the second row


@pytest.mark.parametrize(("side", "kept"), [(8, (64, 8)), (32, (64, 32)), (64, (16, 64)), (256, (16, 64))])
def test_what_is_kept_of_large_samples_is_small(side, kept):
    """30 evaluations of 108 runs at 256 pixels would take 23 GB."""
    images = torch.full((64, 3, side, side), 77, dtype=torch.uint8)
    small = thumbnails(images)
    assert (len(small), small.shape[-1]) == kept and small.dtype == torch.uint8 and (small == 77).all()
    assert small.numel() <= costs.GRID
