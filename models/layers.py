"""Layers that more than one backbone uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Module = TypeVar("Module", bound=nn.Module)


def module_list(modules: Iterable[Module]) -> Sequence[Module]:
    """A torch ModuleList, typed by what it holds."""
    return cast("Sequence[Module]", nn.ModuleList(modules))


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


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, fp32: bool = False) -> Tensor:
    """Multi-head attention of queries (B, L, C) over keys and values (B, M, C), scaled by 1/sqrt(C / heads).

    fp32: softmax(q k^T) v in fp32, as in the published code; otherwise in the type that autocast gives it.
    """
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if not fp32:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    with torch.autocast(q.device.type, enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention; qkv in the order (K, heads, width), with a bias or without."""

    fp32_attention = False

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.proj(attend(q, k, v, self.heads, self.fp32_attention))
        return out


def unpatchify(x: Tensor, patch: int, size: int) -> Tensor:
    """(B, h w, p1 p2 C) -> (B, C, h p1, w p2)."""
    side = size // patch
    cells = torch.unflatten(torch.unflatten(x, -1, (patch, patch, -1)), 1, (side, side))
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, size, size)


class Recomputed(nn.Module):
    """A block that, if `recompute` is set, keeps no activations for the backward pass but computes them again."""

    recompute = False

    def __call__(self, *inputs: object) -> Tensor:
        again, call = self.recompute and self.training and torch.is_grad_enabled(), super().__call__
        out: Tensor = checkpoint(call, *inputs, use_reentrant=False) if again else call(*inputs)
        return out
