"""The variance-preserving diffusions of the recipes: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), t in [0, 1].

vp-linear     Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32-33: dx = -1/2 beta(t) x dt +
              sqrt(beta(t)) dw with beta(t) = beta_min + t (beta_max - beta_min); t continuous
sd-discrete   Rombach et al. 2022: 1000 steps n whose sqrt(beta_n) grows linearly; alpha_n^2 = prod (1 - beta_i);
              t = (n + 1) / 1000 for n = 0 .. 999
ddpm-linear   Ho et al. 2020: the same with beta_n that grows linearly itself
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bench.runs.run_spec import Diffusion

# A noise prediction: x (B, C, H, W), t (B,) in [0, 1] -> epsilon (B, C, H, W).
Epsilon = Callable[[Tensor, Tensor], Tensor]

STEPS = 1000  # of sd-discrete and ddpm-linear


class Schedule:
    """vp-linear, and the base of every other diffusion. Times are tensors of any shape, in [0, 1]."""

    def __init__(self, beta_min: float, beta_max: float) -> None:
        self.beta_min, self.beta_max = beta_min, beta_max

    def draw(self, u: Tensor) -> Tensor:
        """Training times from uniform numbers in [0, 1)."""
        return u

    def network_time(self, t: Tensor) -> Tensor:
        """What a network is given for t, in [0, 999]."""
        return 999 * t

    def beta(self, t: Tensor) -> Tensor:
        """The rate of noising, -2 d log alpha_t / dt = beta_min + t (beta_max - beta_min)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t = -1/4 t^2 (beta_max - beta_min) - 1/2 t beta_min."""
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`: the root of log alpha's quadratic in t; log alpha = -1/2 log(1 + e^(-2 lambda))."""
        minus_log_alpha = 0.5 * F.softplus(-2 * log_snr)
        slope = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 4 * slope * minus_log_alpha).sqrt()
        return 4 * minus_log_alpha / (self.beta_min + root) if slope else 2 * minus_log_alpha / self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        """Factor on the image."""
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, sqrt(1 - alpha_t^2)."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t)."""
        return self.log_alpha(t) - self.sigma(t).log()

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t noise; x, noise (B, C, H, W), t (B,)."""
        t = t.view(-1, 1, 1, 1)
        return self.alpha(t) * x + self.sigma(t) * noise


class SDDiscrete(Schedule):
    """sd-discrete. Between its steps, as samplers ask for them, log alpha and beta are linear in t."""

    def __init__(self, beta_min: float, beta_max: float) -> None:
        super().__init__(beta_min, beta_max)
        # At the steps, float64; by numpy, whose bits the records hold.
        log_alpha = 0.5 * np.log1p(-self.steps(beta_min, beta_max)).cumsum()
        self.times, self.log_alphas = torch.arange(1, STEPS + 1).double() / STEPS, torch.from_numpy(log_alpha)
        self.betas = torch.from_numpy(-2 * STEPS * np.diff(log_alpha, prepend=0.0))

    def steps(self, beta_min: float, beta_max: float) -> NDArray[np.float64]:
        """beta_0 .. beta_999."""
        return np.asarray(np.linspace(beta_min**0.5, beta_max**0.5, STEPS) ** 2)

    def draw(self, u: Tensor) -> Tensor:
        """t = (n + 1) / STEPS, n uniform."""
        return ((u * STEPS).floor() + 1) / STEPS

    def network_time(self, t: Tensor) -> Tensor:
        """The step n."""
        return STEPS * t - 1

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_n = 1/2 sum log(1 - beta_i)."""
        return interpolate(t, self.times, self.log_alphas)

    def beta(self, t: Tensor) -> Tensor:
        """-2 d log alpha / dt of the step that ends at t."""
        return interpolate(t, self.times, self.betas)

    def time(self, log_snr: Tensor) -> Tensor:
        """Between the steps as `log_alpha` is."""
        return interpolate(-0.5 * F.softplus(-2 * log_snr), self.log_alphas.flip(0), self.times.flip(0))


class DDPMLinear(SDDiscrete):
    """ddpm-linear."""

    def steps(self, beta_min: float, beta_max: float) -> NDArray[np.float64]:
        """beta_0 .. beta_999."""
        return np.linspace(beta_min, beta_max, STEPS)


def schedule(settings: Diffusion) -> Schedule:
    """The diffusion that a specification names."""
    kinds: dict[str, type[Schedule]] = {"vp-linear": Schedule, "sd-discrete": SDDiscrete, "ddpm-linear": DDPMLinear}
    return kinds[settings.schedule](settings.beta_min, settings.beta_max)


def interpolate(x: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """`numpy.interp` on the device of x: linear between ascending points, constant beyond them; computed in float64."""
    points, values = (table.to(x.device, non_blocking=True) for table in (points, values))
    slopes = values.diff() / points.diff()
    x64 = x.double().clamp(points[0], points[-1])
    index = torch.searchsorted(points, x64, right=True).sub(1).clamp(0, len(slopes) - 1)
    return (values[index] + slopes[index] * (x64 - points[index])).to(x.dtype)


def epsilon(model: nn.Module, schedule: Schedule, condition: Tensor | None = None) -> Epsilon:
    """The model as a noise prediction over t in [0, 1], under a condition."""
    return lambda x, t: model(x, schedule.network_time(t), condition).to(x.dtype)


def guided(model: nn.Module, schedule: Schedule, condition: Tensor, empty: Tensor, weight: float) -> Epsilon:
    """(1 + w) epsilon(x | condition) - w epsilon(x | empty): classifier-free guidance, Ho and Salimans 2022, eq. 6."""
    both = epsilon(model, schedule, torch.cat([condition, empty]))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = both(x.repeat(2, 1, 1, 1), t.repeat(2)).chunk(2)
        return conditional + weight * (conditional - unconditional)

    return predict


def loss(model: nn.Module, schedule: Schedule, x: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
    """Plain mean squared error of the predicted noise, a scalar; x, noise (B, C, H, W), t (B,)."""
    return F.mse_loss(epsilon(model, schedule, condition)(schedule.noised(x, t, noise), t), noise)
