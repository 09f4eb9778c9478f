"""U-ViT from its formulas, with the parameter names of the official code. Nothing here is shared with models/."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from reference_parameters import Parameters
from torch import Tensor

Scale = Callable[[Parameters, int, Tensor], Tensor]  # parameters, k (0 the deepest skip), skip -> what is joined


def uvit(
    p: Parameters,
    x: Tensor,
    t: Tensor,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    label: tuple[Tensor, int] | None = None,
    text: Tensor | None = None,
    scale: Scale = lambda p, k, s: s,
) -> Tensor:
    """Images (B, C, S, S) and times (B,) to noise. label: (labels, number of classes). text: (B, M, W)."""
    batch, channels, size, _ = x.shape
    side = size // patch
    cells = x.reshape(batch, channels, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
    kernel = p("patch_embed.proj.weight", width, channels, patch, patch).reshape(width, -1)
    tokens = [times(t, width)[:, None]]
    if label:
        tokens.insert(0, p("label_emb.weight", label[1], width)[label[0]][:, None])
    if text is not None:
        tokens.append(p.linear("context_embed", text, width))
    first = sum(token.shape[1] for token in tokens)
    cells = cells.reshape(batch, side * side, -1)
    h = torch.cat([*tokens, cells @ kernel.T + p("patch_embed.proj.bias", width)], dim=1)
    h = h + p("pos_embed", 1, h.shape[1], width)
    skips = []
    for i in range(depth // 2):
        h = block(p, f"in_blocks.{i}", h, heads)
        skips.append(h)
    h = block(p, "mid_block", h, heads)
    for k in range(depth // 2):
        joined = torch.cat([h, scale(p, k, skips.pop())], dim=-1)
        h = block(p, f"out_blocks.{k}", p.linear(f"out_blocks.{k}.skip_linear", joined, width), heads)
    h = p.linear("decoder_pred", norm(p, "norm", h), patch * patch * channels)[:, first:]
    h = h.reshape(batch, side, side, patch, patch, channels).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
    weight, bias = p("final_layer.weight", channels, channels, 3, 3), p("final_layer.bias", channels)
    return torch.conv2d(h, weight, bias, padding=1)


def block(p: Parameters, name: str, x: Tensor, heads: int) -> Tensor:
    width = x.shape[-1]
    x = x + attention(p, f"{name}.attn", norm(p, f"{name}.norm1", x), heads)
    h = p.linear(f"{name}.mlp.fc1", norm(p, f"{name}.norm2", x), 4 * width)
    return x + p.linear(f"{name}.mlp.fc2", h * (1 + torch.erf(h / math.sqrt(2))) / 2, width)


def attention(p: Parameters, name: str, x: Tensor, heads: int) -> Tensor:
    """The rows of qkv are (K, heads, width)."""
    batch, length, width = x.shape
    q, k, v = p.linear(f"{name}.qkv", x, 3 * width, bias=False).reshape(batch, length, 3, heads, -1).unbind(2)
    weights = torch.einsum("blhd,bmhd->bhlm", q, k) / math.sqrt(width // heads)
    mixed = torch.einsum("bhlm,bmhd->blhd", weights.softmax(-1), v)
    return p.linear(f"{name}.proj", mixed.reshape(batch, length, width), width)


def norm(p: Parameters, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    width = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return normed * p(f"{name}.weight", width) + p(f"{name}.bias", width)


def times(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines."""
    half = width // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def calibration(p: Parameters, name: str, s: Tensor) -> Tensor:
    """ScaleLong's gate of each token, (B, L, 1)."""
    length = s.shape[1]
    hidden = p.linear(f"{name}.layer1", s.mean(-1), int(length // 16)).clamp_min(0)
    return p.linear(f"{name}.layer2", hidden, length).sigmoid()[..., None]


def scalelong(mode: int, skips: int, kappa: float = 0.5) -> Scale:
    """The five modes of the official code: 0 original, 1 one over root two, 2 CS, 3 LS, 4 LS that is not shared."""
    return (
        lambda p, k, s: s,
        lambda p, k, s: s * 2**-0.5,
        lambda p, k, s: s * kappa ** (skips - 1 - k),
        lambda p, k, s: s * calibration(p, "se", s),
        lambda p, k, s: s * calibration(p, f"se.{k}", s),
    )[mode]
