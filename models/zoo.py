"""Presets: every network by name, and building one."""

from __future__ import annotations

import dataclasses
import re
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.backbone import Backbone, Config
from models.dit import DiTConfig
from models.methods import parse_method
from models.unet import UNetConfig
from models.uvit import UViTConfig

OVERRIDES = ("in_channels", "out_channels", "image_size", "dropout")

# UNets of the improved-diffusion family take the defaults of UNetConfig, DDIM's take these.
DDIM: dict[str, Any] = {"eps": 1e-6, "padded_down": True}
DDIM |= {"scale_shift": False, "sine_first": True, "closed": True, "zero_init": False}
NARROW: dict[str, Any] = {"patch": 2, "width": 32, "heads": 2, "init_std": 0.08}  # 0.08 is 0.02 sqrt(512 / 32)
DIT: dict[str, Any] = {"patch": 2, "width": 28, "depth": 8, "heads": 2}
TEXT = (77, 768)  # tokens and width of CLIP ViT-L/14

# fmt: off
PRESETS: dict[str, Config] = {
    # matched miniatures for 8x8 grey images
    "uvit-xs":               UViTConfig( 8, depth=8, in_channels=1, **NARROW),
    "unet-xs":               UNetConfig( 8, 16, (1, 1, 1),       1, (4,),    heads=2, in_channels=1, groups=4),
    # for 16x16 colour images, for 12x12 ones of 12 classes, and for 4x8x8 latents with 12 words of 32 numbers
    "uvit-xs-16":            UViTConfig(16, depth=8, **NARROW),
    "unet-xs-16":            UNetConfig(16, 16, (1, 1, 1),       1, (8, 4),  heads=2, groups=4),
    "uvit-xs-class":         UViTConfig(12, depth=8, classes=12, **NARROW),
    "unet-xs-class":         UNetConfig(12, 16, (1, 1, 1),       1, (3,),    heads=2, groups=4, classes=12),
    "uvit-xs-t2i":           UViTConfig( 8, depth=8, in_channels=4, context=(12, 32), **NARROW),
    "unet-xs-t2i":           UNetConfig( 8, 16, (1, 1, 1), 1, (4,), heads=2, in_channels=4, groups=4, context=(12, 32)),
    # DiTs within 10 % of uvit-xs and uvit-xs-class, with joins and without; plain ones as large as those with joins
    "dit-xs":                DiTConfig( 8, in_channels=1, **DIT),
    "dit-xs-wide":           DiTConfig( 8, in_channels=1, mlp_ratio=4.5, **DIT),
    "dit-xs-class":          DiTConfig(12, classes=12, **DIT),
    "dit-xs-class-wide":     DiTConfig(12, classes=12, mlp_ratio=4.5, **DIT),
    # miniatures of other depths, to see what grows with the number of skips
    "uvit-xs-d12":           UViTConfig( 8, depth=12, in_channels=1, **NARROW),
    "uvit-xs-d16":           UViTConfig( 8, depth=16, in_channels=1, **NARROW),
    "uvit-xs-d24":           UViTConfig( 8, depth=24, in_channels=1, **NARROW),
    "unet-xs-n4":            UNetConfig( 8, 16, (1, 1),          1, (4,),    heads=2, in_channels=1, groups=4),
    "unet-xs-n6":            UNetConfig( 8, 16, (1, 1),          2, (4,),    heads=2, in_channels=1, groups=4),
    "unet-xs-n8":            UNetConfig( 8, 16, (1, 1),          3, (4,),    heads=2, in_channels=1, groups=4),
    "unet-xs-n12":           UNetConfig( 8, 16, (1, 1),          5, (4,),    heads=2, in_channels=1, groups=4),
    # U-ViT, published: size, patch, width, depth, heads
    "uvit-s-2":              UViTConfig(32, 2,  512, 12,  8),
    "uvit-s-2-deep":         UViTConfig(32, 2,  512, 16,  8),
    "uvit-s-4":              UViTConfig(64, 4,  512, 12,  8),
    "uvit-m-4":              UViTConfig(64, 4,  768, 16, 12, classes=1000),
    "uvit-l-4":              UViTConfig(64, 4, 1024, 20, 16, classes=1000),
    "uvit-s-2-t2i":          UViTConfig(32, 2,  512, 12,  8, in_channels=4, context=TEXT),
    "uvit-s-2-deep-t2i":     UViTConfig(32, 2,  512, 16,  8, in_channels=4, context=TEXT),
    # DiT, published, on latents of 256 pixels: size, patch, width, depth, heads
    "dit-s-2":               DiTConfig(32, 2,  384, 12,  6, in_channels=4, classes=1000),
    "dit-b-2":               DiTConfig(32, 2,  768, 12, 12, in_channels=4, classes=1000),
    "dit-l-2":               DiTConfig(32, 2, 1024, 24, 16, in_channels=4, classes=1000),
    "dit-xl-2":              DiTConfig(32, 2, 1152, 28, 16, in_channels=4, classes=1000),
    # UNet, published: size, width, its multiples per level, blocks, resolutions with attention
    "unet-iddpm-cifar10":    UNetConfig(32, 128, (1, 2, 2, 2),    3, (16, 8), heads=4, dropout=0.3),
    "unet-ddim-celeba64":    UNetConfig(64, 128, (1, 2, 2, 2, 4), 2, (16,),   heads=1, dropout=0.1, **DDIM),
    # UNet, within 10 % of the parameters of uvit-s-2, uvit-s-4, uvit-m-4 and uvit-s-2-t2i. Those called `matched` are
    # the published ones of their dataset, narrower, with the same four channels per group.
    "unet-cifar10-matched":  UNetConfig(32, 120, (1, 2, 2, 2),    3, (16, 8), heads=4, dropout=0.3, groups=30),
    "unet-celeba64-matched": UNetConfig(64,  96, (1, 2, 2, 2, 4), 2, (16,),   heads=1, dropout=0.1, groups=24, **DDIM),
    "unet-imagenet64":       UNetConfig(64, 128, (1, 2, 3, 4),    3, (16, 8), heads=4, classes=1000),
    "unet-coco256":          UNetConfig(32, 128, (1, 2, 2, 2),    2, (16, 8), heads=4, in_channels=4, context=TEXT),
}
# fmt: on


def register_preset(name: str, config: Config) -> None:
    """Let suites and `build` know a backbone of your own by this name. ValueError, one line, if they cannot."""
    if name in PRESETS:
        raise ValueError(f"preset {name!r}: registered twice")
    if not re.fullmatch(r"\w+(-\w+)*", name):
        raise ValueError(f"preset {name!r}: a name is of letters, digits and _, and of single - between them")
    if not isinstance(config, Config):
        raise ValueError(f"preset {name!r}: {type(config).__name__} is not a subclass of models.Config")
    PRESETS[name] = config


def presets() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(PRESETS)


def config(preset: str) -> Config:
    """The configuration of a preset; ValueError, one line with the names, for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"preset: {preset!r} is unknown; choose from {', '.join(PRESETS)}")
    return PRESETS[preset]


def build(preset: str, method: str = "none", *, seeds: tuple[int, int] | None = None, **overrides: Any) -> Backbone:
    """The network `preset` under the scaling `method`.

    seeds: (init, gate); the backbone is initialised from the first, the method's parameters afterwards from the second,
    so that no method shifts the backbone's weights; on the CPU, whose bits do not depend on the device trained on. None
    draws both from torch's global generator, in this order.
    overrides: in_channels, out_channels, image_size, dropout. ValueError, one line, for an unknown name or a bad value.
    """
    changed, parsed = _override(preset, overrides), parse_method(method)

    def seed(position: int) -> None:
        if seeds is not None:  # not torch.manual_seed, which would reseed every accelerator too and leave it so
            torch.default_generator.manual_seed(int(seeds[position]))

    with torch.random.fork_rng(devices=[], enabled=seeds is not None), torch.device("cpu") if seeds else nullcontext():
        seed(0)
        model = changed.build()
        seed(1)
        model.scaling = parsed.build(model.long_skips)
        return model


def _override(preset: str, overrides: dict[str, Any]) -> Config:
    """The configuration of a preset with the overrides in it, checked."""
    for key, value in overrides.items():
        if key not in OVERRIDES:
            raise ValueError(f"override: {key!r} is unknown; choose from {', '.join(OVERRIDES)}")
        if key != "dropout" and not (type(value) is int and value >= 1):
            raise ValueError(f"{key}: {value!r} is out of range; a whole number of at least 1")
    changed = dataclasses.replace(config(preset), **overrides)
    if changed.image_size % changed.multiple:
        raise ValueError(f"image_size: {changed.image_size} does not fit {preset}; a multiple of {changed.multiple}")
    if type(changed.dropout) not in (int, float) or not 0 <= changed.dropout < 1:
        raise ValueError(f"dropout: {changed.dropout!r} is out of range; 0 <= dropout < 1")
    return changed


def example_condition(model: Backbone, batch: int) -> Tensor | None:
    """Zeros in the shape of the condition that a network takes: long (B,), float (B, tokens, width), or None."""
    taken, device = model.config, next(model.parameters()).device
    if taken.context:
        return torch.zeros(batch, *taken.context, device=device)
    return torch.zeros(batch, dtype=torch.long, device=device) if taken.classes else None


def flops(model: Backbone, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one forward pass of one image (C, H, W): 2 per multiply-add, counted by torch."""
    device, condition = next(model.parameters()).device, example_condition(model, 1)
    # The counter sees attention only where it is written out; fused kernels on a CPU would count as nothing.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image_shape, device=device), torch.zeros(1, device=device), condition)
    return int(counter.get_total_flops())
