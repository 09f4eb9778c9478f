"""Samplers, from noise to images along the reverse process, by name; each evaluates the network once a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.diffusion.schedules import Epsilon, Schedule

# Draws noise of the shape of x; called once per stochastic step.
Draw = Callable[[], Tensor]
# (epsilon, x at t = 1, schedule, steps, time at which it ends, draw) -> images of the shape of x, (B, C, H, W).
Sampler = Callable[[Epsilon, Tensor, Schedule, int, float, Draw], Tensor]

LAST = 1e-3  # where the last step of Euler-Maruyama begins that ends at t = 0


def dpmpp_2m(epsilon: Epsilon, x: Tensor, sde: Schedule, steps: int, end: float, draw: Draw) -> Tensor:
    """DPM-Solver++(2M), deterministic, second order; steps uniform in log-SNR from t = 1 to `end` > 0.

    Lu et al. 2022 (arXiv 2211.01095), algorithm 2.
    """
    first, last = sde.log_snr(torch.tensor([1.0, end], dtype=torch.float64)).tolist()
    grid = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    times, before = sde.time(grid), None
    for i in range(steps):
        t, after, h = times[i], times[i + 1], grid[i + 1] - grid[i]
        clean = (x - float(sde.sigma(t)) * epsilon(x, x.new_full((len(x),), float(t)))) / float(sde.alpha(t))
        # The grid is uniform in log-SNR: r = h_{i-1} / h_i = 1, hence D = 3/2 x0_i - 1/2 x0_{i-1}.
        estimate = clean if before is None else 1.5 * clean - 0.5 * before
        x = float(sde.sigma(after) / sde.sigma(t)) * x - float(sde.alpha(after) * torch.expm1(-h)) * estimate
        before = clean
    return x


def euler_maruyama(epsilon: Epsilon, x: Tensor, sde: Schedule, steps: int, end: float, draw: Draw) -> Tensor:
    """Euler-Maruyama on the reverse SDE, uniform in t from 1 to `end`, the last step noise-free.

    end = 0: uniform from 1 to LAST and from there to 0 in one step, as the published evaluations of U-ViT do.
    Song et al. 2021, eq. 6: dx = [-1/2 beta x - beta score] dt + sqrt(beta) dw, score = -epsilon / sigma.
    """
    times = torch.linspace(1.0, end, steps + 1, dtype=torch.float64)
    if not end:
        times[:-1] = torch.linspace(1.0, LAST, steps, dtype=torch.float64)
    uniform = float(times[0] - times[1])
    for i in range(steps):
        t, step = times[i], uniform if end else float(times[i] - times[i + 1])
        beta, sigma = float(sde.beta(t)), float(sde.sigma(t))
        x = x + step * (0.5 * beta * x - beta / sigma * epsilon(x, x.new_full((len(x),), float(t))))
        if i + 1 < steps:
            x = x + (step * beta) ** 0.5 * draw()
    return x


def clipped(epsilon: Epsilon, sde: Schedule) -> Epsilon:
    """The same prediction with the clean image that it implies clamped to [-1, 1], as DDPM's sampler does.

    Near t = 1 that image is (x - sigma epsilon) / alpha with alpha below 0.01, which enlarges an error of a small
    network in the mean colour a hundredfold.
    """

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = float(sde.alpha(t[0])), float(sde.sigma(t[0]))
        clean = ((x - sigma * epsilon(x, t)) / alpha).clamp(-1, 1)
        return (x - alpha * clean) / sigma

    return predict


SAMPLERS: dict[str, Sampler] = {"dpmpp-2m": dpmpp_2m, "euler-maruyama": euler_maruyama}
