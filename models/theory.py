"""The bounds of ScaleLong (arXiv 2310.13545) as functions, and the additive toy network that they are about.

    UNet(x) = f_0(x),   f_i(x) = b_{i+1}(kappa_{i+1} a_{i+1}(x) + f_{i+1}(a_{i+1}(x))),   f_N the middle block.

a_i are encoder blocks, b_i decoder blocks, kappa_i the factor on skip i (1 shallowest, N deepest). Real backbones join
a skip by concatenation: there these are predictions of order, not of value. docs/stability.md says what was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.scaling import REGISTRY, LongSkip, Scaling, joined_by


def factors(scaling: Scaling) -> list[float] | None:
    """kappa_1 .. kappa_N, asked of a network's method; None if it does more than multiply skips by fixed numbers."""
    kind = type(scaling)
    elsewhere = kind.join is not Scaling.join or kind.residual is not Scaling.residual
    if elsewhere or scaling.own:
        return None

    def factor(where: LongSkip) -> float:
        shape = (1, where.tokens, where.channels) if where.tokens else (1, where.channels, 4, 4)
        return float(scaling.skip(torch.ones(shape, dtype=torch.float64), where).mean())

    return [factor(where) for where in scaling.long_skips]


def coefficients(method: str, n: int, **parameters: float) -> list[float]:
    """kappa_1 .. kappa_n of a method by its name; ValueError for one that is unknown or has no fixed factors."""
    if method not in REGISTRY:
        raise ValueError(f"method {method!r} is unknown; choose from {', '.join(REGISTRY)}")
    long_skips = [LongSkip(i, n, i, n, channels=4, tokens=4, trunk=4, patches=4) for i in range(1, n + 1)]
    found = factors(REGISTRY[method](long_skips, **parameters))
    if found is None:
        choices = "none, inv_sqrt2, constant, constant_reversed, no_skip"
        raise ValueError(f"method: {method!r} has no fixed factor; choose from {choices}")
    return found


def sum_of_squares(kappas: Sequence[float], first: int = 1) -> float:
    """sum_{j=first..N} kappa_j^2, which governs norms (Theorem 3.1) and gradients (Theorem 3.2) of block `first`."""
    return math.fsum(kappa**2 for kappa in kappas[first - 1 :])


def constant_limit(kappa: float) -> float:
    """What sum_j kappa^(2(j-1)) never exceeds, whatever the depth: 1 / (1 - kappa^2). kappa in (0, 1)."""
    return 1 / (1 - kappa**2)


def expected_square(alpha_bar: float | Tensor, second_moment: float = 1 / 3) -> float | Tensor:
    """E||x_t||^2 / m at a noise level: abar E[x_0^2] + 1 - abar. second_moment: 1/3 for x_0 uniform on [-1, 1]."""
    return alpha_bar * second_moment + 1 - alpha_bar


def input_norm(alpha_bars: Tensor, second_moment: float = 1 / 3) -> float:
    """E_t E||x_t||^2 / m over the times of a schedule, 1 - (1 - E[x_0^2]) E_t abar_t: the paper's Lemma on the input.

    alpha_bars: (T,) on a uniform grid of times. With second_moment = 1/3 this is 1 - (2/3) E_t abar_t.
    """
    return float(1 - (1 - second_moment) * alpha_bars.double().mean())


def robustness_bound(kappas: Sequence[float], encoders: list[float], decoders: list[float], middle: float) -> float:
    """A Lipschitz constant of the additive network: sum_i kappa_i M0^i + Lip(f_N) M0^N, M0 = max_j Lip(a_j) Lip(b_j).

    Rigorous in this form: f_{i-1} has Lip(b_i)(kappa_i Lip(a_i) + Lip(f_i) Lip(a_i)) <= M0 (kappa_i + Lip(f_i)), and
    the nesting gives the sum. With M0 = max_j Lip(b_j o a_j), as the paper may be read, the nested product of
    b_1 .. b_i and a_i .. a_1 is not covered.
    """
    m0 = max(a * b for a, b in zip(encoders, decoders, strict=True))
    return math.fsum(kappa * m0**i for i, kappa in enumerate(kappas, 1)) + middle * m0 ** len(kappas)


@torch.no_grad()
def reach(model: Backbone, x: Tensor, timesteps: Tensor, condition: Tensor | None = None) -> list[float]:
    """Relative contribution of skips 1 .. N to the shallowest decoder block, ||h_0 - h_0 without skip j|| / ||h_0||.

    The sum of Theorem 3.1 counts every skip in full. Where a skip joins by concatenation, the next linear layer also
    multiplies what comes from below; where that shrinks it, skip j arrives shrunk j - 1 times.
    """
    scaling = model.scaling
    features: list[Tensor] = []

    def feature(silent: int) -> Tensor:
        def join(trunk: Tensor, s: Tensor, where: LongSkip) -> Tensor:
            return type(scaling).join(scaling, trunk, torch.zeros_like(s) if where.index == silent else s, where)

        with joined_by(scaling, join):
            model(x, timesteps, condition)
        return features.pop()

    hook = model.decoder[0].register_forward_hook(lambda block, inputs, output: features.append(output))
    try:
        whole = feature(0)
        return [float((feature(where.index) - whole).norm() / whole.norm()) for where in model.long_skips]
    finally:
        hook.remove()


class AdditiveUNet(nn.Module):
    """The network of the theory: one linear layer and ReLU per block, Kaiming-initialised, skips added.

    kappas: kappa_1 .. kappa_N. forward: (B, m) -> (B, m).
    """

    def __init__(
        self, kappas: Sequence[float], width: int, generator: torch.Generator | None = None, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.kappas, n = tuple(kappas), len(kappas)
        std = gain * math.sqrt(2 / width)
        weights = [nn.Parameter(std * torch.randn(width, width, generator=generator)) for _ in range(2 * n + 1)]
        parts = weights[:n], weights[n:-1], weights[-1:]
        self.a, self.b, self.middle = (nn.ParameterList(part) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """h_0 = f_0(x)."""
        skips = []
        for weight in self.a:
            x = torch.relu(x @ weight.T)
            skips.append(x)
        x = torch.relu(x @ self.middle[0].T)
        for kappa, weight in zip(self.kappas[::-1], reversed(self.b), strict=True):
            x = torch.relu((kappa * skips.pop() + x) @ weight.T)
        return x

    def bound(self) -> float:
        """Its robustness bound from the spectral norms of its layers; ReLU has Lipschitz constant 1."""
        norms = [float(torch.linalg.matrix_norm(w.detach(), 2)) for w in (*self.a, *self.b, *self.middle)]
        n = len(self.kappas)
        return robustness_bound(self.kappas, norms[:n], norms[n:-1], norms[-1])
