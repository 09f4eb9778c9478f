"""Published weights into our networks, and our own to and from safetensors.

Key layouts are recognised by their keys. Ours and the official U-ViT's are the same names; the rest are translated:

    U-ViT, ScaleLong     se.layer1 / se.layer2 shared, se.k.layer1 / se.k.layer2 per skip with k = 0 the deepest
    improved-diffusion   input_blocks, middle_block, output_blocks; qkv of attention interleaved per head (H, 3, C / H)
    DDIM                 down, mid, up by level; q, k, v as 1x1 convolutions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.unet import AttentionBlock, ResBlock, UNet
from models.zoo import build

State = dict[str, Tensor]
# Where a parameter of ours comes from: the keys it is read from, and how they become it.
Source = tuple[tuple[str, ...], Callable[..., Tensor]]


def load_published(model: nn.Module, state_dict: State) -> None:
    """Load a state dict in one of the published layouts, or in ours, in place.

    ValueError lists missing and unexpected keys, and shapes that differ; the model is then unchanged.
    """
    sources = dict(_sources(model, state_dict))
    own = model.state_dict()
    missing = [key for keys, _ in sources.values() for key in keys if key not in state_dict]
    used = {key for keys, _ in sources.values() for key in keys}
    unexpected = [key for key in state_dict if key not in used]
    if missing or unexpected:
        raise ValueError(f"weights: missing keys: {_list(missing)}; unexpected keys: {_list(unexpected)}")
    made = {name: convert(*(state_dict[key] for key in keys)) for name, (keys, convert) in sources.items()}
    wrong = [f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}" for name, tensor in made.items() if tensor.shape != own[name].shape]
    if wrong:
        raise ValueError(f"weights: shapes differ: {_list(wrong)}")
    model.load_state_dict(made)


def import_weights(path: Path, preset: str, method: str, out: Path, **overrides: Any) -> str:
    """A published file into `preset` under `method`, written to `out` as safetensors; returns what was done in a line."""
    model = build(preset, method, **overrides)
    load_published(model, read(path))
    export(model, out)
    return f"{path}: {sum(p.numel() for p in model.parameters()):,} parameters of {preset} ({method}), written to {out}"


def read(path: Path) -> State:
    """The tensors of a safetensors file or of a pickle, which is read with weights_only; ValueError, one line, if it is neither."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights: {path}: no such file")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a safe unpickler raises many kinds; each means that this is no file of tensors
        raise ValueError(f"weights: {path}: not a file of tensors ({type(error).__name__})") from None
    for key in ("state_dict", "model", "ema"):  # trainers wrap it
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"weights: {path}: holds {type(content).__name__}, not a dict of tensors by name")
    return {re.sub(r"^module\.", "", key): tensor for key, tensor in content.items()}


def export(model: nn.Module, path: Path) -> None:
    """All weights of a model as safetensors, under our names."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, path)


def _list(items: list[str], most: int = 12) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return (", ".join(items[:most]) or "none") + more


def _same(x: Tensor) -> Tensor:
    return x


def _sources(model: nn.Module, state: State) -> Iterator[tuple[str, Source]]:
    """For every parameter of the model, where it stands in `state`."""
    translate: Callable[[nn.Module], dict[str, Source]] | None = None
    if isinstance(model, UNet):
        translate = _improved if any(k.startswith("input_blocks.") for k in state) else _ddim if any(k.startswith("down.0.block.") for k in state) else None
    table = translate(model) if translate else {}
    for name in model.state_dict():
        if name.startswith("scaling.nets."):
            yield name, ((_scalelong(name, model, state),), _same)
        else:
            yield name, table.get(name, ((name,), _same))


# ScaleLong ------------------------------------------------------------------------------------------------------------


def _scalelong(name: str, model: nn.Module, state: State) -> str:
    """Our calibration net's key in ScaleLong's layout, or unchanged if the state is in ours."""
    _, _, which, rest = name.split(".", 3)
    if name in state or not any(key.startswith("se.") for key in state):
        return name
    if any(key.startswith("se.layer") for key in state):
        return f"se.{rest}"
    return f"se.{len(model.wheres) - 1 - int(which)}.{rest}"


# Convolutional UNets --------------------------------------------------------------------------------------------------

RES_IMPROVED = {"norm1": "in_layers.0", "conv1": "in_layers.2", "embed": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "shortcut": "skip_connection"}
RES_DDIM = {"norm1": "norm1", "conv1": "conv1", "embed": "temb_proj", "norm2": "norm2", "conv2": "conv2", "shortcut": "nin_shortcut"}


def _places(model: UNet) -> Iterator[tuple[str, int, int, int, bool]]:
    """(ours, level, block, index, last): every stage of the way down and up, with its running number."""
    index = 1
    for level, stage in enumerate(model.down):
        for block in range(len(stage["blocks"])):
            yield f"down.{level}.blocks.{block}", level, block, index, False
            index += 1
        index += "sample" in stage
    index = 0
    for position, stage in enumerate(model.up):
        level = len(model.up) - 1 - position
        for block in range(len(stage["blocks"])):
            yield f"up.{position}.blocks.{block}", level, block, index, block + 1 == len(stage["blocks"]) and "sample" in stage
            index += 1


def _improved(model: UNet) -> dict[str, Source]:
    """improved-diffusion's layout."""
    table = _both({"time1": "time_embed.0", "time2": "time_embed.2", "conv_in": "input_blocks.0.0", "norm_out": "out.0", "conv_out": "out.2"})
    table |= {"label_emb.weight": (("label_emb.weight",), _same)}
    stages = {"mid1": ("middle_block.0", "middle_block.1"), "mid2": ("middle_block.2", "")}
    for ours, _, _, index, last in _places(model):
        group = "input_blocks" if ours.startswith("down") else "output_blocks"
        stages[ours] = (f"{group}.{index}.0", f"{group}.{index}.1")
        if last:
            position = ours.split(".")[1]
            table |= _both({f"up.{position}.sample.conv": f"{group}.{index}.{1 + (model.get_submodule(ours).attn is not None)}.conv"})
    index = 0
    for level, stage in enumerate(model.down):
        index += len(stage["blocks"]) + 1
        if "sample" in stage:
            table |= _both({f"down.{level}.sample.conv": f"input_blocks.{index}.0.op"})
    for ours, (res, attention) in stages.items():
        stage = model.get_submodule(ours)
        table |= _res(stage.res, f"{ours}.res", res, RES_IMPROVED)
        if stage.attn is not None:
            table |= _attention_improved(stage.attn, f"{ours}.attn", attention)
    return table


def _ddim(model: UNet) -> dict[str, Source]:
    """DDIM's layout."""
    table = _both({"time1": "temb.dense.0", "time2": "temb.dense.1", "conv_in": "conv_in", "norm_out": "norm_out", "conv_out": "conv_out"})
    stages = {"mid1": ("mid.block_1", "mid.attn_1"), "mid2": ("mid.block_2", "")}
    for ours, level, block, _, _ in _places(model):
        side = ours.split(".")[0]
        stages[ours] = (f"{side}.{level}.block.{block}", f"{side}.{level}.attn.{block}")
    levels = len(model.down)
    for i in range(levels - 1):
        table |= _both({f"down.{i}.sample.conv": f"down.{i}.downsample.conv", f"up.{i}.sample.conv": f"up.{levels - 1 - i}.upsample.conv"})
    for ours, (res, attention) in stages.items():
        stage = model.get_submodule(ours)
        table |= _res(stage.res, f"{ours}.res", res, RES_DDIM)
        if stage.attn is not None:
            table |= _attention_ddim(f"{ours}.attn", attention)
    return table


def _both(names: dict[str, str]) -> dict[str, Source]:
    """Weight and bias of modules."""
    return {f"{ours}.{kind}": ((f"{theirs}.{kind}",), _same) for ours, theirs in names.items() for kind in ("weight", "bias")}


def _res(block: ResBlock, ours: str, theirs: str, names: dict[str, str]) -> dict[str, Source]:
    present = {mine: other for mine, other in names.items() if list(getattr(block, mine).parameters())}
    return _both({f"{ours}.{mine}": f"{theirs}.{other}" for mine, other in present.items()})


def _matrix(x: Tensor) -> Tensor:
    """A 1x1 convolution as a linear layer."""
    return x.flatten(1) if x.ndim > 1 else x


def _attention_improved(block: AttentionBlock, ours: str, theirs: str) -> dict[str, Source]:
    def order(x: Tensor) -> Tensor:
        """(H 3 C/H) rows to (3 H C/H)."""
        return _matrix(x).unflatten(0, (block.heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    table = _both({f"{ours}.norm": f"{theirs}.norm"})
    for kind in ("weight", "bias"):
        table[f"{ours}.qkv.{kind}"] = ((f"{theirs}.qkv.{kind}",), order)
        table[f"{ours}.proj.{kind}"] = ((f"{theirs}.proj_out.{kind}",), _matrix)
    return table


def _attention_ddim(ours: str, theirs: str) -> dict[str, Source]:
    table = _both({f"{ours}.norm": f"{theirs}.norm"})
    for kind in ("weight", "bias"):
        table[f"{ours}.qkv.{kind}"] = (tuple(f"{theirs}.{part}.{kind}" for part in "qkv"), lambda *parts: torch.cat([_matrix(p) for p in parts]))
        table[f"{ours}.proj.{kind}"] = ((f"{theirs}.proj_out.{kind}",), _matrix)
    return table
