"""DiT and Skip-DiT from their formulas, with the original parameter names. Nothing here is shared with models/."""

from __future__ import annotations

import math

import torch
from reference_parameters import Parameters
from torch import Tensor


def dit(
    p: Parameters,
    x: Tensor,
    t: Tensor,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    outputs: int,
    label: tuple[Tensor, int] | None = None,
    skips: bool = False,
) -> Tensor:
    """Images (B, C, S, S), times (B,) and (labels, number of classes) to (B, outputs, S, S); `skips`: of Skip-DiT."""
    batch, channels, size, _ = x.shape
    side = size // patch
    kernel = p("x_embedder.proj.weight", width, channels, patch, patch)
    h = torch.conv2d(x, kernel, p("x_embedder.proj.bias", width), stride=patch).flatten(2).transpose(1, 2)
    h = h + p("pos_embed", 1, side**2, width)
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32, device=t.device) / 128)
    c = p.linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=-1), width)
    c = p.linear("t_embedder.mlp.2", swish(c), width)
    if label:
        c = c + p("y_embedder.embedding_table.weight", label[1] + 1, width)[label[0]]

    def modulated(name: str, parts: int) -> list[Tensor]:
        return list(p.linear(f"{name}.adaLN_modulation.1", swish(c), parts * width)[:, None].chunk(parts, dim=-1))

    def block(name: str, h: Tensor) -> Tensor:
        shift, scale, gate, *second = modulated(name, 6)
        qkv = p.linear(f"{name}.attn.qkv", standard(h) * (1 + scale) + shift, 3 * width)
        q, k, v = qkv.reshape(batch, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // heads)).softmax(-1)
        h = h + gate * p.linear(f"{name}.attn.proj", (weights @ v).transpose(1, 2).flatten(2), width)
        shift, scale, gate = second
        u = p.linear(f"{name}.mlp.fc1", standard(h) * (1 + scale) + shift, 4 * width)
        u = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
        return h + gate * p.linear(f"{name}.mlp.fc2", u, width)

    kept: list[Tensor] = []
    for i in range(depth):
        if skips and i >= depth // 2:
            j = i - depth // 2  # 0: the deepest skip
            h = standard(torch.cat([h, kept.pop()], dim=-1))
            h = h * p(f"skip_norms.{j}.weight", 2 * width) + p(f"skip_norms.{j}.bias", 2 * width)
            h = p.linear(f"skip_linears.{j}.linear", h, width)
        h = block(f"blocks.{i}", h)
        kept.append(h)
        if i >= depth // 2:
            kept.pop()
    shift, scale = modulated("final_layer", 2)
    h = p.linear("final_layer.linear", standard(h) * (1 + scale) + shift, patch**2 * outputs)
    h = h.reshape(batch, side, side, patch, patch, outputs)
    return torch.einsum("nhwpqc->nchpwq", h).reshape(batch, outputs, size, size)


def standard(h: Tensor) -> Tensor:
    """Layer norm without gain and offset."""
    centred = h - h.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()
