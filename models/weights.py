"""Published weights into our networks, and our own to and from safetensors."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from models.backbone import Backbone
from models.checkpoints import OUTPUTS, State, read, select
from models.layouts import Source, sources
from models.methods import parse_method
from models.zoo import build, config

MOST = 10  # keys or shapes that an error lists
HINTS = {  # for keys that tell of another method
    "se.": "se.* is for the methods learnable and learnable_per_skip",
    "skip_": "skip_* is for the method norm_cat",
    "scaling.linears.": "a DiT without long skips is for the method plain",
}


def load_published(model: Backbone, state_dict: State, where: str = "weights") -> None:
    """Load a state dict in one of the published layouts, or in ours, in place. where: how an error begins.

    ValueError lists the missing and the unexpected keys, or shapes that differ; the model is then unchanged. A single
    whole number that the model does not know is a counter, not a weight.
    """
    found = sources(model, state_dict)
    needed = dict.fromkeys(key for source in found.values() for key in source.keys)
    missing = [key for key in needed if key not in state_dict]
    counters = {key for key, x in state_dict.items() if x.numel() == 1 and not x.is_floating_point()}
    unexpected = [key for key in state_dict if key not in needed and key not in counters]
    if missing or unexpected:
        odd = (*missing, *unexpected)
        hint = next((f"; {hint}" for start, hint in HINTS.items() if any(key.startswith(start) for key in odd)), "")
        raise ValueError(f"{where}: missing keys: {_list(missing)}; unexpected keys: {_list(unexpected)}{hint}")
    ours = model.state_dict()
    made = {name: _convert(source, state_dict, ours[name]) for name, source in found.items()}
    wrong = [name for name, tensor in made.items() if tensor is None]
    if wrong:
        said = [f"{', '.join(found[name].keys)} do not make {tuple(ours[name].shape)}" for name in wrong]
        raise ValueError(f"{where}: shapes or types differ: {_list(said)}")
    model.load_state_dict(made)


def _convert(source: Source, state: State, like: Tensor) -> Tensor | None:
    """The tensor of a parameter, None if what is there does not make its shape, or is of whole numbers."""
    try:
        tensor = source.convert(*(state[key] for key in source.keys))
    except RuntimeError:  # torch cannot regroup the rows
        return None
    return tensor if (tensor.shape, tensor.is_floating_point()) == (like.shape, like.is_floating_point()) else None


def import_weights(path: Path, preset: str, method: str, out: Path, **overrides: Any) -> str:
    """A published file into `preset` under `method`, written to `out` as safetensors; returns what was done in a line.

    Of what a trainer saved, the moving average is taken if there is one. The number of output channels is the file's
    unless overridden: published UNets may predict a variance too.
    ValueError, one line, for a file, preset, method or override that does not fit.
    """
    path, out = Path(path), Path(out)
    if path.exists() and out.exists() and path.samefile(out):
        raise ValueError(f"out: {out} is the file that is read; choose another")
    config(preset), parse_method(method)  # a typo is said before a large file is read
    content, model = read(path), build(preset, method, **overrides)
    state, which = select(content, model, path)
    outputs = _outputs(state, model)
    if outputs != model.config.outputs:
        model = build(preset, method, **{"out_channels": outputs} | overrides)
    load_published(model, state, f"weights: {path}")
    export(model, out)
    count, channels = sum(p.numel() for p in model.parameters()), model.config.outputs
    what = f"{count:,} parameters of {preset} ({method}, output channels: {channels})"
    return f"{path}: {what} from {which}, written to {out}"


def _outputs(state: State, model: Backbone) -> int:
    """Output channels of a state's network, those of the model where it does not say; a DiT has rows for each pixel."""
    ours, channels = model.state_dict(), model.config.outputs
    for name, source in sources(model, state).items():
        if (key := source.keys[0]) in OUTPUTS and key in state and state[key].ndim:
            return max(1, len(state[key]) * channels // len(ours[name]))
    return channels


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
    return ", ".join(items[:MOST]) + f" and {len(items) - MOST} more" * (len(items) > MOST) or "none"
