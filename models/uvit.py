"""U-ViT (Bao et al. 2023, arXiv 2209.12152) at any size: all inputs are tokens, long skips join mirrored blocks.

Modules bear the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers import Mlp, PatchEmbed, trunc_normal_
from torch import Tensor, nn

from models.layers import Recomputed, attend, check_condition, check_inputs, sinusoid
from models.scaling import Scaling, Where


@dataclass(frozen=True)
class UViTConfig:
    """Size and condition. depth: blocks, the middle one not counted; half of them are skips. classes: 0 for none.

    context: (tokens, width) of a text, None for none.
    """

    image_size: int
    patch: int
    width: int
    depth: int
    heads: int
    in_channels: int = 3
    out_channels: int | None = None
    classes: int = 0
    context: tuple[int, int] | None = None
    dropout: float = 0.0

    @property
    def extra_tokens(self) -> int:
        """Tokens before the patches: the label if any, the time, the text."""
        return (self.classes > 0) + 1 + (self.context[0] if self.context else 0)

    @property
    def tokens(self) -> int:
        """All tokens, L."""
        return self.extra_tokens + (self.image_size // self.patch) ** 2

    def wheres(self) -> list[Where]:
        """The long skips, shallowest first."""
        n = self.depth // 2
        patches = self.tokens - self.extra_tokens
        return [Where(i, n, i, n, self.width, self.tokens, trunk=self.width, patches=patches) for i in range(1, n + 1)]


class Attention(nn.Module):
    """Self-attention; qkv in the order (K, heads, width), no bias on it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(*self.qkv(x).chunk(3, dim=-1), self.heads))


class Block(Recomputed):
    """A pre-norm transformer block; with `skip` it first maps the joined trunk and skip back to its width."""

    def __init__(self, width: int, heads: int, dropout: float, skip: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, 4 * width)
        self.skip_linear = nn.Linear(2 * width, width) if skip else None
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, scaling: Scaling) -> Tensor:
        if self.skip_linear is not None:
            x = self.skip_linear(x)
        x = scaling.residual(x, self.drop(self.attn(self.norm1(x))))
        return scaling.residual(x, self.drop(self.mlp(self.norm2(x))))


class UViT(nn.Module):
    """Noise from images (B, C, S, S), timesteps (B,) in [0, 999] and a condition: long (B,) or float (B, M, W)."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        out = config.out_channels or config.in_channels
        self.patch_embed = PatchEmbed(config.image_size, config.patch, config.in_channels, width)
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, width)
        if config.context:
            self.context_embed = nn.Linear(config.context[1], width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, width))
        half = config.depth // 2
        self.in_blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(half))
        self.mid_block = Block(width, config.heads, config.dropout)
        self.out_blocks = nn.ModuleList(Block(width, config.heads, config.dropout, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, config.patch**2 * out)
        self.final_layer = nn.Conv2d(out, out, 3, padding=1)
        trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)
        self.wheres = config.wheres()
        self.scaling = Scaling(self.wheres)

    @property
    def encoder(self) -> tuple[nn.Module, ...]:
        """The blocks that skips leave from, shallowest first."""
        return tuple(self.in_blocks)

    @property
    def middle(self) -> tuple[nn.Module, ...]:
        """The blocks between the deepest skip's ends."""
        return (self.mid_block,)

    @property
    def decoder(self) -> tuple[nn.Module, ...]:
        """The blocks that skips enter, shallowest first: in the order of `wheres`."""
        return tuple(self.out_blocks)[::-1]

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> Tensor:
        """The predicted noise, of the shape of x (out_channels for C)."""
        config = self.config
        check_inputs(x, timesteps, config.in_channels, config.image_size)
        check_condition(condition, len(x), config.classes, config.context)
        x = self._tokens(x, timesteps, condition)
        skips = []
        for block in self.in_blocks:
            x = block(x, self.scaling)
            skips.append(x)
        x = self.mid_block(x, self.scaling)
        for block, where in zip(self.out_blocks, reversed(self.wheres), strict=True):
            x = block(self.scaling.join(x, skips.pop(), where), self.scaling)
        x = self.decoder_pred(self.norm(x))
        return self.final_layer(_unpatchify(x[:, config.extra_tokens:], config.patch, config.image_size))

    def _tokens(self, x: Tensor, timesteps: Tensor, condition: Tensor | None) -> Tensor:
        """[label if any, time, patches], or [time, text, patches]; positions added."""
        time = sinusoid(timesteps, self.config.width)[:, None].to(x.dtype)
        parts = [time, self.patch_embed(x)]
        if self.config.context:
            parts.insert(1, self.context_embed(condition))
        elif self.config.classes:
            parts.insert(0, self.label_emb(condition)[:, None])
        return torch.cat(parts, dim=1) + self.pos_embed


def _unpatchify(x: Tensor, patch: int, size: int) -> Tensor:
    """(B, h w, p1 p2 C) -> (B, C, h p1, w p2)."""
    side = size // patch
    cells = x.unflatten(-1, (patch, patch, -1)).unflatten(1, (side, side))
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, size, size)


def _initialise(module: nn.Module) -> None:
    """Linear: truncated normal of 0.02, bias 0; the rest keeps torch's default, as in the published code."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
