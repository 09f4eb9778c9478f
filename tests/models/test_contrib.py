"""Methods and backbones of one's own, one file each: in Python, and the README's example from the command line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import models
from models import checkpoints, contrib, weights
from models.scaling import REGISTRY
from models.theory import factors, reach
from models.zoo import PRESETS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder that stands for models/contrib; what it registered is forgotten afterwards."""
    monkeypatch.setattr(contrib, "__path__", [str(tmp_path)])
    before = [(registry, dict(registry)) for registry in (REGISTRY, PRESETS)]
    yield tmp_path
    for registry, content in before:
        registry.clear()
        registry.update(content)
    for name in [name for name in sys.modules if name.startswith("models.contrib.")]:
        del sys.modules[name]


def test_a_file_adds_a_method(own):
    """It needs no annotations: its parameters are checked by the type of their default."""
    (own / "half.py").write_text(
        'from models import Scaling, register\n\n\n@register("half")\nclass Half(Scaling):\n    """Half."""\n\n'
        "    def __init__(self, long_skips, factor=0.5):\n        super().__init__(long_skips)\n"
        "        self.factor = factor\n\n"
        "    def skip(self, s, where):\n        return s * self.factor\n"
    )
    contrib.load()
    assert models.methods()[-1] == "half" and models.parse_method("half(factor=1)").params == {"factor": 1.0}
    with pytest.raises(ValueError, match=r"half: factor='x' is out of range; a finite number"):
        models.parse_method("half(factor='x')")
    net = models.build("uvit-xs", "half(factor=0.25)")
    assert torch.equal(net.scaling.skip(torch.ones(2, 17, 32), net.long_skips[0]), torch.full((2, 17, 32), 0.25))


LADDER = """
from dataclasses import dataclass

import models
from torch import nn


@dataclass(frozen=True)
class LadderConfig(models.Config):
    width: int
    depth: int

    def build(self):
        return Ladder(self)


class Rung(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, width, 1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, scaling):
        x = self.first(x)
        return scaling.residual(x, self.second(x.relu()))


class Ladder(models.Backbone):
    def __init__(self, config):
        super().__init__()
        n, width = config.depth, config.width
        self.config = config
        self.long_skips = tuple(models.LongSkip(i, n, i, n, width, trunk=width) for i in range(1, n + 1))
        self.conv_in, self.time = nn.Conv2d(config.in_channels, width, 3, padding=1), nn.Linear(1, width)
        self.down = nn.ModuleList(Rung(width, width) for _ in range(n))
        self.mid = Rung(width, width)
        self.up = nn.ModuleList(Rung(2 * width, width) for _ in range(n))
        self.conv_out = nn.Conv2d(width, config.outputs, 3, padding=1)
        self.scaling = models.Scaling(self.long_skips)

    encoder = property(lambda self: tuple(self.down))
    middle = property(lambda self: (self.mid,))
    decoder = property(lambda self: tuple(self.up)[::-1])

    def forward(self, x, timesteps, condition=None):
        self.check(x, timesteps, condition)
        x, skips = self.conv_in(x) + self.time(timesteps[:, None] / 999)[..., None, None], []
        for rung in self.down:
            x = rung(x, self.scaling)
            skips.append(x)
        x = self.mid(x, self.scaling)
        for rung, where in zip(self.up, self.long_skips[::-1]):
            x = rung(self.scaling.join(x, skips.pop(), where), self.scaling)
        return self.conv_out(x)


models.register_preset("ladder-8", LadderConfig(8, width=16, depth=3, in_channels=1))
"""


@pytest.fixture
def ladder(own):
    """The preset ladder-8: maps of one size, three skips, from a file of its own."""
    (own / "ladder.py").write_text(LADDER)
    contrib.load()
    return "ladder-8"


@pytest.mark.parametrize("method", [name for name in models.methods() if name != "plain"])
def test_a_file_adds_a_backbone_that_every_method_trains(ladder, method):
    net = models.build(ladder, method, seeds=(1, 2))
    x, times = (
        torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0.0, 3.0, 500.0, 999.0]),
    )
    optimizer, losses = torch.optim.AdamW(models.parameter_groups(net, 0.03), lr=1e-3), []
    before = [weight.detach().clone() for weight in net.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        losses.append((net(x, times) - x).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert not any(torch.equal(weight, old) for weight, old in zip(net.parameters(), before, strict=True))


def test_parameters_and_flops_of_an_added_backbone(ladder, tmp_path):
    """By hand; and its weights are written, read and digested as those of any other."""
    net = models.build(ladder, seeds=(1, 2))
    assert ladder in models.presets() and models.config(ladder).classes == 0
    convolutions = 16 * 9 + 4 * (16 * 16 + 16 * 16 * 9) + 3 * (32 * 16 + 16 * 16 * 9) + 16 * 9
    biases = 16 + 7 * 32 + 1
    assert sum(weight.numel() for weight in net.parameters()) == convolutions + biases + 2 * 16
    assert models.flops(net, (1, 8, 8)) == 2 * (64 * convolutions + 16)
    assert factors(models.build(ladder, "constant").scaling) == [1, 0.5, 0.25]
    assert len(reach(net, torch.randn(2, 1, 8, 8), torch.zeros(2))) == 3
    weights.export(net, tmp_path / "ladder.safetensors")
    other = models.build(ladder, seeds=(3, 4))
    models.load_published(other, checkpoints.read(tmp_path / "ladder.safetensors"))
    assert models.weights_digest(other) == models.weights_digest(net)
    wide = models.build(ladder, image_size=16, in_channels=3, out_channels=2)
    assert wide(torch.randn(2, 3, 16, 16), torch.zeros(2)).shape == (2, 2, 16, 16)
    with pytest.raises(ValueError, match="condition: class given; the model takes none"):
        net(torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("uvit-xs", models.config("unet-xs"), "preset 'uvit-xs': registered twice"),
        ("a/b", models.config("unet-xs"), "preset 'a/b': a name is of letters, digits"),
        ("a--b", models.config("unet-xs"), "preset 'a--b': a name is of letters, digits"),
        ("plain", {"width": 3}, "preset 'plain': dict is not a subclass of models.Config"),
    ],
)
def test_what_cannot_be_a_preset_is_refused(name, config, message):
    with pytest.raises(ValueError) as caught:
        models.register_preset(name, config)
    assert message in str(caught.value) and name not in set(models.presets()) - {"uvit-xs"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
        (
            "from models import Scaling, register\n@register('none')\nclass Again(Scaling): pass",
            "ValueError: method 'none': registered twice",
        ),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(own, text, message):
    (own / "broken.py").write_text(text)
    with pytest.raises(ValueError) as caught:
        contrib.load()
    assert str(caught.value).startswith(f"models/contrib/broken.py: {message}") and "\n" not in str(caught.value)


# From the command line


@pytest.fixture
def tree(tmp_path):
    """A copy of what is needed, to put files into."""
    for name in ("models", "bench", "datasets", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def bench(tree, *words):
    return subprocess.run([sys.executable, "-m", "bench", *words], cwd=tree, capture_output=True, text=True)


def test_the_example_of_the_readme_works_as_written(tree):
    """It is planned, trained and reported under its name."""
    readme = (ROOT / "README.md").read_text()
    name, code = re.search(r"```python\n# models/contrib/(\w+)\.py\n(.*?)```", readme, re.S).groups()
    assert len(code[code.index("@register") :].strip().splitlines()) <= 15
    assert (tree / "models" / "contrib" / f"{name}.py").read_text() == f"# models/contrib/{name}.py\n{code}"
    method = re.search(r'@register\("(\w+)"\)', code).group(1)
    suite = yaml.safe_load((ROOT / "bench/suites/smoke.yaml").read_text())
    suite |= {"arms": ["none", method], "cells": [{"dataset": "digits", "backbone": "unet-xs"}]}
    suite |= {"budget": 320, "checkpoints": 1}
    suite["evaluation"] |= {"count": 3, "steps": 2}
    (tree / "mine.yaml").write_text(yaml.safe_dump(suite))
    planned = bench(tree, "plan", "mine.yaml", "--runs", "--only", f"method={method}")
    assert planned.returncode == 0 and planned.stdout.count(f"{method}-s") >= 3, planned.stderr
    trained = bench(tree, "run", "mine.yaml", "--sync-every", "0", "--workers", "1")
    assert trained.returncode == 0, trained.stderr
    reported = bench(tree, "report", "mine")
    assert reported.returncode == 0, reported.stderr
    assert method in (tree / "runs" / "mine" / "report" / "tables" / "speedup.md").read_text()


def test_a_broken_file_is_one_line(tree):
    (tree / "models" / "contrib" / "broken.py").write_text("import nothing_of_that_name")
    done = bench(tree, "plan", "smoke")
    assert done.returncode == 2 and "models/contrib/broken.py: ModuleNotFoundError" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
