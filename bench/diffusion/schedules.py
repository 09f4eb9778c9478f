"""The variance-preserving diffusions of the recipes: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), t in [0, 1].

vp-linear     Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32-33: dx = -1/2 beta(t) x dt +
              sqrt(beta(t)) dw with beta(t) = beta_min + t (beta_max - beta_min); t continuous
sd-discrete   Rombach et al. 2022: 1000 steps n whose sqrt(beta_n) grows linearly; alpha_n^2 = prod (1 - beta_i);
              t = (n + 1) / 1000 for n = 0 .. 999
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

# A noise prediction: x (B, C, H, W), t (B,) in [0, 1] -> epsilon (B, C, H, W).
Epsilon = Callable[[Tensor, Tensor], Tensor]


class Schedule:
    """A diffusion with log alpha_t given. Times are tensors of any shape, in [0, 1]."""

    beta_min: float
    beta_max: float

    def draw(self, u: Tensor) -> Tensor:
        """Training times from uniform numbers in [0, 1)."""
        return u

    def network_time(self, t: Tensor) -> Tensor:
        """What a network is given for t, in [0, 999]."""
        return 999 * t

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t."""
        raise NotImplementedError

    def beta(self, t: Tensor) -> Tensor:
        """beta(t) = -2 d log alpha_t / dt, the rate of noising."""
        raise NotImplementedError

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`."""
        raise NotImplementedError

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
        t = t.view(-1, *[1] * (x.ndim - 1))
        return self.alpha(t) * x + self.sigma(t) * noise


@dataclass(frozen=True)
class VPSDE(Schedule):
    """vp-linear: the linear-beta VP-SDE."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        """beta(t), the rate of noising."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t = -1/4 t^2 (beta_max - beta_min) - 1/2 t beta_min."""
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def time(self, log_snr: Tensor) -> Tensor:
        """From log alpha = -1/2 log(1 + e^(-2 lambda)), the positive root of its quadratic in t."""
        minus_log_alpha = 0.5 * torch.nn.functional.softplus(-2 * log_snr)
        slope = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 4 * slope * minus_log_alpha).sqrt()
        return 4 * minus_log_alpha / (self.beta_min + root) if slope else 2 * minus_log_alpha / self.beta_min


@dataclass(frozen=True)
class SDDiscrete(Schedule):
    """sd-discrete: 1000 steps. Between its points, as samplers ask for them, log alpha is linear in t."""

    beta_min: float = 8.5e-4
    beta_max: float = 1.2e-2
    steps: int = 1000

    def draw(self, u: Tensor) -> Tensor:
        """t = (n + 1) / steps, n uniform."""
        return ((u * self.steps).floor() + 1) / self.steps

    def network_time(self, t: Tensor) -> Tensor:
        """n."""
        return self.steps * t - 1

    @cached_property
    def _tables(self) -> dict[tuple[str, torch.device], tuple[Tensor, ...]]:
        return {}

    def _interpolated(self, x: Tensor, name: str, at: np.ndarray, values: np.ndarray) -> Tensor:
        """Linear between the points, in float64, where x is; its tables are carried over to a device once."""
        if (name, x.device) not in self._tables:
            slopes = np.diff(values) / np.diff(at)
            self._tables[name, x.device] = tuple(torch.as_tensor(np.ascontiguousarray(a), device=x.device) for a in (at, values, slopes))
        points, heights, slopes = self._tables[name, x.device]
        x64 = x.detach().double().clamp(points[0], points[-1])
        index = torch.searchsorted(points, x64, right=True).sub(1).clamp(0, len(slopes) - 1)
        return (heights[index] + slopes[index] * (x64 - points[index])).to(x.dtype)

    @cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(t, log alpha, log SNR) at the steps, float64."""
        beta = np.linspace(self.beta_min**0.5, self.beta_max**0.5, self.steps) ** 2
        log_alpha = 0.5 * np.log1p(-beta).cumsum()
        return (np.arange(self.steps) + 1) / self.steps, log_alpha, log_alpha - 0.5 * np.log(-np.expm1(2 * log_alpha))

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_n = 1/2 sum log(1 - beta_i)."""
        times, log_alpha, _ = self._points
        return self._interpolated(t, "log_alpha", times, log_alpha)

    def beta(self, t: Tensor) -> Tensor:
        """-2 d log alpha / dt, constant within a step."""
        times, log_alpha, _ = self._points
        rate = -2 * self.steps * np.diff(log_alpha, prepend=0.0)
        return self._interpolated(t, "beta", times, rate)

    def time(self, log_snr: Tensor) -> Tensor:
        """By log alpha = -1/2 log(1 + e^(-2 lambda)), between the steps as `log_alpha` is."""
        times, log_alpha, _ = self._points
        return self._interpolated(-0.5 * torch.nn.functional.softplus(-2 * log_snr), "time", log_alpha[::-1], times[::-1])


SCHEDULES: dict[str, type[Schedule]] = {"vp-linear": VPSDE, "sd-discrete": SDDiscrete}


def schedule(settings: dict) -> Schedule:
    """The diffusion that a spec names."""
    return SCHEDULES[settings["schedule"]](settings["beta_min"], settings["beta_max"])


def epsilon(model: nn.Module, schedule: Schedule, condition: Tensor | None = None) -> Epsilon:
    """The model as a noise prediction over t in [0, 1], under a condition."""
    return lambda x, t: model(x, schedule.network_time(t), condition).to(x.dtype)


def guided(model: nn.Module, schedule: Schedule, condition: Tensor, empty: Tensor, weight: float) -> Epsilon:
    """(1 + w) epsilon(x | condition) - w epsilon(x | empty): classifier-free guidance, Ho and Salimans 2022, eq. 6."""
    both = torch.cat([condition, empty])

    def predict(x: Tensor, t: Tensor) -> Tensor:
        predicted = model(x.repeat(2, 1, 1, 1), schedule.network_time(t).repeat(2), both).to(x.dtype)
        conditional, unconditional = predicted.chunk(2)
        return conditional + weight * (conditional - unconditional)

    return predict


def loss(model: nn.Module, schedule: Schedule, x: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
    """Plain mean squared error of the predicted noise, a scalar; x, noise (B, C, H, W), t (B,)."""
    return nn.functional.mse_loss(epsilon(model, schedule, condition)(schedule.noised(x, t, noise), t), noise)
