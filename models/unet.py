"""A convolutional UNet at any size (Ho et al. 2020, arXiv 2006.11239; Nichol and Dhariwal 2021, arXiv 2102.09672).

One network covers both published families; the fields of `UNetConfig` below `dropout` are what they differ in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import Backbone, Config
from models.layers import Recomputed, attend, module_list, sinusoid
from models.scaling import LongSkip, Scaling


@dataclass(frozen=True)
class UNetConfig(Config):
    """Size and family.

    mult: channels per level, in units of `channels`. blocks: residual blocks per level on the way down, one more on the
    way up. attention: resolutions (pixels) with attention of `heads` heads; the middle always has it. groups, eps: of
    the group norms. scale_shift: the time embedding scales and shifts the second norm, else it is added before it.
    sine_first, closed: see `sinusoid`. padded_down: downsampling pads right and bottom only. zero_init: the last layer
    of every branch starts at 0.
    """

    channels: int
    mult: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int = 1
    groups: int = 32
    eps: float = 1e-5
    scale_shift: bool = True
    sine_first: bool = False
    closed: bool = False
    padded_down: bool = False
    zero_init: bool = True

    @property
    def multiple(self) -> int:
        """How much smaller the deepest level is."""
        return 1 << len(self.mult) - 1

    @property
    def widths(self) -> list[int]:
        """Channels per level."""
        return [self.channels * mult for mult in self.mult]

    def attends(self, level: int) -> bool:
        """Whether there is attention at a level, counted from 0."""
        return self.image_size >> level in self.attention

    def long_skips(self) -> tuple[LongSkip, ...]:
        """The long skips, shallowest first: of the first convolution, then of each level's stages and downsampling."""
        carried = [(1, self.channels)]  # level and channels
        for level, width in enumerate(self.widths, 1):
            carried += [(level, width)] * self.blocks + [(level + 1, width)] * (level < len(self.mult))
        put_out = [width for width in self.widths for _ in range(self.blocks + 1)]  # by the decoder's stages
        trunks, n, levels = [*put_out[1:], self.widths[-1]], len(carried), len(self.mult)
        joined = enumerate(zip(carried, trunks, strict=True), 1)
        return tuple(LongSkip(i, n, level, levels, channels, trunk=trunk) for i, ((level, channels), trunk) in joined)

    def build(self) -> UNet:
        """The network."""
        return UNet(self)


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

    fp32_attention = False

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
        h = self.proj(attend(q, k, v, self.heads, self.fp32_attention)).transpose(1, 2).reshape(x.shape)
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
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.padded else x)
        return out


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """The stages of one resolution, and the way to the next one, if any: a downsampling or an upsampling."""

    def __init__(self, blocks: list[Stage], sample: Downsample | Upsample | None) -> None:
        super().__init__()
        self.blocks, self.sample = module_list(blocks), sample


class UNet(Backbone):
    """The network of a `UNetConfig`."""

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.long_skips, width = config, config.long_skips(), config.channels
        self.time1, self.time2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, 4 * width)
        self.conv_in = nn.Conv2d(config.in_channels, width, 3, padding=1)
        # Weights are drawn from the image in to the image out; `up` is listed before the middle.
        down = [self._level_down(level) for level in range(len(config.mult))]
        middle = [Stage(config, config.widths[-1], config.widths[-1], attention) for attention in (True, False)]
        up = [self._level_up(level) for level in reversed(range(len(config.mult)))]
        self.down, self.up, (self.mid1, self.mid2) = module_list(down), module_list(up), middle
        self.norm_out = nn.GroupNorm(config.groups, config.widths[0], config.eps)
        self.conv_out = nn.Conv2d(config.widths[0], config.outputs, 3, padding=1)
        if config.zero_init:
            self._zero()
        self.scaling = Scaling(self.long_skips)

    def _level_down(self, level: int) -> Level:
        config, width, attention = self.config, self.config.widths[level], self.config.attends(level)
        inputs = [config.widths[level - 1] if level else config.channels, *[width] * (config.blocks - 1)]
        blocks = [Stage(config, channels, width, attention) for channels in inputs]
        return Level(blocks, Downsample(width, config.padded_down) if level + 1 < len(config.mult) else None)

    def _level_up(self, level: int) -> Level:
        config, width, count = self.config, self.config.widths[level], self.config.blocks + 1
        joined = [skip.joined for skip in self.long_skips[level * count : (level + 1) * count]]
        blocks = [Stage(config, channels, width, config.attends(level)) for channels in reversed(joined)]
        return Level(blocks, Upsample(width) if level else None)

    def _zero(self) -> None:
        """Every branch starts as nothing, and so does the output."""
        last: list[nn.Conv2d | nn.Linear] = [self.conv_out]
        last += [module.conv2 for module in self.modules() if isinstance(module, ResBlock)]
        last += [module.proj for module in self.modules() if isinstance(module, AttentionBlock)]
        for parameter in (parameter for layer in last for parameter in layer.parameters()):
            nn.init.zeros_(parameter)

    @property
    def encoder(self) -> tuple[nn.Module, ...]:
        """The first convolution, the stages and the downsamplings."""
        parts = (part for level in self.down for part in (*level.blocks, level.sample))
        return (self.conv_in, *(part for part in parts if part is not None))

    @property
    def middle(self) -> tuple[nn.Module, ...]:
        """The two stages at the lowest resolution."""
        return (self.mid1, self.mid2)

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """The stages of the way up."""
        return tuple(stage for level in self.up for stage in level.blocks)[::-1]

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise: see `Backbone`."""
        self.check(x, timesteps, condition)
        e, scaling = self._embedding(timesteps, condition, x.dtype), self.scaling
        context = condition if self.config.context else None
        x = self.conv_in(x)
        skips = [x]
        for level in self.down:
            for block in level.blocks:
                x = block(x, e, scaling, context)
                skips.append(x)
            if level.sample is not None:
                x = level.sample(x)
                skips.append(x)
        x = self.mid2(self.mid1(x, e, scaling, context), e, scaling, context)
        joins = reversed(self.long_skips)
        for level in self.up:
            for block in level.blocks:
                x = block(scaling.join(x, skips.pop(), next(joins)), e, scaling, context)
            if level.sample is not None:
                x = level.sample(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out

    def _embedding(self, timesteps: Tensor, condition: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Of time and class, (B, 4 channels)."""
        config = self.config
        time = sinusoid(timesteps, config.channels, config.sine_first, config.closed).to(dtype)
        e: Tensor = self.time2(F.silu(self.time1(time)))
        return torch.add(e, self.label_emb(condition)) if config.classes else e
