"""The verbs `sample` and `export`: images and weights of a run, from its own record."""

import hashlib
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import datasets
from bench.cli import parser as cli
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.training.trained import Trained
from bench.training.trainer import train_run

SHORT = {"budget": 320, "arms": ["none"], "trial": True}
CELLS = {"digits": "uvit-xs", "shapes": "unet-xs-class", "scenes": "uvit-xs-t2i"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def trained(tiny, tmp_path, stores):
    """trained(dataset): the folder of a run of seed 0 that is done."""

    def train(name):
        datasets.prepare(name, stores)
        text = {"diffusion": {"schedule": "sd-discrete"}} if name == "scenes" else {}
        suite = load(tiny(cells=[{"dataset": name, "backbone": CELLS[name]}], **SHORT, **text))
        run = next(run for run in plan(suite) if run.role == "paired")
        train_run(run, tmp_path, stores)
        return run.folder(tmp_path)

    return train


def bench(*words):
    return cli.main(list(map(str, words)))


def test_seed_0_draws_what_the_last_evaluation_drew(trained, tmp_path, stores, capsys):
    folder = trained("digits")
    out = tmp_path / "own.png"
    assert bench("sample", folder.path.name, "--root", tmp_path, "--data", stores, "--out", out) == 0
    assert f"64 images (dpmpp-2m, 2 steps, seed 0), written to {out}" in capsys.readouterr().out
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(folder.sample(320))))


def test_the_same_seed_draws_the_same_images_and_another_others(trained, tmp_path, stores):
    folder, found = trained("digits"), []
    for name, words in {"a": ("--seed", 3), "b": ("--seed", 3), "c": ("--seed", 4), "d": ("--steps", 3)}.items():
        assert (
            bench("sample", folder.path, "--data", stores, "--count", 9, "--out", tmp_path / f"{name}.png", *words) == 0
        )
        found.append(hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest())
    assert found[0] == found[1] and len(set(found)) == 3
    assert Image.open(tmp_path / "a.png").size == (8 * 9 + 1, 2 * 9 + 1)


@pytest.mark.parametrize(
    ("name", "word"), [("shapes", r"(red|green|blue|yellow) (disc|square|triangle)"), ("scenes", r"a \w+ \w+ .*")]
)
def test_images_of_a_conditional_cell_stand_over_their_words(trained, tmp_path, stores, name, word):
    folder = trained(name)
    images, words = Trained.load(folder, stores).draw(70, seed=1)
    assert len(images) == len(words) == 70 and len(set(words)) > 5 and all(re.fullmatch(word, text) for text in words)
    assert bench("sample", folder.path, "--data", stores, "--count", 10, "--out", tmp_path / "x.png") == 0
    width, height = Image.open(tmp_path / "x.png").size
    assert width > 8 * 100 and height > 2 * 100


def test_the_five_lines_of_the_model_card_load_what_was_exported(trained, tmp_path, stores, monkeypatch, capsys):
    folder = trained("shapes")
    assert bench("export", folder.path.name, "--root", tmp_path, "--data", stores) == 0
    assert str(folder.export) in capsys.readouterr().out
    card = (folder.export / "README.md").read_text()
    assert "$" not in card and "Frechet distance (small-conv) | " in card and "unknown" not in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(lines.splitlines()) == 5
    x, times, condition = torch.randn(3, 3, 12, 12), torch.tensor([0.0, 5.0, 999.0]), torch.tensor([0, 3, 11])
    monkeypatch.chdir(folder.export)
    found = {"x": x, "times": times, "condition": condition}
    exec(lines, found)
    ema = load_file(folder.weights)
    assert ema.keys() == found["model"].state_dict().keys()
    assert all(torch.equal(tensor, ema[key]) for key, tensor in found["model"].state_dict().items())
    assert found["noise"].shape == x.shape


def test_a_run_without_weights_is_told_how_to_get_them(trained, tmp_path, stores, capsys):
    folder = trained("digits")
    folder.weights.unlink()
    assert bench("sample", folder.path, "--data", stores) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"python -m bench run tiny --only run={folder.path.name}" in said
