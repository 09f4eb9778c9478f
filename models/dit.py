"""DiT (Peebles and Xie 2022, arXiv 2212.09748) at any size, its halves joined by long skips as in Skip-DiT.

The output of each block of the first half is a skip; it meets the trunk before the mirrored block of the second half.
Under `plain` this is the published DiT, under `norm_cat` Skip-DiT (arXiv 2411.17616). Modules bear the names of the
published checkpoints.

What is matched in a pair: every weight of the DiT itself, bit for bit. The linear layers behind the joins, and the
norms of norm_cat, belong to the method (`Scaling.linears`): they are drawn from its stream, the layers alike in all
arms that have them, and `plain` has none. Its partners hence have depth / 2 (2 width + 1) width parameters more. An MLP
of 4.5 times the width instead of 4 adds as many parameters and FLOPs to a plain DiT, exactly: the presets with `wide`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import cast

import torch
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from models.backbone import Backbone, Config
from models.layers import Attention, Recomputed, module_list, sinusoid, unpatchify
from models.scaling import LongSkip, Scaling

FREQUENCIES = 256  # width of the sinusoidal embedding of time
EPS = 1e-6  # of every norm


@dataclass(frozen=True)
class DiTConfig(Config):
    """Size. depth: blocks, an even number. mlp_ratio: hidden units of a block's MLP, in units of the width.

    The class condition has one number more than there are classes, `null_class`: no class.
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0

    @property
    def multiple(self) -> int:
        """Pixels per side of a patch."""
        return self.patch

    @property
    def null_class(self) -> int | None:
        """The last row of the table of classes."""
        return self.classes or None

    def long_skips(self) -> tuple[LongSkip, ...]:
        """The long skips, shallowest first."""
        n, tokens, width = self.depth // 2, (self.image_size // self.patch) ** 2, self.width
        return tuple(LongSkip(i, n, i, n, width, tokens, width, tokens, True, EPS) for i in range(1, n + 1))

    def build(self) -> DiT:
        """The network."""
        return DiT(self)


class Block(Recomputed):
    """A transformer block, norms and branches modulated by c; where a skip was joined, it is first mapped back."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, gelu = config.width, cast("type[nn.Module]", functools.partial(nn.GELU, approximate="tanh"))
        self.norm1, self.norm2 = (nn.LayerNorm(width, EPS, elementwise_affine=False) for _ in range(2))
        self.attn = Attention(width, config.heads, bias=True)
        self.mlp = Mlp(width, int(config.mlp_ratio * width), act_layer=gelu)
        self.drop = nn.Dropout(config.dropout)
        self.adaLN_modulation = _modulation(width, 6)

    def forward(self, x: Tensor, c: Tensor, scaling: Scaling, where: LongSkip | None) -> Tensor:
        if where is not None:
            x = scaling.to_trunk(x, where)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        x = scaling.residual(x, gate1 * self.drop(self.attn(self.norm1(x) * (1 + scale1) + shift1)))
        return scaling.residual(x, gate2 * self.drop(self.mlp(self.norm2(x) * (1 + scale2) + shift2)))


class FinalLayer(nn.Module):
    """A modulated norm and the linear layer to the pixels of each patch."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width, EPS, elementwise_affine=False), nn.Linear(width, outputs)
        self.adaLN_modulation = _modulation(width, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        out: Tensor = self.linear(self.norm(x) * (1 + scale) + shift)
        return out


class DiT(Backbone):
    """The network of a `DiTConfig`."""

    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, self.long_skips, width = config, config.long_skips(), config.width
        self.x_embedder = PatchEmbed(config.image_size, config.patch, config.in_channels, width)
        time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.t_embedder = nn.ModuleDict({"mlp": time})
        if config.classes:
            self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(config.classes + 1, width)})
        self.pos_embed = nn.Parameter(positions(width, config.image_size // config.patch), requires_grad=False)
        self.blocks = module_list(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.patch**2 * config.outputs)
        self._initialise()
        self.scaling = Scaling(self.long_skips)

    def _initialise(self) -> None:
        """Xavier; embeddings of time and class normal of 0.02; biases, all modulations and the last layer 0."""
        for name, weight in self.named_parameters():
            if weight.ndim == 1 or "adaLN" in name or name.startswith("final_layer"):
                nn.init.zeros_(weight)
            elif name.startswith(("t_embedder", "y_embedder")):
                nn.init.normal_(weight, std=0.02)
            elif weight.requires_grad:
                nn.init.xavier_uniform_(weight.flatten(1))

    @property
    def encoder(self) -> tuple[nn.Module, ...]:
        """The blocks of the first half."""
        return tuple(self.blocks[: len(self.long_skips)])

    @property
    def middle(self) -> tuple[nn.Module, ...]:
        """None: the deepest skip meets the trunk that it was taken from."""
        return ()

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """The blocks of the second half."""
        return tuple(self.blocks[len(self.long_skips) :])[::-1]

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise: see `Backbone`."""
        self.check(x, timesteps, condition)
        x = self.x_embedder(x) + self.pos_embed
        c: Tensor = self.t_embedder["mlp"](sinusoid(timesteps, FREQUENCIES).to(x.dtype))
        if self.config.classes:
            c = c + self.y_embedder["embedding_table"](condition)
        skips = []
        for block in self.encoder:
            x = block(x, c, self.scaling, None)
            skips.append(x)
        for block, where in zip(reversed(self.decoder), reversed(self.long_skips), strict=True):
            x = block(self.scaling.join(x, skips.pop(), where), c, self.scaling, where)
        return unpatchify(self.final_layer(x, c), self.config.patch, self.config.image_size)


def _modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


def positions(width: int, side: int) -> Tensor:
    """Sines and cosines of a patch's column, then of its row, (1, side^2, width): frequencies 10^(-16 k / width)."""
    frequencies = 10_000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)
    column, row = line[None].expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)[None].float()
