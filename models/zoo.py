"""Presets: every network by name, and building one."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.methods import parse_method
from models.unet import UNet, UNetConfig
from models.uvit import UViT, UViTConfig

Config = UNetConfig | UViTConfig
OVERRIDES = ("in_channels", "out_channels", "image_size", "dropout")

# fmt: off
PRESETS: dict[str, Config] = {
    # matched miniatures for 8x8 grey images
    "uvit-xs": UViTConfig(8, patch=2, width=32, depth=8, heads=2, in_channels=1),
    "unet-xs": UNetConfig(8, channels=16, mult=(1, 1, 1), blocks=1, attention=(4,), heads=2, in_channels=1, groups=4),
}
# fmt: on


def presets() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(PRESETS)


def spec(preset: str) -> Config:
    """The configuration of a preset; ValueError, one line with the names, for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"preset: {preset!r} is unknown; choose from {', '.join(PRESETS)}")
    return PRESETS[preset]


def build(preset: str, method: str = "none", *, seeds: tuple[int, int] | None = None, **overrides: Any) -> nn.Module:
    """The network `preset` under the scaling `method`.

    seeds: (init, gate); the backbone is initialised from the first, the method's parameters afterwards from the second,
    so that no method shifts the backbone's weights. None draws both from torch's global generator, in this order.
    overrides: in_channels, out_channels, image_size, dropout. ValueError, one line, for an unknown name.
    """
    config, parsed = spec(preset), parse_method(method)
    for key in overrides:
        if key not in OVERRIDES:
            raise ValueError(f"override: {key!r} is unknown; choose from {', '.join(OVERRIDES)}")
    config = dataclasses.replace(config, **overrides)
    _check_size(preset, config)
    if seeds is None:
        model = _backbone(config)
        model.scaling = parsed.build(model.wheres)
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        model = _backbone(config)
        torch.manual_seed(seeds[1])
        model.scaling = parsed.build(model.wheres)
    return model


def _backbone(config: Config) -> nn.Module:
    return UViT(config) if isinstance(config, UViTConfig) else UNet(config)


def _check_size(preset: str, config: Config) -> None:
    factor = config.patch if isinstance(config, UViTConfig) else 2 ** (len(config.mult) - 1)
    if config.image_size < factor or config.image_size % factor:
        raise ValueError(f"image_size: {config.image_size} does not fit {preset}; a multiple of {factor}")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout: {config.dropout} is out of range; 0 <= dropout < 1")


def flops(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one forward pass of one image (C, H, W): 2 per multiply-add, counted by torch."""
    config, device = model.config, next(model.parameters()).device
    condition = None
    if config.context:
        condition = torch.zeros(1, *config.context, device=device)
    elif config.classes:
        condition = torch.zeros(1, dtype=torch.long, device=device)
    # The counter knows attention only where it is written out; fused kernels on a CPU would count as nothing.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image_shape, device=device), torch.zeros(1, device=device), condition)
    return counter.get_total_flops()
