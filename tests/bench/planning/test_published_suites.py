"""The suites of published settings: planned, matched, and every cell trains on miniature originals.

Changed are: two images a batch, the CPU in fp32. The networks of `paper` are of the same kind and levels, narrow and
shallow, and sample 64 images in two steps (distances need Inception's weights and ten thousand). Those of `small` train
two steps at their published size, on CIFAR-10 with the method of every arm, the smallest of `skip-dit-imagenet` three.
All else is as written.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch

import datasets
import models
from bench.evaluation import features, frechet
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.training.trainer import Trainer
from datasets import Options
from models import zoo
from models.uvit import UViTConfig
from reports.records.run_folder import RunFolder

sys.path.append(str(Path(__file__).parents[2] / "datasets"))
import miniatures

SUITES = {name: load(name) for name in ("small", "paper", "skip-dit-imagenet")}
CELLS = [(name, cell.name, "learnable") for name in ("small", "paper") for cell in SUITES[name].cells]
CELLS += [("small", cell, arm) for _, cell, _ in CELLS[:2] for arm in SUITES["small"].arms if arm != "learnable"]
CELLS += [("skip-dit-imagenet", "imagenet256/dit-s-2", arm) for arm in ("plain", "norm_cat")]
STEPS = {"small": 2, "paper": 4, "skip-dit-imagenet": 3}


def narrowed(config: models.Config) -> models.Config:
    """The same kind of network with a hundredth of its parameters."""
    if isinstance(config, UViTConfig):
        return dataclasses.replace(config, width=32, depth=4, heads=2)
    return dataclasses.replace(config, channels=16, blocks=1, heads=1, groups=4)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Prepares the miniature originals of a dataset, once."""
    folder = tmp_path_factory.mktemp("published")

    def made(name: str) -> Path:
        source = folder / name
        if datasets.get(name).networks:
            pytest.importorskip("diffusers", reason="the extra is not installed: make latent")
        if not source.exists():
            source.mkdir()
            options = Options(source, partial=True, workers=1)
            if needed := datasets.get(name).networks:
                networks = folder / f"{name}-networks"
                networks.mkdir()
                made = map(str, miniatures.latent_networks(networks))
                found = dict(zip(("autoencoder", "text_encoder"), made, strict=True))
                options = dataclasses.replace(options, **{key: found[key] for key in needed})
            write = {
                "cifar10": miniatures.cifar10,
                "celeba64": miniatures.celeba,
                "imagenet64": miniatures.imagenet_folder,
                "imagenet256": miniatures.imagenet_folder,
                "coco256": miniatures.coco,
            }
            write[name](source)
            datasets.prepare(name, folder / "data", options)
        return folder / "data"

    return made


@pytest.mark.parametrize(("suite", "cell", "arm"), CELLS, ids=["-".join(cell).replace("/", "-") for cell in CELLS])
def test_a_cell_trains_and_samples(suite, cell, arm, originals, tmp_path, monkeypatch):
    run = next(run for run in plan(SUITES[suite]) if run.spec.cell == cell and run.label == arm)
    backbone = run.spec.backbone
    if suite == "paper":
        monkeypatch.setitem(zoo.PRESETS, backbone, narrowed(zoo.PRESETS[backbone]))
    evaluation = run.spec.evaluation.model_dump() | {"samples": 64, "steps": 2}
    spec = run.spec.but(batch=2, device="cpu", precision="fp32", compile=False, evaluation=evaluation)
    run = dataclasses.replace(run, spec=spec)
    monkeypatch.setattr(features, "load", lambda *_, **__: None)
    monkeypatch.setattr(frechet, "reference", lambda *_: None)
    trainer = Trainer(run, RunFolder(tmp_path), originals(run.spec.dataset))
    losses = [float(trainer.step()) for _ in range(STEPS[suite])]
    trainer.log.close()
    assert all(map(math.isfinite, losses))
    gradients = {
        name: parameter.grad for name, parameter in trainer.model.named_parameters() if parameter.requires_grad
    }
    assert not [name for name, gradient in gradients.items() if gradient is None]  # every part is trained
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    if suite != "paper":
        return
    with torch.inference_mode():
        images = trainer.evaluator.sample(trainer.ema.eval(), 0, 0)
    assert images.shape == (64, *trainer.store.reference.shape[1:]) and bool(images.isfinite().all())


def test_paper_has_the_published_recipe():
    """FACTS of the U-ViT repository: steps, batch, learning rate, betas, warm-up in steps, decay per step."""
    wanted = {
        "cifar10": (500_000, 128, 2e-4, [0.99, 0.999], 2500),
        "celeba64": (500_000, 128, 2e-4, [0.99, 0.99], 5000),
        "imagenet64": (300_000, 1024, 3e-4, [0.99, 0.99], 5000),
        "coco256": (1_000_000, 256, 2e-4, [0.9, 0.9], 5000),
    }
    for run in plan(load("paper")):
        spec = run.spec
        optimizer, coco = spec.optimizer, spec.dataset == "coco256"
        warmup = round(optimizer.warmup * spec.steps)
        assert (spec.steps, spec.batch, optimizer.lr, optimizer.betas, warmup) == wanted[spec.dataset]
        assert optimizer.weight_decay == 0.03 and len(spec.evaluation.images) == 30
        assert 0.5 ** (1 / (spec.ema.half_life * spec.steps)) == pytest.approx(0.9999, abs=1e-8)
        assert spec.flip is not coco and (spec.diffusion.schedule == "sd-discrete") is coco


def test_skip_dit_has_the_published_recipe():
    """Of the training code of DiT and Skip-DiT: steps, batch, optimizer, label dropout, schedule, decay per step."""
    for run in plan(load("skip-dit-imagenet")):
        spec, optimizer = run.spec, run.spec.optimizer
        assert (spec.steps, spec.batch, spec.unconditional) == (400_000, 256, 0.1)
        assert (optimizer.lr, optimizer.weight_decay, optimizer.warmup, optimizer.betas) == (1e-4, 0, 0, [0.9, 0.999])
        assert (spec.diffusion.schedule, spec.diffusion.beta_min, spec.diffusion.beta_max) == (
            "ddpm-linear",
            1e-4,
            2e-2,
        )
        assert 0.5 ** (1 / (spec.ema.half_life * spec.steps)) == pytest.approx(0.9999, abs=1e-8)
        assert not spec.flip and spec.dropout is None


@pytest.mark.parametrize("name", ["skip-dit", "skip-dit-imagenet"])
def test_what_skips_are_worth_is_asked_of_a_baseline_without(name):
    """Pilots, null arm and noise floor too; `none` is what they are worth."""
    suite = load(name)
    assert suite.baseline == "plain" and {"none", "constant"} < set(suite.arms)
    others = [run for run in plan(suite) if run.role in ("pilot", "null", "floor")]
    assert {run.label for run in others} == {suite.baseline} and len(suite.seeds.paired) == 6


def test_paper_covers_four_datasets_both_backbones_and_six_seeds():
    suite = load("paper")
    backbones = {(cell.dataset, models.config(cell.backbone).__class__.__name__) for cell in suite.cells}
    assert backbones == {
        (name, kind)
        for name in ("cifar10", "celeba64", "imagenet64", "coco256")
        for kind in ("UViTConfig", "UNetConfig")
    }
    assert len(suite.seeds.paired) == 6 and suite.arms == ["none", "inv_sqrt2", "constant", "learnable"]


@pytest.mark.parametrize("name", ["mini", "small", "paper"])
def test_unets_are_within_a_tenth_of_their_partner(name):
    sizes: dict[str, dict[str, int]] = {}
    for cell in load(name).cells:
        shape = datasets.get(cell.dataset).shape
        with torch.device("meta"):
            model = models.build(cell.backbone, in_channels=shape[0], out_channels=shape[0], image_size=shape[1])
        sizes.setdefault(cell.dataset, {})[cell.backbone] = sum(p.numel() for p in model.parameters())
    for dataset, of in sizes.items():
        unet = next(size for backbone, size in of.items() if backbone.startswith("unet"))
        assert any(abs(unet / size - 1) <= 0.1 for backbone, size in of.items() if backbone.startswith("uvit")), dataset
