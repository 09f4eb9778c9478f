"""The fastest way of computing that agrees with plain fp32, by preset and device: bench/planning/compute_defaults.yaml, and applying it.

A suite may leave `precision`, `compile` and `channels_last` out; the plan then writes what this table says into the spec of
each run, so that the identity of a run never depends on the machine that plans it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import yaml
from torch import nn

KEYS = ("precision", "compile", "channels_last")
PLAIN = {"precision": "fp32", "compile": False, "channels_last": False}


@functools.cache
def table() -> dict[str, dict[str, dict]]:
    """preset -> device -> choices; what is not in it is plain."""
    return yaml.safe_load((Path(__file__).parent / "compute_defaults.yaml").read_text())


def resolve(spec: dict) -> dict:
    """The spec with every choice that was left open filled in."""
    choice = PLAIN | table().get(spec["backbone"], {}).get(spec["device"], {})
    return spec | {key: choice[key] if spec[key] is None else spec[key] for key in KEYS}


def apply(model: nn.Module, spec: dict) -> nn.Module:
    """Prepare a network for the choices of its spec, in place, all but compilation; returns it."""
    if spec["channels_last"]:
        model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = spec["checkpointing"]
    return model


def autocast(spec: dict) -> torch.autocast:
    """bf16 where the spec says so."""
    return torch.autocast(spec["device"], torch.bfloat16, enabled=spec["precision"] == "bf16")
