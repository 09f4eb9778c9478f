"""Key layouts of public checkpoints, recognised by their keys: where each parameter of ours stands in them.

    U-ViT                the names are ours
    ScaleLong            U-ViT, and se.layer1 / se.layer2 shared, or se.k.layer1 / se.k.layer2 with k = 0 the deepest skip
    improved-diffusion   input_blocks, middle_block, output_blocks, numbered; qkv interleaved per head (H, 3, C / H)
    DDIM                 down, mid, up by level, up.0 the highest resolution; q, k and v are 1x1 convolutions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.scaling import Learnable, LearnablePerSkip
from models.unet import AttentionBlock, ResBlock, Stage, UNet
from models.uvit import UViT


@dataclass(frozen=True)
class Source:
    """The keys a parameter is read from, and how their tensors become it."""

    keys: tuple[str, ...]
    convert: Callable[..., Tensor] = lambda x: x


def sources(model: nn.Module, keys: Iterable[str]) -> dict[str, Source]:
    """For every parameter and buffer of the model, where it stands among `keys`."""
    keys = tuple(keys)
    table: dict[str, Source] = {}
    if isinstance(model, UNet) and any(key.startswith("input_blocks.") for key in keys):
        table = _translate(model, _improved(model), RES_IMPROVED, _attention_improved)
    elif isinstance(model, UNet) and any(key.startswith("down.0.block.") for key in keys):
        table = _translate(model, _ddim(model), RES_DDIM, _attention_ddim)
    elif isinstance(model, UViT) and any(key.startswith("se.") for key in keys):
        table = {name: Source((key,)) for name, key in _scalelong(model)}
    return {name: table.get(name, Source((name,))) for name in model.state_dict()}


def _scalelong(model: UViT) -> Iterator[tuple[str, str]]:
    """(our name, ScaleLong's key) of the calibration nets."""
    shared = isinstance(model.scaling, Learnable)
    if not shared and not isinstance(model.scaling, LearnablePerSkip):
        return
    for name in model.scaling.nets.state_dict():
        which, rest = name.split(".", 1)  # a length, or the index of a skip from 0, the shallowest
        yield f"scaling.nets.{name}", f"se.{rest}" if shared else f"se.{len(model.wheres) - 1 - int(which)}.{rest}"


# Convolutional UNets: pairs (our module, theirs), and how the parameters inside residual and attention blocks are called.

RES_IMPROVED = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "shortcut": "skip_connection",
}
RES_DDIM = {"norm1": "norm1", "conv1": "conv1", "embed": "temb_proj", "norm2": "norm2", "conv2": "conv2", "shortcut": "nin_shortcut"}


def _improved(model: UNet) -> Iterator[tuple[str, str]]:
    """Modules of improved-diffusion: stages are numbered through, the resampling layers too."""
    yield from (("time1", "time_embed.0"), ("time2", "time_embed.2"), ("conv_in", "input_blocks.0.0"), ("norm_out", "out.0"), ("conv_out", "out.2"))
    yield from (("mid1.res", "middle_block.0"), ("mid1.attn", "middle_block.1"), ("mid2.res", "middle_block.2"))
    number = 1
    for level, step in enumerate(model.down):
        for block, stage in enumerate(step["blocks"]):
            yield from _parts(stage, f"down.{level}.blocks.{block}", f"input_blocks.{number}.0", f"input_blocks.{number}.1")
            number += 1
        if "sample" in step:
            yield f"down.{level}.sample.conv", f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for position, step in enumerate(model.up):
        for block, stage in enumerate(step["blocks"]):
            yield from _parts(stage, f"up.{position}.blocks.{block}", f"output_blocks.{number}.0", f"output_blocks.{number}.1")
            number += 1
        if "sample" in step:  # it follows the last stage under that stage's number
            yield f"up.{position}.sample.conv", f"output_blocks.{number - 1}.{1 if stage.attn is None else 2}.conv"


def _ddim(model: UNet) -> Iterator[tuple[str, str]]:
    """Modules of DDIM: residual and attention blocks of a level in two lists."""
    yield from (("time1", "temb.dense.0"), ("time2", "temb.dense.1"), ("conv_in", "conv_in"), ("norm_out", "norm_out"), ("conv_out", "conv_out"))
    yield from (("mid1.res", "mid.block_1"), ("mid1.attn", "mid.attn_1"), ("mid2.res", "mid.block_2"))
    for level, step in enumerate(model.down):
        for block, stage in enumerate(step["blocks"]):
            yield from _parts(stage, f"down.{level}.blocks.{block}", f"down.{level}.block.{block}", f"down.{level}.attn.{block}")
        if "sample" in step:
            yield f"down.{level}.sample.conv", f"down.{level}.downsample.conv"
    for position, step in enumerate(model.up):
        level = len(model.up) - 1 - position
        for block, stage in enumerate(step["blocks"]):
            yield from _parts(stage, f"up.{position}.blocks.{block}", f"up.{level}.block.{block}", f"up.{level}.attn.{block}")
        if "sample" in step:
            yield f"up.{position}.sample.conv", f"up.{level}.upsample.conv"


def _parts(stage: Stage, ours: str, res: str, attention: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.res", res
    if stage.attn is not None:
        yield f"{ours}.attn", attention


def _translate(
    model: UNet, pairs: Iterable[tuple[str, str]], res: dict[str, str], attention: Callable[[AttentionBlock, str], dict[str, Source]]
) -> dict[str, Source]:
    """The sources of all parameters of the modules in `pairs`."""
    table: dict[str, Source] = {}
    for ours, theirs in pairs:
        module = model.get_submodule(ours)
        if isinstance(module, ResBlock):
            found = {name: Source((f"{theirs}.{res[name.split('.')[0]]}.{name.split('.')[1]}",)) for name in module.state_dict()}
        elif isinstance(module, AttentionBlock):
            found = attention(module, theirs)
        else:
            found = {name: Source((f"{theirs}.{name}",)) for name in module.state_dict()}
        table |= {f"{ours}.{name}": source for name, source in found.items()}
    return table


def _attention_improved(block: AttentionBlock, theirs: str) -> dict[str, Source]:
    def by_kind(x: Tensor) -> Tensor:
        """Rows (H 3 C/H) to (3 H C/H)."""
        return _matrix(x).unflatten(0, (block.heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    table = {f"qkv.{kind}": Source((f"{theirs}.qkv.{kind}",), by_kind) for kind in ("weight", "bias")}
    return table | _norm_and_projection(theirs)


def _attention_ddim(block: AttentionBlock, theirs: str) -> dict[str, Source]:
    def stack(*parts: Tensor) -> Tensor:
        return torch.cat([_matrix(part) for part in parts])

    table = {f"qkv.{kind}": Source(tuple(f"{theirs}.{part}.{kind}" for part in "qkv"), stack) for kind in ("weight", "bias")}
    return table | _norm_and_projection(theirs)


def _norm_and_projection(theirs: str) -> dict[str, Source]:
    return {f"{ours}.{kind}": Source((f"{theirs}.{name}.{kind}",), _matrix)
            for ours, name in (("norm", "norm"), ("proj", "proj_out")) for kind in ("weight", "bias")}


def _matrix(x: Tensor) -> Tensor:
    """A 1x1 convolution as a linear layer; vectors stay."""
    return x.flatten(1) if x.ndim > 1 else x
