"""Every scaling method: one small class each, registered by name.

A method acts at three places and nowhere else: `skip` on what a long skip carries, `join` where the skip meets the
trunk, and `residual` on every short residual sum. A backbone calls `join` at each of its N long skips and `residual` in
each block.

Tokens have shape (B, L, D), feature maps (B, C, H, W); the channel axis is the last of tokens, the second of maps.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Valid = Mapping[str, tuple[Callable[[Any], bool], str]]  # parameter: a test of its value, and its range in words


@dataclass(frozen=True)
class LongSkip:
    """One long skip: index 1 is the shallowest (outermost), N the deepest; level 1 is the highest resolution.

    channels: of the skip. tokens: length of a token sequence, None for maps. trunk: channels of the trunk that the skip
    joins, None for as many as the skip's. patches: how many of the tokens, the last ones, are a square image. Every
    skip of a transformer is a level of its own. mapped: whether the method brings the linear layer that maps what is
    joined back to the trunk's channels (elsewhere the backbone has it). eps: of a norm at the join.
    """

    index: int
    N: int
    level: int
    levels: int
    channels: int
    tokens: int | None = None
    trunk: int | None = None
    patches: int = 0
    mapped: bool = False
    eps: float = 1e-5

    @property
    def gated(self) -> int:
        """What a calibration net gates: tokens of a sequence, channels of a map."""
        return self.channels if self.tokens is None else self.tokens

    @property
    def joined(self) -> int:
        """Channels after concatenation."""
        return (self.trunk or self.channels) + self.channels


class Scaling(nn.Module):
    """A method that scales nothing, and the base of all others.

    A method's parameters are keyword arguments of `__init__`, of the type of their default. valid: tests that narrow
    them. decays: whether weight decay falls on the weights that the method adds; gains and norms are better left alone.
    """

    valid: ClassVar[Valid] = {}
    decays: ClassVar[bool] = True

    def __init__(self, long_skips: Sequence[LongSkip]) -> None:
        super().__init__()
        self.long_skips = tuple(long_skips)
        mapped = (where for where in self.long_skips if where.mapped)
        self.linears = nn.ModuleList(nn.Linear(where.joined, where.trunk or where.channels) for where in mapped)

    @property
    def own(self) -> list[nn.Parameter]:
        """The method's parameters but for the linear layers behind its joins."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("linears.")]

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        """What the long skip carries: s, scaled."""
        return s

    def join(self, trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
        """Trunk and skip, concatenated along the channels."""
        return torch.cat([trunk, self.skip(s, where)], dim=channel_axis(s))

    def to_trunk(self, joined: Tensor, where: LongSkip) -> Tensor:
        """What was joined, mapped back to the trunk's channels where the method has the layer for it."""
        out: Tensor = self.linears[where.index - 1](joined) if self.linears else joined
        return out

    def residual(self, x: Tensor, h: Tensor) -> Tensor:
        """The short residual sum of a block: its input x and its branch h."""
        return x + h


@contextmanager
def joined_by(scaling: Scaling, join: Callable[[Tensor, Tensor, LongSkip], Tensor]) -> Iterator[None]:
    """Replace a method's `join` for the time of a measurement; the original remains `type(scaling).join`."""
    vars(scaling)["join"] = join
    try:
        yield
    finally:
        del vars(scaling)["join"]


REGISTRY: dict[str, type[Scaling]] = {}


def register(name: str) -> Callable[[type[Scaling]], type[Scaling]]:
    """Class decorator: the method is called `name` in suites, plans, reports and plots. ValueError if it cannot be."""

    def add(cls: type[Scaling]) -> type[Scaling]:
        if flaw := _flaw(name, cls):
            raise ValueError(f"method {name!r}: {flaw}")
        REGISTRY[name] = cls
        return cls

    return add


def _flaw(name: str, cls: type[Scaling]) -> str | None:
    """Why a class cannot be the method `name`; None if it can."""
    if name in REGISTRY:
        return f"registered twice, by {REGISTRY[name].__module__} and {cls.__module__}"
    if not name.isidentifier():
        return "a name is of letters, digits and _"
    if not issubclass(cls, Scaling):
        return f"{cls.__name__} must be a subclass of Scaling"
    _, *arguments = inspect.signature(cls.__init__).parameters.values()
    if not arguments or arguments[0].default is not inspect.Parameter.empty:
        return f"{cls.__name__}.__init__ must take long_skips first"
    needed = [key for key, default in defaults(cls).items() if default is inspect.Parameter.empty]
    return f"parameter {needed[0]!r} of {cls.__name__}.__init__ needs a default" if needed else None


def defaults(cls: type[Scaling]) -> dict[str, Any]:
    """Parameters of a method's class and their defaults: all but the first two, self and the long skips."""
    return {key: parameter.default for key, parameter in list(inspect.signature(cls.__init__).parameters.items())[2:]}


def channel_axis(s: Tensor) -> int:
    """-1 for tokens (B, L, D), 1 for maps (B, C, H, W)."""
    return -1 if s.ndim == 3 else 1


def per_channel(gain: Tensor, s: Tensor) -> Tensor:
    """A vector over channels, in the shape and the precision to multiply s: an fp32 gain leaves a bf16 skip in bf16."""
    return gain.to(s.dtype) if s.ndim == 3 else gain.to(s.dtype).view(-1, 1, 1)


def on_image(change: Callable[[Tensor], Tensor], x: Tensor, where: LongSkip) -> Tensor:
    """Apply `change` to a map (B, C, H, W), or to the patches among tokens (B, L, D) laid out as one."""
    if x.ndim == 4:
        return change(x)
    other, patches = torch.split(x, [x.shape[1] - where.patches, where.patches], dim=1)
    image = torch.unflatten(patches.transpose(1, 2), 2, (math.isqrt(where.patches), -1))
    return torch.cat([other, change(image).flatten(2).transpose(1, 2)], dim=1)


KAPPA = (lambda kappa: 0 < kappa <= 1, "0 < kappa <= 1 (the paper advises 0.5 to 0.95)")
INDEX = (("level", "concat").__contains__, "choose from 'level', 'concat'")
FACTOR = (lambda factor: factor >= 0, "a number of at least 0")


@register("none")
class NoScaling(Scaling):
    """Factor 1: long skips as they are. U-Net, arXiv 1505.04597; U-ViT, arXiv 2209.12152."""


@register("inv_sqrt2")
class InverseSqrt2(Scaling):
    """Factor 2^-1/2 on every long skip. The 1/sqrt(2) baseline of ScaleLong, arXiv 2310.13545."""

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * 2**-0.5


@register("constant")
class Constant(Scaling):
    """CS: kappa^(i-1), from 1 on the shallowest skip to kappa^(N-1) on the deepest. ScaleLong, arXiv 2310.13545.

    index: in a UNet i counts resolution levels ("level") or every concatenation ("concat"); the paper leaves it open.
    """

    valid: ClassVar[Valid] = {"kappa": KAPPA, "index": INDEX}

    def __init__(self, long_skips: Sequence[LongSkip], kappa: float = 0.5, index: str = "level") -> None:
        super().__init__(long_skips)
        self.kappa, self.index = kappa, index

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * self.kappa ** ((where.level if self.index == "level" else where.index) - 1)


@register("constant_reversed")
class ConstantReversed(Constant):
    """kappa^(N-i), the shallowest skip the weakest. A control: the factors of CS, arXiv 2310.13545, reversed."""

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
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
        gate = torch.sigmoid(self.layer2(self.layer1(pooled).relu()))
        return gate[..., None] if s.ndim == 3 else gate[..., None, None]


@register("learnable")
class Learnable(Scaling):
    """LS: one calibration net for all skips, of reduction r. ScaleLong, arXiv 2310.13545.

    In a UNet, where a gate belongs to a channel, one for all skips of the same width.
    """

    valid: ClassVar[Valid] = {"r": (lambda r: r >= 1, "a whole number of at least 1")}

    def __init__(self, long_skips: Sequence[LongSkip], r: int = 16) -> None:
        super().__init__(long_skips)
        lengths = dict.fromkeys(where.gated for where in long_skips)
        self.nets = nn.ModuleDict({str(length): Calibration(length, r) for length in lengths})

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return torch.mul(s, self.nets[str(where.gated)](s))


@register("learnable_per_skip")
class LearnablePerSkip(Scaling):
    """LS, not shared: a calibration net for each skip. ScaleLong, arXiv 2310.13545."""

    valid: ClassVar[Valid] = Learnable.valid

    def __init__(self, long_skips: Sequence[LongSkip], r: int = 16) -> None:
        super().__init__(long_skips)
        self.nets = nn.ModuleList(Calibration(where.gated, r) for where in long_skips)

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return torch.mul(s, self.nets[where.index - 1](s))


@register("residual_inv_sqrt2")
class ResidualInverseSqrt2(Scaling):
    """(x + h) / sqrt2 on short residual sums, not on long skips. Score SDE, arXiv 2011.13456; EDM, arXiv 2206.00364."""

    def residual(self, x: Tensor, h: Tensor) -> Tensor:
        return (x + h) * 2**-0.5


@register("mp_cat")
class MagnitudePreservingCat(Scaling):
    """Magnitude-preserving concatenation with balance t. EDM2, arXiv 2312.02696.

    At t = 1/2 it equals none where trunk and skip are equally wide, as in every U-ViT.
    """

    valid: ClassVar[Valid] = {"t": (lambda t: 0 < t < 1, "0 < t < 1")}

    def __init__(self, long_skips: Sequence[LongSkip], t: float = 0.5) -> None:
        super().__init__(long_skips)
        self.t = t

    def join(self, trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
        t, axis = self.t, channel_axis(s)
        a, b = trunk.shape[axis], s.shape[axis]
        scale = math.sqrt((a + b) / ((1 - t) ** 2 + t**2))
        return torch.cat([trunk * (scale * (1 - t) / math.sqrt(a)), s * (scale * t / math.sqrt(b))], dim=axis)


@register("norm_cat")
class NormCat(Scaling):
    """Linear(LayerNorm(cat)). Skip-DiT, arXiv 2411.17616; HunyuanDiT, 2405.08748.

    The linear layer is that of every method in a DiT, `skip_linear` in a U-ViT; in a UNet the first convolution and the
    1x1 shortcut of the block.
    """

    decays = False

    def __init__(self, long_skips: Sequence[LongSkip]) -> None:
        super().__init__(long_skips)
        self.norms = nn.ModuleList(nn.LayerNorm(where.joined, where.eps) for where in long_skips)

    def join(self, trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
        joined, axis = super().join(trunk, s, where), channel_axis(s)
        normed: Tensor = self.norms[where.index - 1](joined.movedim(axis, -1))
        return normed.movedim(-1, axis).to(joined.dtype)  # CUDA's autocast computes a norm in fp32


@register("scalar")
class Scalar(Scaling):
    """One learnable factor per skip, from 1. modded-nanogpt, U-net value skips."""

    initial, decays = 1.0, False

    def __init__(self, long_skips: Sequence[LongSkip]) -> None:
        super().__init__(long_skips)
        self.weight = nn.Parameter(torch.full((len(long_skips),), self.initial))

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * self.weight[where.index - 1]


@register("sigmoid_scalar")
class SigmoidScalar(Scalar):
    """sigmoid of one learnable number per skip, from -1.5. modded-nanogpt records."""

    initial = -1.5

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * self.weight[where.index - 1].sigmoid()


@register("rezero")
class ReZero(Scalar):
    """One learnable factor per skip, from 0. ReZero, arXiv 2003.04887 (there on residual branches)."""

    initial = 0.0


@register("layerscale")
class LayerScale(Scaling):
    """A learnable gain per channel, from 1e-4. CaiT, arXiv 2103.17239 (there on residual branches)."""

    decays = False

    def __init__(self, long_skips: Sequence[LongSkip], init: float = 1e-4) -> None:
        super().__init__(long_skips)
        self.gains = nn.ParameterList(torch.full((where.channels,), float(init)) for where in long_skips)

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return s * per_channel(self.gains[where.index - 1], s)


@register("no_skip")
class NoSkip(Scaling):
    """Factor 0: long skips carry nothing. A control: U-ViT's ablation (arXiv 2209.12152) shows that it is bad."""

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        return torch.zeros_like(s)


@register("plain")
class Plain(Scaling):
    """No long skips: the trunk goes on alone. DiT, arXiv 2212.09748, without what Skip-DiT, arXiv 2411.17616, adds."""

    def __init__(self, long_skips: Sequence[LongSkip]) -> None:
        if not all(where.mapped for where in long_skips):
            raise ValueError("plain: the layers of this backbone take trunk and skip joined; choose no_skip or a DiT")
        super().__init__([replace(where, mapped=False) for where in long_skips])

    def join(self, trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
        return trunk


@register("skip_tuning")
class SkipTuning(Scaling):
    """Factor linear in i, rho_bottom on the deepest skip to rho_top on the shallowest. Skip-Tuning, arXiv 2402.15170.

    For sampling from a trained network. The defaults are ours.
    """

    valid: ClassVar[Valid] = {"rho_bottom": FACTOR, "rho_top": FACTOR}

    def __init__(self, long_skips: Sequence[LongSkip], rho_bottom: float = 0.8, rho_top: float = 1.0) -> None:
        super().__init__(long_skips)
        self.rho_bottom, self.rho_top = rho_bottom, rho_top

    def skip(self, s: Tensor, where: LongSkip) -> Tensor:
        depth = (where.index - 1) / max(1, where.N - 1)
        return s * (depth * self.rho_bottom + (1 - depth) * self.rho_top)


@register("freeu")
class FreeU(Scaling):
    """Stronger trunk, weaker low frequencies of the skip, in the two deepest decoder stages. FreeU, arXiv 2309.11497.

    b1, s1 act in the deepest stage, b2, s2 in the next; the defaults are common with Stable Diffusion. For sampling
    from a trained network. In a U-ViT a stage is a block, the image is the patches, and other tokens stay as they are.
    """

    valid: ClassVar[Valid] = {"b1": FACTOR, "b2": FACTOR, "s1": FACTOR, "s2": FACTOR}

    def __init__(
        self, long_skips: Sequence[LongSkip], b1: float = 1.3, b2: float = 1.4, s1: float = 0.9, s2: float = 0.2
    ) -> None:
        super().__init__(long_skips)
        self.stages = ((b1, s1), (b2, s2))

    def join(self, trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
        stage = where.levels - where.level
        if stage < len(self.stages):
            b, low = self.stages[stage]
            trunk = trunk if b == 1 else on_image(lambda x: _strengthen(x, b), trunk, where)
            s = s if low == 1 else on_image(lambda x: _scale_low(x, low), s, where)
        return super().join(trunk, s, where)


def _strengthen(x: Tensor, b: float) -> Tensor:
    """The first half of the channels of (B, C, H, W) times 1 + (b - 1) m, m the channels' mean brought to [0, 1]."""
    mean = x.mean(1, keepdim=True)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    # A flat mean, where the normalisation is 0 / 0, counts as 0.
    m = (mean - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny)
    first, second = x.tensor_split([x.shape[1] // 2], dim=1)
    return torch.cat([first * ((b - 1) * m + 1), second], dim=1)


def _scale_low(x: Tensor, factor: float) -> Tensor:
    """Frequencies -1 and 0 along H and W of (B, C, H, W), the window of FreeU's filter, times `factor`."""
    mask = torch.ones(x.shape[-2:], device=x.device)
    for row in (0, -1):
        for column in (0, -1):
            mask[row, column] = factor
    spectrum = torch.fft.fft2(x.float())  # not every device transforms in half precision
    image: Tensor = torch.fft.ifft2(spectrum * mask).real
    return image.to(x.dtype)
