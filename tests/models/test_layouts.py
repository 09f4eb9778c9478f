"""Published checkpoints: the same output as the original networks' formulas, and exactly their keys at full size."""

import pytest
import torch
from reference_dit import dit
from reference_parameters import Parameters, distance
from reference_unet import ddim, improved
from reference_uvit import scalelong, uvit

import models
from models.dit import DiTConfig
from models.unet import UNetConfig
from models.uvit import UViTConfig
from models.zoo import DDIM

TIMES = torch.tensor([0.0, 17.5, 999.0])
METHODS = ("none", "inv_sqrt2", "constant(kappa=0.6)", "learnable", "learnable_per_skip")


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def loaded(config, method, state):
    torch.manual_seed(5)  # what is loaded replaces it all
    net = config.build()
    net.scaling = models.parse_method(method).build(net.long_skips)
    models.load_published(net.eval(), dict(state))
    return net


@torch.no_grad()
@pytest.mark.parametrize("classes", [0, 7])
@pytest.mark.parametrize("mode", range(5))
def test_scalelong_in_all_five_modes(mode, classes):
    p, x, label = Parameters(mode), images(3, 3, 32, 32), torch.tensor([0, 6, 3])
    given = (label, classes) if classes else None
    theirs = uvit(p, x, TIMES, patch=4, width=96, depth=6, heads=4, label=given, scale=scalelong(mode, 3, 0.6))
    ours = loaded(UViTConfig(32, 4, 96, 6, 4, classes=classes), METHODS[mode], p)
    assert distance(theirs, ours(x, TIMES, label if classes else None)) < 1e-5
    assert any(key.startswith("se.") for key in p) == (mode >= 3)


@torch.no_grad()
def test_text_to_image_uvit():
    p, x, text = Parameters(), images(3, 4, 16, 16), torch.randn(3, 11, 20, generator=torch.Generator().manual_seed(2))
    theirs = uvit(p, x, TIMES, patch=2, width=64, depth=4, heads=4, text=text)
    ours = loaded(UViTConfig(16, 2, 64, 4, 4, in_channels=4, context=(11, 20)), "none", p)
    assert distance(theirs, ours(x, TIMES, text)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("method", "outputs", "classes"), [("plain", 8, 7), ("norm_cat", 8, 7), ("norm_cat", 4, 0)])
def test_dit_and_skip_dit(method, outputs, classes):
    """The null class is a class of its own."""
    p, x, label = Parameters(), images(3, 4, 16, 16), torch.tensor([0, 7, 3])
    shape = {"patch": 2, "width": 64, "depth": 6, "heads": 4}
    given = (label, classes) if classes else None
    theirs = dit(p, x, TIMES, outputs=outputs, label=given, skips=method == "norm_cat", **shape)
    config = DiTConfig(16, in_channels=4, out_channels=outputs, classes=classes, **shape)
    ours = loaded(config, method, p)
    assert distance(theirs, ours(x, TIMES, label if classes else None)) < 1e-5
    assert any(key.startswith("skip_norms.") for key in p) == (method == "norm_cat")


@torch.no_grad()
@pytest.mark.parametrize(
    ("outputs", "classes", "heads", "attention"), [(6, 0, 4, (8, 4)), (3, 5, 2, (16,)), (3, 0, 1, ())]
)
def test_improved_diffusion_unet(outputs, classes, heads, attention):
    p, x, label = Parameters(), images(3, 3, 16, 16), torch.tensor([4, 0, 2])
    shape = {"channels": 32, "mult": (1, 2, 2), "blocks": 2, "attention": attention, "heads": heads}
    theirs = improved(p, x, TIMES, outputs=outputs, label=(label, classes) if classes else None, **shape)
    ours = loaded(UNetConfig(16, out_channels=outputs, classes=classes, dropout=0.3, **shape), "none", p)
    assert distance(theirs, ours(x, TIMES, label if classes else None)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("attention", [(8,), (16, 4)])
def test_ddim_unet(attention):
    p, x = Parameters(), images(3, 3, 16, 16)
    shape = {"channels": 32, "mult": (1, 2, 4), "blocks": 2, "attention": attention}
    theirs = ddim(p, x, TIMES, outputs=3, **shape)
    ours = loaded(UNetConfig(16, dropout=0.1, **shape, **DDIM), "none", p)
    assert distance(theirs, ours(x, TIMES)) < 1e-5


def full_size(preset, method="none", **overrides):
    """The state dict of the original network of a preset, without memory behind it."""
    p, config = Parameters(device="meta"), models.config(preset)
    channels = overrides.get("out_channels", config.in_channels)
    with torch.device("meta"):
        x, t = torch.empty(1, config.in_channels, config.image_size, config.image_size), torch.empty(1)
        labels = (torch.empty(1, dtype=torch.long), config.classes) if config.classes else None
        if isinstance(config, UViTConfig):
            shape = {key: getattr(config, key) for key in ("patch", "width", "depth", "heads")}
            text = torch.empty(1, *config.context) if config.context else None
            scale = scalelong(METHODS.index(method), config.depth // 2)
            uvit(p, x, t, label=labels, text=text, scale=scale, **shape)
        elif isinstance(config, DiTConfig):
            shape = {key: getattr(config, key) for key in ("patch", "width", "depth", "heads")}
            dit(p, x, t, outputs=channels, label=labels, skips=method == "norm_cat", **shape)
        else:
            shape = {key: getattr(config, key) for key in ("channels", "mult", "blocks", "attention")}
            if preset == "unet-ddim-celeba64":
                ddim(p, x, t, outputs=channels, **shape)
            else:
                improved(p, x, t, outputs=channels, heads=config.heads, label=labels, **shape)
    return p


@pytest.mark.parametrize(
    ("preset", "method", "overrides"),
    [
        *(
            (f"uvit-{size}", method, {})
            for size in ("s-2", "s-4", "m-4", "l-4")
            for method in ("none", "learnable", "learnable_per_skip")
        ),
        ("uvit-s-2-t2i", "none", {}),
        ("uvit-s-2-deep-t2i", "none", {}),
        *(
            (f"dit-{size}-2", method, {"out_channels": 8})
            for size in ("s", "b", "l", "xl")
            for method in ("plain", "norm_cat")
        ),
        ("unet-iddpm-cifar10", "none", {}),
        ("unet-iddpm-cifar10", "none", {"out_channels": 6}),
        ("unet-ddim-celeba64", "none", {}),
        ("unet-imagenet64", "none", {}),
    ],
)
def test_the_keys_and_shapes_of_full_presets(preset, method, overrides):
    """Every original parameter has a place, and every one of ours a source of the same size."""
    state = full_size(preset, method, **overrides)
    with torch.device("meta"):
        net = models.build(preset, method, **overrides)
    models.load_published(net, state)
    assert sum(tensor.numel() for tensor in state.values()) == sum(parameter.numel() for parameter in net.parameters())
    del state[next(iter(state))]
    with pytest.raises(ValueError, match="missing keys"):
        models.load_published(net, state)
