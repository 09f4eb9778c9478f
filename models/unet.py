"""A convolutional UNet at any size (Ho et al. 2020, arXiv 2006.11239; Nichol and Dhariwal 2021, arXiv 2102.09672).

One network covers both published families; the fields of `UNetConfig` below `dropout` are what they differ in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import Recomputed, attend, check_condition, check_inputs, sinusoid
from models.scaling import Scaling, Where


@dataclass(frozen=True)
class UNetConfig:
    """Size, condition and family.

    mult: channels per level, in units of `channels`. blocks: residual blocks per level on the way down, one more on the
    way up. attention: resolutions (pixels) with attention of `heads` heads; the middle always has it. classes: 0 for
    none. context: (tokens, width) of a text, None for none. groups, eps: of the group norms. scale_shift: the time
    embedding scales and shifts the second norm, else it is added before it. sine_first, closed: of the embedding.
    padded_down: downsampling pads right and bottom only. zero_init: the last layer of every branch starts at 0.
    """

    image_size: int
    channels: int
    mult: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int = 1
    in_channels: int = 3
    out_channels: int | None = None
    classes: int = 0
    context: tuple[int, int] | None = None
    dropout: float = 0.0
    groups: int = 32
    eps: float = 1e-5
    scale_shift: bool = True
    sine_first: bool = False
    closed: bool = False
    padded_down: bool = False
    zero_init: bool = True

    def attends(self, level: int) -> bool:
        """Whether there is attention at a level, counted from 0."""
        return self.image_size >> level in self.attention


class ResBlock(nn.Module):
    """norm, SiLU, conv; time; norm, SiLU, dropout, conv; residual sum with the input, mapped if widths differ."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift
        self.norm1 = nn.GroupNorm(config.groups, inputs, config.eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(4 * config.channels, outputs * (2 if config.scale_shift else 1))
        self.norm2 = nn.GroupNorm(config.groups, outputs, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, scaling: Scaling) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        e = self.embed(F.silu(embedding))[..., None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        h = self.conv2(self.dropout(F.silu(h)))
        return scaling.residual(self.shortcut(x), h)


class AttentionBlock(nn.Module):
    """Self-attention over all positions; text, if any, joins as further keys and values (GLIDE, arXiv 2112.10741)."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.GroupNorm(config.groups, channels, config.eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context = nn.Linear(config.context[1], 2 * channels) if config.context else None
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, scaling: Scaling, context: Tensor | None) -> Tensor:
        q, k, v = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        if self.context is not None:
            more_k, more_v = self.context(context).chunk(2, dim=-1)
            k, v = torch.cat([more_k, k], dim=1), torch.cat([more_v, v], dim=1)
        h = self.proj(attend(q, k, v, self.heads)).transpose(1, 2).reshape(x.shape)
        return scaling.residual(x, h)


class Stage(Recomputed):
    """A residual block and, at some resolutions, attention."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(config, inputs, outputs)
        self.attn = AttentionBlock(config, outputs) if attention else None

    def forward(self, x: Tensor, embedding: Tensor, scaling: Scaling, context: Tensor | None) -> Tensor:
        x = self.res(x, embedding, scaling)
        return x if self.attn is None else self.attn(x, scaling, context)


class Downsample(nn.Module):
    """Half the resolution by a strided convolution."""

    def __init__(self, channels: int, padded: bool) -> None:
        super().__init__()
        self.padded = padded
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if padded else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.padded else x)


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Noise from images (B, C, S, S), timesteps (B,) in [0, 999] and a condition: long (B,) or float (B, M, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.time1, self.time2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, 4 * width)
        self.conv_in = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = self._way_down()
        self.mid1 = Stage(config, channels, channels, attention=True)
        self.mid2 = Stage(config, channels, channels, attention=False)
        channels, self.wheres = self._way_up(channels, skips)
        self.norm_out = nn.GroupNorm(config.groups, channels, config.eps)
        self.conv_out = nn.Conv2d(channels, config.out_channels or config.in_channels, 3, padding=1)
        if config.zero_init:
            self._zero()
        self.scaling = Scaling(self.wheres)

    @property
    def encoder(self) -> tuple[nn.Module, ...]:
        """What skips leave from, shallowest first: the first convolution, the stages, the downsamplings."""
        parts = ([*level["blocks"], *([level["sample"]] if "sample" in level else [])] for level in self.down)
        return (self.conv_in, *(part for level in parts for part in level))

    @property
    def middle(self) -> tuple[nn.Module, ...]:
        """The stages between the deepest skip's ends."""
        return (self.mid1, self.mid2)

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """The stages that skips enter, shallowest first: in the order of `wheres`."""
        return tuple(stage for level in self.up for stage in level["blocks"])[::-1]

    def _way_down(self) -> tuple[int, list[Where]]:
        """Make the encoder: its last channels, and its long skips, shallowest first, without `trunk` and N."""
        config, levels, channels = self.config, len(self.config.mult), self.config.channels
        skips = [Where(1, 0, 1, levels, channels)]

        def leave(level: int) -> None:
            skips.append(Where(len(skips) + 1, 0, level + 1, levels, channels))

        for level, mult in enumerate(config.mult):
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(Stage(config, channels, config.channels * mult, config.attends(level)))
                channels = config.channels * mult
                leave(level)
            self.down.append(nn.ModuleDict({"blocks": stages}))
            if level + 1 < levels:
                self.down[-1]["sample"] = Downsample(channels, config.padded_down)
                leave(level + 1)
        return channels, skips

    def _way_up(self, channels: int, skips: list[Where]) -> tuple[int, list[Where]]:
        """Make the decoder, deepest level first: its last channels, and the long skips, shallowest first."""
        config, wheres = self.config, []
        for level in reversed(range(len(config.mult))):
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                where = replace(skips[-1 - len(wheres)], N=len(skips), trunk=channels)
                stages.append(Stage(config, where.joined, config.channels * config.mult[level], config.attends(level)))
                channels = config.channels * config.mult[level]
                wheres.append(where)
            self.up.append(nn.ModuleDict({"blocks": stages}))
            if level:
                self.up[-1]["sample"] = Upsample(channels)
        return channels, wheres[::-1]

    def _zero(self) -> None:
        """Every branch starts as nothing, and so does the output."""
        last = [self.conv_out, *(m.conv2 for m in self.modules() if isinstance(m, ResBlock)),
                *(m.proj for m in self.modules() if isinstance(m, AttentionBlock))]
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise, of the shape of x (out_channels for C)."""
        config, scaling = self.config, self.scaling
        check_inputs(x, timesteps, config.in_channels, config.image_size)
        check_condition(condition, len(x), config.classes, config.context)
        e = self._embedding(timesteps, condition, x.dtype)
        context = condition if config.context else None
        x = self.conv_in(x)
        skips = [x]
        for level in self.down:
            for block in level["blocks"]:
                x = block(x, e, scaling, context)
                skips.append(x)
            if "sample" in level:
                x = level["sample"](x)
                skips.append(x)
        x = self.mid2(self.mid1(x, e, scaling, context), e, scaling, context)
        wheres = reversed(self.wheres)
        for level in self.up:
            for block in level["blocks"]:
                x = block(scaling.join(x, skips.pop(), next(wheres)), e, scaling, context)
            if "sample" in level:
                x = level["sample"](x)
        return self.conv_out(F.silu(self.norm_out(x)))

    def _embedding(self, timesteps: Tensor, condition: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Of time and class, (B, 4 channels)."""
        config = self.config
        time = sinusoid(timesteps, config.channels, config.sine_first, config.closed).to(dtype)
        e = self.time2(F.silu(self.time1(time)))
        return e + self.label_emb(condition) if config.classes else e
