"""What a backbone is to everything else: its configuration, its long skips, its blocks and its scaling method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.scaling import LongSkip, Scaling


@dataclass(frozen=True)
class Config(ABC):
    """What the configuration of every backbone holds; a subclass adds the size, and builds its network.

    out_channels: None for in_channels. classes: of a class condition, 0 for none. context: (tokens, width) of a text
    condition, None for none.
    """

    image_size: int
    _: KW_ONLY
    in_channels: int = 3
    out_channels: int | None = None
    classes: int = 0
    context: tuple[int, int] | None = None
    dropout: float = 0.0

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.out_channels or self.in_channels

    @property
    def multiple(self) -> int:
        """`image_size` must be a multiple of this."""
        return 1

    @property
    def null_class(self) -> int | None:
        """The number of a class condition that stands for no class; None where there is none."""
        return None

    def long_skips(self) -> tuple[LongSkip, ...]:
        """The long skips, shallowest first: of a network without memory behind it unless a subclass knows better."""
        with torch.device("meta"):
            return self.build().long_skips

    @abstractmethod
    def build(self) -> Backbone:
        """A network of this configuration, its weights drawn from torch's global generator."""


class Backbone(nn.Module, ABC):
    """A network with long skips; the base of all.

    `forward` calls `self.scaling.join` at every long skip and `self.scaling.residual` for every short residual sum.
    long_skips: shallowest first. scaling: the method, `Scaling(long_skips)` until `models.build` puts another there.
    """

    config: Config
    long_skips: tuple[LongSkip, ...]
    scaling: Scaling

    @abstractmethod
    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """Noise (B, outputs, S, S) from x (B, C, S, S), timesteps (B,) in [0, 999], class (B,) or text (B, M, W)."""

    @property
    @abstractmethod
    def encoder(self) -> tuple[nn.Module, ...]:
        """The blocks whose output the long skips carry, in the order of `long_skips`."""

    @property
    @abstractmethod
    def middle(self) -> tuple[nn.Module, ...]:
        """The blocks between the two ends of the deepest skip."""

    @property
    @abstractmethod
    def decoder(self) -> tuple[nn.Module, ...]:
        """The blocks that take trunk and skip, joined, in the order of `long_skips`."""

    def check(self, x: Tensor, timesteps: Tensor, condition: Tensor | None) -> None:
        """ValueError, one line, for images, timesteps or a condition that the network does not take."""
        config = self.config
        channels, size = config.in_channels, config.image_size
        if x.ndim != 4 or x.shape[1:] != (channels, size, size):
            raise ValueError(f"x: shape {tuple(x.shape)} does not fit; the model takes (B, {channels}, {size}, {size})")
        if timesteps.shape != x.shape[:1]:
            got = tuple(timesteps.shape)
            raise ValueError(f"timesteps: shape {got} does not fit; the model takes ({len(x)},), one per image")
        given = "none" if condition is None else "text" if condition.is_floating_point() else "class"
        kind = "text" if config.context else "class" if config.classes else "none"
        if given != kind:
            raise ValueError(f"condition: {given} given; the model takes {kind}")
        shape = (len(x), *(config.context or ()))
        if condition is not None and condition.shape != shape:
            raise ValueError(f"condition: shape {tuple(condition.shape)} does not fit; the model takes {shape}")


def parameter_groups(model: Backbone, weight_decay: float) -> list[dict[str, Any]]:
    """The weights as an optimizer takes them: one group, and one without decay for a method that says so (`decays`)."""
    exempt = dict.fromkeys(() if model.scaling.decays else model.scaling.own)
    decayed = [weight for weight in model.parameters() if weight not in exempt]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": list(exempt), "weight_decay": 0.0}]
    return groups if exempt else groups[:1]
