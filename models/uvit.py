"""U-ViT (Bao et al. 2023, arXiv 2209.12152) at any size: all inputs are tokens, long skips join mirrored blocks.

Modules bear the names of the published checkpoints.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

from models.backbone import Backbone, Config
from models.layers import Attention, Recomputed, module_list, sinusoid, unpatchify
from models.scaling import LongSkip, Scaling


@dataclass(frozen=True)
class UViTConfig(Config):
    """Size. depth: blocks, the middle one not counted; half of them are skips.

    init_std: of the initial linear layers. The published 0.02 belongs to widths of 512 and more; a narrower network
    whose layers shall put out as much at the start takes 0.02 sqrt(512 / width).
    """

    patch: int
    width: int
    depth: int
    heads: int
    init_std: float = 0.02

    @property
    def multiple(self) -> int:
        """Pixels per side of a patch."""
        return self.patch

    @property
    def extra_tokens(self) -> int:
        """Tokens before the patches: the label if any, the time, the text."""
        return (self.classes > 0) + 1 + (self.context[0] if self.context else 0)

    @property
    def tokens(self) -> int:
        """All tokens, L."""
        return self.extra_tokens + (self.image_size // self.patch) ** 2

    def long_skips(self) -> tuple[LongSkip, ...]:
        """The long skips, shallowest first."""
        n, patches = self.depth // 2, self.tokens - self.extra_tokens
        indices = range(1, n + 1)
        return tuple(LongSkip(i, n, i, n, self.width, self.tokens, self.width, patches) for i in indices)

    def build(self) -> UViT:
        """The network."""
        return UViT(self)


class Block(Recomputed):
    """A pre-norm transformer block; with `skip` it first maps the joined trunk and skip back to its width."""

    def __init__(self, width: int, heads: int, dropout: float, skip: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads, bias=False)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, 4 * width)
        self.skip_linear = nn.Linear(2 * width, width) if skip else None
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, scaling: Scaling) -> Tensor:
        if self.skip_linear is not None:
            x = self.skip_linear(x)
        x = scaling.residual(x, self.drop(self.attn(self.norm1(x))))
        return scaling.residual(x, self.drop(self.mlp(self.norm2(x))))


class UViT(Backbone):
    """The network of a `UViTConfig`."""

    config: UViTConfig

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config, self.long_skips, width = config, config.long_skips(), config.width
        self.patch_embed = PatchEmbed(config.image_size, config.patch, config.in_channels, width)
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, width)
        if config.context:
            self.context_embed = nn.Linear(config.context[1], width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, width))
        half = config.depth // 2
        self.in_blocks = module_list(Block(width, config.heads, config.dropout) for _ in range(half))
        self.mid_block = Block(width, config.heads, config.dropout)
        self.out_blocks = module_list(Block(width, config.heads, config.dropout, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, config.patch**2 * config.outputs)
        self.final_layer = nn.Conv2d(config.outputs, config.outputs, 3, padding=1)
        trunc_normal_(self.pos_embed, std=0.02)
        self.apply(functools.partial(_initialise, config.init_std))
        self.scaling = Scaling(self.long_skips)

    @property
    def encoder(self) -> tuple[nn.Module, ...]:
        """The blocks of the first half."""
        return tuple(self.in_blocks)

    @property
    def middle(self) -> tuple[nn.Module, ...]:
        """The block between the halves."""
        return (self.mid_block,)

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """The blocks of the second half."""
        return tuple(self.out_blocks)[::-1]

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise: see `Backbone`."""
        self.check(x, timesteps, condition)
        x = self._tokens(x, timesteps, condition)
        skips = []
        for block in self.in_blocks:
            x = block(x, self.scaling)
            skips.append(x)
        x = self.mid_block(x, self.scaling)
        for block, where in zip(self.out_blocks, reversed(self.long_skips), strict=True):
            x = block(self.scaling.join(x, skips.pop(), where), self.scaling)
        patches = self.decoder_pred(self.norm(x))[:, self.config.extra_tokens :]
        out: Tensor = self.final_layer(unpatchify(patches, self.config.patch, self.config.image_size))
        return out

    def _tokens(self, x: Tensor, timesteps: Tensor, condition: Tensor | None) -> Tensor:
        """[label if any, time, patches], or [time, text, patches]; positions added."""
        time = sinusoid(timesteps, self.config.width)[:, None].to(x.dtype)
        parts = [time, self.patch_embed(x)]
        if self.config.context:
            parts.insert(1, self.context_embed(condition))
        elif self.config.classes:
            parts.insert(0, self.label_emb(condition)[:, None])
        return torch.cat(parts, dim=1) + self.pos_embed


def _initialise(std: float, module: nn.Module) -> None:
    """Linear: truncated normal of `std`, bias 0; the rest keeps torch's default, as in the published code."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
