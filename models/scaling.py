"""Every scaling method: one small class each, registered by name.

A method acts at three places and nowhere else: `skip` on what a long skip carries, `join` where it meets the trunk, and
`residual` on every short residual sum. A backbone calls `join` at each of its N long skips and `residual` in each block.

Tokens have shape (B, L, D), feature maps (B, C, H, W); the channel axis is the last of tokens, the second of maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SCALELONG = "ScaleLong, arXiv 2310.13545"


@dataclass(frozen=True)
class Where:
    """A long skip: index 1 is the shallowest (outermost), N the deepest; level 1 the highest resolution.

    channels: of the skip. trunk: channels of the trunk it joins. tokens: length of a token sequence, None for maps.
    In a U-ViT every skip is a level of its own.
    """

    index: int
    N: int
    level: int
    levels: int
    channels: int
    trunk: int
    tokens: int | None = None

    @property
    def gated(self) -> int:
        """What a calibration net gates: tokens of a sequence, channels of a map."""
        return self.channels if self.tokens is None else self.tokens


class Scaling(nn.Module):
    """A method that scales nothing, and the base of all others. Parameters are keyword arguments of `__init__`."""

    def __init__(self, wheres: Sequence[Where]) -> None:
        super().__init__()
        self.wheres = tuple(wheres)

    @classmethod
    def check(cls, **parameters: Any) -> None:
        """ValueError, one line, if a parameter is out of its range."""

    def skip(self, s: Tensor, where: Where) -> Tensor:
        """What the long skip carries: s, scaled."""
        return s

    def join(self, trunk: Tensor, s: Tensor, where: Where) -> Tensor:
        """Trunk and skip, concatenated along the channels."""
        return torch.cat([trunk, self.skip(s, where)], dim=channel_axis(s))

    def residual(self, x: Tensor, h: Tensor) -> Tensor:
        """The short residual sum of a block: its input x and its branch h."""
        return x + h


REGISTRY: dict[str, type[Scaling]] = {}


def register(name: str) -> Callable[[type[Scaling]], type[Scaling]]:
    """Class decorator: the method is called `name` in suites, plans, reports and plots."""
    def add(cls: type[Scaling]) -> type[Scaling]:
        if name in REGISTRY:
            raise ValueError(f"method {name!r}: registered twice, by {REGISTRY[name].__module__} and {cls.__module__}")
        REGISTRY[name] = cls
        return cls

    return add


def channel_axis(s: Tensor) -> int:
    """-1 for tokens (B, L, D), 1 for maps (B, C, H, W)."""
    return -1 if s.ndim == 3 else 1


def per_channel(gain: Tensor, s: Tensor) -> Tensor:
    """A vector over channels, shaped to multiply s."""
    return gain if s.ndim == 3 else gain.view(-1, 1, 1)


def _in_range(method: str, name: str, value: float, low: float, high: float, advice: str) -> None:
    if not (isinstance(value, int | float) and low < value <= high):
        raise ValueError(f"{method}: {name}={value!r} is out of range; {advice}")


@register("none")
class NoScaling(Scaling):
    """Factor 1: the plain backbone. U-Net, arXiv 1505.04597; U-ViT, arXiv 2209.12152."""


@register("inv_sqrt2")
class InverseSqrt2(Scaling):
    """Factor 2^-1/2 on every long skip. The 1/sqrt(2) baseline of ScaleLong, arXiv 2310.13545."""

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * 2**-0.5


@register("constant")
class Constant(Scaling):
    """CS: kappa^(i-1), from 1 on the shallowest skip to kappa^(N-1) on the deepest. ScaleLong, arXiv 2310.13545.

    index: in a UNet i counts resolution levels ("level") or every concatenation ("concat"); the paper leaves it open.
    """

    def __init__(self, wheres: Sequence[Where], kappa: float = 0.5, index: str = "level") -> None:
        super().__init__(wheres)
        self.kappa, self.index = kappa, index

    @classmethod
    def check(cls, kappa: float = 0.5, index: str = "level") -> None:
        _in_range("constant", "kappa", kappa, 0, 1, "0 < kappa <= 1 (the paper advises 0.5 to 0.95)")
        if index not in ("level", "concat"):
            raise ValueError(f"constant: index={index!r} is unknown; choose from 'level', 'concat'")

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.kappa ** ((where.level if self.index == "level" else where.index) - 1)


@register("constant_reversed")
class ConstantReversed(Scaling):
    """kappa^(N-i): the shallowest skip is the weakest. A control: the same factors in the other order."""

    def __init__(self, wheres: Sequence[Where], kappa: float = 0.5, index: str = "level") -> None:
        super().__init__(wheres)
        self.kappa, self.index = kappa, index

    check = Constant.check

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.kappa ** (where.levels - where.level if self.index == "level" else where.N - where.index)


class Calibration(nn.Module):
    """The gate of LS: sigmoid(W2 relu(W1 pool(s))), both layers with bias, hidden = max(1, length // r).

    Pooled over features, one gate per token, (B, L, D) -> (B, L, 1); over H and W, one per channel, (B, C, H, W) ->
    (B, C, 1, 1). ScaleLong, arXiv 2310.13545; torch's default initialisation, so gates start near 1/2.
    """

    def __init__(self, length: int, r: int) -> None:
        super().__init__()
        hidden = max(1, length // r)
        self.layer1, self.layer2 = nn.Linear(length, hidden), nn.Linear(hidden, length)

    def forward(self, s: Tensor) -> Tensor:
        pooled = s.mean(-1) if s.ndim == 3 else s.mean((2, 3))
        gate = self.layer2(self.layer1(pooled).relu()).sigmoid()
        return gate[..., None] if s.ndim == 3 else gate[..., None, None]


@register("learnable")
class Learnable(Scaling):
    """LS: one calibration net for all skips (per distinct width in a UNet); r is its reduction. ScaleLong, arXiv 2310.13545."""

    def __init__(self, wheres: Sequence[Where], r: int = 16) -> None:
        super().__init__(wheres)
        lengths = dict.fromkeys(where.gated for where in wheres)
        self.nets = nn.ModuleDict({str(length): Calibration(length, r) for length in lengths})

    @classmethod
    def check(cls, r: int = 16) -> None:
        if not (type(r) is int and r >= 1):
            raise ValueError(f"learnable: r={r!r} is out of range; a whole number of at least 1")

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.nets[str(where.gated)](s)


@register("learnable_per_skip")
class LearnablePerSkip(Scaling):
    """LS, not shared: a calibration net for each skip. ScaleLong, arXiv 2310.13545."""

    def __init__(self, wheres: Sequence[Where], r: int = 16) -> None:
        super().__init__(wheres)
        self.nets = nn.ModuleList(Calibration(where.gated, r) for where in wheres)

    check = Learnable.check

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.nets[where.index - 1](s)


@register("residual_inv_sqrt2")
class ResidualInverseSqrt2(Scaling):
    """(x + h) / sqrt2 on the short residual sums, long skips untouched. Score SDE, arXiv 2011.13456; EDM, arXiv 2206.00364."""

    def residual(self, x: Tensor, h: Tensor) -> Tensor:
        return (x + h) * 2**-0.5


@register("mp_cat")
class MagnitudePreservingCat(Scaling):
    """Magnitude-preserving concatenation with balance t. EDM2, arXiv 2312.02696, eq. 103. Equals none at t = 1/2, equal widths."""

    def __init__(self, wheres: Sequence[Where], t: float = 0.5) -> None:
        super().__init__(wheres)
        self.t = t

    @classmethod
    def check(cls, t: float = 0.5) -> None:
        if not (isinstance(t, int | float) and 0 < t < 1):
            raise ValueError(f"mp_cat: t={t!r} is out of range; 0 < t < 1")

    def join(self, trunk: Tensor, s: Tensor, where: Where) -> Tensor:
        t, axis = self.t, channel_axis(s)
        a, b = trunk.shape[axis], s.shape[axis]
        scale = math.sqrt((a + b) / ((1 - t) ** 2 + t**2))
        return torch.cat([trunk * (scale * (1 - t) / math.sqrt(a)), s * (scale * t / math.sqrt(b))], dim=axis)


@register("norm_cat")
class NormCat(Scaling):
    """LayerNorm over the concatenated channels, before the block's own linear layer. Skip-DiT, arXiv 2411.17616."""

    def __init__(self, wheres: Sequence[Where]) -> None:
        super().__init__(wheres)
        self.norms = nn.ModuleList(nn.LayerNorm(where.trunk + where.channels) for where in wheres)

    def join(self, trunk: Tensor, s: Tensor, where: Where) -> Tensor:
        joined, axis = super().join(trunk, s, where), channel_axis(s)
        return self.norms[where.index - 1](joined.movedim(axis, -1)).movedim(-1, axis)


@register("scalar")
class Scalar(Scaling):
    """One learnable factor per skip, from 1. modded-nanogpt, U-net value skips."""

    initial = 1.0

    def __init__(self, wheres: Sequence[Where]) -> None:
        super().__init__(wheres)
        self.weight = nn.Parameter(torch.full((len(wheres),), self.initial))

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.weight[where.index - 1]


@register("sigmoid_scalar")
class SigmoidScalar(Scalar):
    """sigmoid of one learnable number per skip, from -1.5. modded-nanogpt records."""

    initial = -1.5

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * self.weight[where.index - 1].sigmoid()


@register("rezero")
class ReZero(Scalar):
    """One learnable factor per skip, from 0. ReZero, arXiv 2003.04887 (there on residual branches)."""

    initial = 0.0


@register("layerscale")
class LayerScale(Scaling):
    """A learnable gain per channel, from 1e-4. CaiT, arXiv 2103.17239 (there on residual branches)."""

    def __init__(self, wheres: Sequence[Where], init: float = 1e-4) -> None:
        super().__init__(wheres)
        self.gains = nn.ParameterList(torch.full((where.channels,), float(init)) for where in wheres)

    @classmethod
    def check(cls, init: float = 1e-4) -> None:
        if not (isinstance(init, int | float) and math.isfinite(init)):
            raise ValueError(f"layerscale: init={init!r} is out of range; a finite number")

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return s * per_channel(self.gains[where.index - 1], s)


@register("no_skip")
class NoSkip(Scaling):
    """Factor 0: long skips carry nothing. A control: U-ViT's ablation (arXiv 2209.12152) shows that it is bad."""

    def skip(self, s: Tensor, where: Where) -> Tensor:
        return torch.zeros_like(s)
