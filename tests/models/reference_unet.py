"""The UNets of improved-diffusion and of DDIM from their formulas, with the original parameter names. Nothing here is
shared with models/."""

from __future__ import annotations

import math

import torch
from reference_parameters import Parameters
from torch import Tensor


def improved(
    p: Parameters,
    x: Tensor,
    t: Tensor,
    *,
    channels: int,
    outputs: int,
    mult: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    heads: int,
    label: tuple[Tensor, int] | None = None,
) -> Tensor:
    """Images (B, C, S, S), times (B,) and (labels, number of classes) to (B, outputs, S, S)."""
    half = channels // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    e = p.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=-1), 4 * channels)
    e = p.linear("time_embed.2", swish(e), 4 * channels)
    if label:
        e = e + p("label_emb.weight", label[1], 4 * channels)[label[0]]

    def res(name: str, x: Tensor, width: int) -> Tensor:
        h = conv(p, f"{name}.in_layers.2", swish(norm(p, f"{name}.in_layers.0", x, 1e-5)), width)
        scale, shift = p.linear(f"{name}.emb_layers.1", swish(e), 2 * width)[..., None, None].chunk(2, dim=1)
        h = norm(p, f"{name}.out_layers.0", h, 1e-5) * (1 + scale) + shift
        h = conv(p, f"{name}.out_layers.3", swish(h), width)
        return h + (x if x.shape[1] == width else conv(p, f"{name}.skip_connection", x, width, 1))

    def attend(name: str, x: Tensor) -> Tensor:
        """The rows of qkv are (heads, 3, width), its weights those of a convolution over a sequence."""
        b, c, *_ = x.shape
        sequence = norm(p, f"{name}.norm", x, 1e-5).flatten(2)
        qkv = torch.conv1d(sequence, p(f"{name}.qkv.weight", 3 * c, c, 1), p(f"{name}.qkv.bias", 3 * c))
        q, k, v = qkv.reshape(b, heads, 3, c // heads, -1).unbind(2)
        weights = torch.einsum("bhcl,bhcm->bhlm", q, k) / math.sqrt(c // heads)
        h = torch.einsum("bhlm,bhcm->bhcl", weights.softmax(-1), v).reshape(sequence.shape)
        h = torch.conv1d(h, p(f"{name}.proj_out.weight", c, c, 1), p(f"{name}.proj_out.bias", c))
        return x + h.reshape(x.shape)

    def stage(name: str, x: Tensor, width: int) -> Tensor:
        x = res(f"{name}.0", x, width)
        return attend(f"{name}.1", x) if x.shape[-1] in attention else x

    x = conv(p, "input_blocks.0.0", x, channels)
    skips, number = [x], 1
    for level, m in enumerate(mult):
        for _ in range(blocks):
            x = stage(f"input_blocks.{number}", x, m * channels)
            skips.append(x)
            number += 1
        if level + 1 < len(mult):
            x = conv(p, f"input_blocks.{number}.0.op", x, m * channels, stride=2)
            skips.append(x)
            number += 1
    x = attend("middle_block.1", res("middle_block.0", x, x.shape[1]))
    x = res("middle_block.2", x, x.shape[1])
    number = 0
    for level, m in reversed(list(enumerate(mult))):
        for block in range(blocks + 1):
            x = stage(f"output_blocks.{number}", torch.cat([x, skips.pop()], dim=1), m * channels)
            if level and block == blocks:
                place = 2 if x.shape[-1] in attention else 1
                x = conv(p, f"output_blocks.{number}.{place}.conv", double(x), m * channels)
            number += 1
    return conv(p, "out.2", swish(norm(p, "out.0", x, 1e-5)), outputs)


def ddim(
    p: Parameters,
    x: Tensor,
    t: Tensor,
    *,
    channels: int,
    outputs: int,
    mult: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
) -> Tensor:
    """Images (B, C, S, S) and times (B,) to (B, outputs, S, S)."""
    k, last = torch.arange(channels // 2, dtype=torch.float32, device=t.device), channels // 2 - 1
    angles = t[:, None] * torch.exp(k * -(math.log(10000) / last))
    e = p.linear("temb.dense.0", torch.cat([angles.sin(), angles.cos()], dim=-1), 4 * channels)
    e = p.linear("temb.dense.1", swish(e), 4 * channels)

    def res(name: str, x: Tensor, width: int) -> Tensor:
        h = conv(p, f"{name}.conv1", swish(norm(p, f"{name}.norm1", x, 1e-6)), width)
        h = h + p.linear(f"{name}.temb_proj", swish(e), width)[..., None, None]
        h = conv(p, f"{name}.conv2", swish(norm(p, f"{name}.norm2", h, 1e-6)), width)
        return h + (x if x.shape[1] == width else conv(p, f"{name}.nin_shortcut", x, width, 1))

    def attend(name: str, x: Tensor) -> Tensor:
        """One head; q, k and v are convolutions of their own."""
        h, c = norm(p, f"{name}.norm", x, 1e-6), x.shape[1]
        q, k, v = (conv(p, f"{name}.{part}", h, c, 1).flatten(2) for part in "qkv")
        weights = (torch.einsum("bcl,bcm->blm", q, k) / math.sqrt(c)).softmax(-1)
        return x + conv(p, f"{name}.proj_out", torch.einsum("blm,bcm->bcl", weights, v).reshape(x.shape), c, 1)

    def stage(side: str, level: int, block: int, x: Tensor, width: int) -> Tensor:
        x = res(f"{side}.{level}.block.{block}", x, width)
        return attend(f"{side}.{level}.attn.{block}", x) if x.shape[-1] in attention else x

    x = conv(p, "conv_in", x, channels)
    skips = [x]
    for level, m in enumerate(mult):
        for block in range(blocks):
            x = stage("down", level, block, x, m * channels)
            skips.append(x)
        if level + 1 < len(mult):
            padded = torch.cat([x, torch.zeros_like(x[..., :1])], dim=-1)  # right, then bottom
            padded = torch.cat([padded, torch.zeros_like(padded[..., :1, :])], dim=-2)
            x = conv(p, f"down.{level}.downsample.conv", padded, m * channels, stride=2, padding=0)
            skips.append(x)
    x = res("mid.block_2", attend("mid.attn_1", res("mid.block_1", x, x.shape[1])), x.shape[1])
    for level, m in reversed(list(enumerate(mult))):
        for block in range(blocks + 1):
            x = stage("up", level, block, torch.cat([x, skips.pop()], dim=1), m * channels)
        if level:
            x = conv(p, f"up.{level}.upsample.conv", double(x), m * channels)
    return conv(p, "conv_out", swish(norm(p, "norm_out", x, 1e-6)), outputs)


def conv(
    p: Parameters, name: str, x: Tensor, outputs: int, kernel: int = 3, stride: int = 1, padding: int = -1
) -> Tensor:
    """Padding that keeps the size unless given."""
    weight = p(f"{name}.weight", outputs, x.shape[1], kernel, kernel)
    return torch.conv2d(x, weight, p(f"{name}.bias", outputs), stride, kernel // 2 if padding < 0 else padding)


def norm(p: Parameters, name: str, x: Tensor, eps: float, groups: int = 32) -> Tensor:
    """Group norm of 32 groups."""
    b, c, *_ = x.shape
    grouped = x.reshape(b, groups, -1)
    centred = grouped - grouped.mean(-1, keepdim=True)
    normed = (centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()).reshape(x.shape)
    return normed * p(f"{name}.weight", c)[:, None, None] + p(f"{name}.bias", c)[:, None, None]


def swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def double(x: Tensor) -> Tensor:
    """Nearest neighbour."""
    return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
