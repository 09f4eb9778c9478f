"""What both backbones use."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def sinusoid(timesteps: Tensor, width: int, sine_first: bool = False, closed: bool = False) -> Tensor:
    """Sinusoidal embedding, (B,) -> (B, width). Frequencies 10^(-4 k / half), or over half - 1 where `closed`.

    arXiv 1706.03762, section 3.5. Implementations differ in the order of the halves, in the last frequency, and in the
    order of the products: at a timestep of 999 an exponent rounded otherwise moves a phase by 5e-5.
    """
    half = width // 2
    k = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    exponents = k * -(math.log(10_000) / (half - 1)) if closed else -math.log(10_000) * k / half
    angles = timesteps.float()[:, None] * exponents.exp()
    parts = [angles.sin(), angles.cos()] if sine_first else [angles.cos(), angles.sin()]
    return F.pad(torch.cat(parts, dim=-1), (0, width % 2))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of queries (B, L, C) over keys and values (B, M, C), scaled by 1/sqrt(C / heads)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Recomputed(nn.Module):
    """A block that, where `recompute` is set, keeps no activations for the backward pass but computes them again."""

    recompute = False

    def __call__(self, *inputs: object) -> Tensor:
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)


def check_inputs(x: Tensor, timesteps: Tensor, channels: int, size: int) -> None:
    """ValueError if x is not (B, channels, size, size), or timesteps not (B,)."""
    if x.ndim != 4 or x.shape[1:] != (channels, size, size):
        raise ValueError(f"x: shape {tuple(x.shape)} does not fit; the model takes (B, {channels}, {size}, {size})")
    if timesteps.shape != x.shape[:1]:
        got = tuple(timesteps.shape)
        raise ValueError(f"timesteps: shape {got} does not fit; the model takes ({len(x)},), one per image")


def check_condition(condition: Tensor | None, batch: int, classes: int, context: tuple[int, int] | None) -> None:
    """ValueError if the condition is not what the model takes: none, class (B,) or text (B, tokens, width)."""
    got = "none" if condition is None else "text" if condition.is_floating_point() else "class"
    kind = "text" if context else "class" if classes else "none"
    if got != kind:
        raise ValueError(f"condition: {got} given; the model takes {kind}")
    shape = (batch, *context) if context else (batch,)
    if condition is not None and condition.shape != shape:
        raise ValueError(f"condition: shape {tuple(condition.shape)} does not fit; the model takes {shape}")
