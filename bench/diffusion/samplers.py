"""Samplers: from noise to images along the reverse process. A registry by name; each counts one network evaluation a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.diffusion.schedules import Epsilon, Schedule

# Draws noise of the shape of x; called once per stochastic step.
Draw = Callable[[], Tensor]

END = 1e-3  # both samplers stop at this t: below it the score of 8-bit images is not learnt


def dpmpp_2m(epsilon: Epsilon, x: Tensor, sde: Schedule, steps: int, draw: Draw | None = None) -> Tensor:
    """DPM-Solver++(2M), deterministic, second order; steps uniform in log-SNR from t = 1 to END.

    Lu et al. 2022 (arXiv 2211.01095), algorithm 2. x: (B, C, H, W) noise at t = 1; returns images of the same shape.
    """
    first, last = sde.log_snr(torch.tensor([1.0, END], dtype=torch.float64)).tolist()
    grid = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    times = sde.time(grid)
    previous: Tensor | None = None
    for i in range(steps):
        t, h = times[i], grid[i + 1] - grid[i]
        clean = (x - float(sde.sigma(t)) * epsilon(x, _batch(t, x))) / float(sde.alpha(t))
        # The grid is uniform in log-SNR: r = h_{i-1} / h_i = 1, hence D = 3/2 x0_i - 1/2 x0_{i-1}.
        estimate = clean if previous is None else 1.5 * clean - 0.5 * previous
        after = times[i + 1]
        x = float(sde.sigma(after) / sde.sigma(t)) * x - float(sde.alpha(after) * torch.expm1(-h)) * estimate
        previous = clean
    return x


def euler_maruyama(epsilon: Epsilon, x: Tensor, sde: Schedule, steps: int, draw: Draw | None = None) -> Tensor:
    """Euler-Maruyama on the reverse SDE, uniform in t from 1 to END, the last step noise-free.

    Song et al. 2021, eq. 6: dx = [-1/2 beta x - beta score] dt + sqrt(beta) dw, score = -epsilon / sigma.
    """
    times = torch.linspace(1.0, END, steps + 1, dtype=torch.float64)
    step = float(times[0] - times[1])
    for i in range(steps):
        t = times[i]
        beta, sigma = float(sde.beta(t)), float(sde.sigma(t))
        x = x + step * (0.5 * beta * x - beta / sigma * epsilon(x, _batch(t, x)))
        if i + 1 < steps:
            x = x + (step * beta) ** 0.5 * (draw() if draw else torch.randn_like(x))
    return x


def clipped(epsilon: Epsilon, sde: Schedule) -> Epsilon:
    """The same prediction with the clean image it implies clamped to [-1, 1], as DDPM's sampler does.

    Near t = 1 that image is (x - sigma epsilon) / alpha with alpha below 0.01: an error of a small network in the mean
    colour is enlarged a hundredfold there.
    """
    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = float(sde.alpha(t[0])), float(sde.sigma(t[0]))
        clean = ((x - sigma * epsilon(x, t)) / alpha).clamp(-1, 1)
        return (x - alpha * clean) / sigma

    return predict


SAMPLERS: dict[str, Callable[..., Tensor]] = {"dpmpp-2m": dpmpp_2m, "euler-maruyama": euler_maruyama}


def _batch(t: Tensor, x: Tensor) -> Tensor:
    return torch.full((len(x),), float(t), dtype=x.dtype, device=x.device)
