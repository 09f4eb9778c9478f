"""Key layouts of public checkpoints, recognised by their keys: where each parameter of ours stands in them.

U-ViT, DiT           the names are ours
Skip-DiT             DiT; skip_linears.k.linear and skip_norms.k, k = 0 the deepest skip
ScaleLong            U-ViT; se.layer1 and se.layer2 shared, or se.k.layer1 and se.k.layer2, k = 0 the deepest skip
improved-diffusion   input_blocks, middle_block, output_blocks, numbered; qkv interleaved per head (H, 3, C / H)
DDIM                 down, mid, up by level, up.0 the highest resolution; q, k and v are 1x1 convolutions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.backbone import Backbone
from models.dit import DiT
from models.scaling import Learnable, LearnablePerSkip
from models.unet import AttentionBlock, ResBlock, Stage, UNet
from models.uvit import UViT


@dataclass(frozen=True)
class Source:
    """The keys a parameter is read from, and how their tensors become it."""

    keys: tuple[str, ...]
    convert: Callable[..., Tensor] = lambda x: x


def sources(model: Backbone, keys: Iterable[str]) -> dict[str, Source]:
    """For every parameter and buffer of the model, where it stands among `keys`."""
    keys = tuple(keys)
    table: dict[str, Source] = {}
    if isinstance(model, UNet) and any(key.startswith("input_blocks.") for key in keys):
        table = _translate(model, _improved(model), RES_IMPROVED, _attention_improved)
    elif isinstance(model, UNet) and any(key.startswith("down.0.block.") for key in keys):
        table = _translate(model, _ddim(model), RES_DDIM, _attention_ddim)
    elif isinstance(model, UViT) and any(key.startswith("se.") for key in keys):
        table = {name: Source((key,)) for name, key in _scalelong(model)}
    elif isinstance(model, DiT) and any(key.startswith("skip_linears.") for key in keys):
        table = {name: Source((key,)) for name, key in _skip_dit(model)}
    return {name: table.get(name, Source((name,))) for name in model.state_dict()}


def _scalelong(model: UViT) -> Iterator[tuple[str, str]]:
    """(our name, ScaleLong's key) of the calibration nets."""
    scaling, shared = model.scaling, isinstance(model.scaling, Learnable)
    if not isinstance(scaling, Learnable | LearnablePerSkip):
        return
    for name in scaling.nets.state_dict():
        which, rest = name.split(".", 1)  # a length, or the index of a skip from 0, the shallowest
        yield f"scaling.nets.{name}", f"se.{rest}" if shared else f"se.{len(model.long_skips) - 1 - int(which)}.{rest}"


def _skip_dit(model: DiT) -> Iterator[tuple[str, str]]:
    """(our name, Skip-DiT's key) of linear layers and norms at the joins."""
    for name in model.scaling.state_dict():
        part, which, *rest = name.split(".")
        if part in ("linears", "norms"):
            key = f"skip_{part}.{len(model.long_skips) - 1 - int(which)}"
            yield f"scaling.{name}", ".".join([key, *["linear"] * (part == "linears"), *rest])


# Convolutional UNets: pairs of modules (ours, theirs), and the names in a residual block, ours and the two families'.

Pair = tuple[str, str]
KINDS = ("weight", "bias")
RES = ("norm1", "conv1", "embed", "norm2", "conv2", "shortcut")
RES_IMPROVED = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")
RES_DDIM = ("norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut")


def _improved(model: UNet) -> Iterator[Pair]:
    """Modules of improved-diffusion: stages are numbered through, the resampling layers too."""
    yield from (("time1", "time_embed.0"), ("time2", "time_embed.2"), ("conv_in", "input_blocks.0.0"))
    yield from (("mid1.res", "middle_block.0"), ("mid1.attn", "middle_block.1"), ("mid2.res", "middle_block.2"))
    yield from (("norm_out", "out.0"), ("conv_out", "out.2"))
    for side, group, number in (("down", "input_blocks", 1), ("up", "output_blocks", 0)):
        for position, level in enumerate(getattr(model, side)):
            for block, stage in enumerate(level.blocks):
                theirs = f"{group}.{number}"
                yield from _parts(stage, f"{side}.{position}.blocks.{block}", f"{theirs}.0", f"{theirs}.1")
                number += 1
            if level.sample is not None and side == "down":
                yield f"{side}.{position}.sample.conv", f"{group}.{number}.0.op"
                number += 1
            elif level.sample is not None:  # upsampling follows the last stage under that stage's number
                yield f"{side}.{position}.sample.conv", f"{theirs}.{1 if stage.attn is None else 2}.conv"


def _ddim(model: UNet) -> Iterator[Pair]:
    """Modules of DDIM: residual and attention blocks of a level in two lists."""
    yield from (("time1", "temb.dense.0"), ("time2", "temb.dense.1"), ("conv_in", "conv_in"))
    yield from (("mid1.res", "mid.block_1"), ("mid1.attn", "mid.attn_1"), ("mid2.res", "mid.block_2"))
    yield from (("norm_out", "norm_out"), ("conv_out", "conv_out"))
    for side in ("down", "up"):
        for position, level in enumerate(getattr(model, side)):
            theirs = f"{side}.{position if side == 'down' else len(model.up) - 1 - position}"
            for block, stage in enumerate(level.blocks):
                ours = f"{side}.{position}.blocks.{block}"
                yield from _parts(stage, ours, f"{theirs}.block.{block}", f"{theirs}.attn.{block}")
            if level.sample is not None:
                yield f"{side}.{position}.sample.conv", f"{theirs}.{side}sample.conv"


def _parts(stage: Stage, ours: str, res: str, attention: str) -> Iterator[Pair]:
    yield f"{ours}.res", res
    if stage.attn is not None:
        yield f"{ours}.attn", attention


Attention = Callable[[AttentionBlock, str], dict[str, Source]]


def _translate(model: UNet, pairs: Iterable[Pair], res: tuple[str, ...], attention: Attention) -> dict[str, Source]:
    """The sources of all parameters of the modules in `pairs`; of an attention's qkv by `attention`."""
    table: dict[str, Source] = {}
    for ours, theirs in pairs:
        module = model.get_submodule(ours)
        if isinstance(module, AttentionBlock):
            names = [f"{part}.{kind}" for part in ("norm", "proj") for kind in KINDS]
            found = {name: Source((f"{theirs}.{name.replace('proj', 'proj_out')}",), _matrix) for name in names}
            found |= attention(module, theirs)
        elif isinstance(module, ResBlock):
            inside, split = dict(zip(RES, res, strict=True)), (name.split(".") for name in module.state_dict())
            found = {f"{part}.{kind}": Source((f"{theirs}.{inside[part]}.{kind}",)) for part, kind in split}
        else:
            found = {name: Source((f"{theirs}.{name}",)) for name in module.state_dict()}
        table |= {f"{ours}.{name}": source for name, source in found.items()}
    return table


def _attention_improved(block: AttentionBlock, theirs: str) -> dict[str, Source]:
    def by_kind(x: Tensor) -> Tensor:
        """Rows (H 3 C/H) to (3 H C/H)."""
        return torch.unflatten(_matrix(x), 0, (block.heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    return {f"qkv.{kind}": Source((f"{theirs}.qkv.{kind}",), by_kind) for kind in KINDS}


def _attention_ddim(block: AttentionBlock, theirs: str) -> dict[str, Source]:
    def stack(*parts: Tensor) -> Tensor:
        return torch.cat([_matrix(part) for part in parts])

    return {f"qkv.{kind}": Source(tuple(f"{theirs}.{part}.{kind}" for part in "qkv"), stack) for kind in KINDS}


def _matrix(x: Tensor) -> Tensor:
    """A 1x1 convolution as a linear layer; vectors stay."""
    return x.flatten(1) if x.ndim > 1 else x
