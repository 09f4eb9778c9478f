"""Published weights into our networks, and our own to and from safetensors."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.backbone import Backbone
from models.layouts import Source, sources
from models.methods import parse_method
from models.zoo import build, config

State = dict[str, Tensor]
PARTS = ("ema", "state_dict", "model")  # what trainers call the weights in a larger file, best first
OUTPUTS = ("final_layer.bias", "out.2.bias", "conv_out.bias")  # of U-ViT, improved-diffusion, DDIM and ours


def load_published(model: Backbone, state_dict: State) -> None:
    """Load a state dict in one of the published layouts, or in ours, in place.

    ValueError lists all missing and unexpected keys, or all shapes that differ; the model is then unchanged.
    """
    found = sources(model, state_dict)
    needed = dict.fromkeys(key for source in found.values() for key in source.keys)
    missing = [key for key in needed if key not in state_dict]
    unexpected = [key for key in state_dict if key not in needed]
    if missing or unexpected:
        gates = any(key.startswith("se.") for key in unexpected)
        hint = "; se.* is for the methods learnable and learnable_per_skip" if gates else ""
        raise ValueError(f"weights: missing keys: {_list(missing)}; unexpected keys: {_list(unexpected)}{hint}")
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    made = {name: _convert(source, state_dict, shapes[name]) for name, source in found.items()}
    wrong = [name for name, tensor in made.items() if tensor is None]
    if wrong:
        said = (f"{', '.join(found[name].keys)} do not make {tuple(shapes[name])}" for name in wrong)
        raise ValueError(f"weights: shapes differ: {', '.join(said)}")
    model.load_state_dict(made)


def _convert(source: Source, state: State, shape: torch.Size) -> Tensor | None:
    """The tensor of a parameter, None if what is there does not make its shape."""
    try:
        tensor = source.convert(*(state[key] for key in source.keys))
    except RuntimeError:  # torch cannot regroup the rows
        return None
    return tensor if tensor.shape == shape else None


def import_weights(path: Path, preset: str, method: str, out: Path, **overrides: Any) -> str:
    """A published file into `preset` under `method`, written to `out` as safetensors; returns what was done in a line.

    The number of output channels is the file's unless overridden: published UNets may predict a variance too.
    ValueError, one line, for a file, preset, method or override that does not fit.
    """
    path, out = Path(path), Path(out)
    if path.exists() and out.exists() and path.samefile(out):
        raise ValueError(f"out: {out} is the file that is read; choose another")
    config(preset), parse_method(method)  # a typo is said before a large file is read
    state = read(path)
    outputs = [len(state[key]) for key in OUTPUTS if key in state and state[key].ndim]
    model = build(preset, method, **({"out_channels": outputs[0]} if outputs else {}) | overrides)
    load_published(model, state)
    export(model, out)
    count, channels = sum(p.numel() for p in model.parameters()), model.config.outputs
    return f"{path}: {count:,} parameters of {preset} ({method}, output channels: {channels}), written to {out}"


def read(path: Path) -> State:
    """The tensors, by name, of a safetensors file or of a pickle, which is read with weights_only.

    Where a trainer saved more than weights, their moving average is taken if there is one. ValueError, one line, if the
    file is of neither kind or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights: {path}: no such file")
    try:
        content = load_file(path) if _is_safetensors(path) else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a safe unpickler raises many kinds; each means that this is no file of tensors
        raise ValueError(f"weights: {path}: not a file of tensors ({type(error).__name__})") from None
    state = _unwrap(content)
    if state is None:
        raise ValueError(f"weights: {path}: holds {type(content).__name__}, not a dict of tensors by name")
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", key): tensor for key, tensor in state.items()}


def _is_safetensors(path: Path) -> bool:
    """By content: the length of a header of JSON, then its brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _unwrap(content: object) -> State | None:
    """The weights in what a trainer saved; None if there are none."""
    if _is_state(content):
        return content
    if isinstance(content, list | tuple):  # DDIM: weights, optimizer, epoch, step and, if kept, their moving average
        parts = content[::-1]
    elif isinstance(content, dict):
        parts = [content[key] for key in PARTS if key in content]
    else:
        return None
    return next((part for part in map(_unwrap, parts) if part is not None), None)


def _is_state(content: object) -> TypeGuard[State]:
    """Whether it is tensors by name, and not empty."""
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def export(model: nn.Module, path: Path) -> None:
    """All weights of a model as safetensors, under our names, whole or not at all. ValueError where that fails."""
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, beside)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"out: {path} cannot be written: {error}") from None


def weights_digest(module: nn.Module, skip_prefix: str = "") -> str:
    """sha256 over the sorted names and the bytes of all weights and buffers, those under `skip_prefix` left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not (skip_prefix and name.startswith(skip_prefix)):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _list(items: list[str]) -> str:
    return ", ".join(items) or "none"
