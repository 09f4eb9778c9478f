"""The variance-preserving diffusion of the recipe: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), t in [0, 1].

Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32-33: dx = -1/2 beta(t) x dt + sqrt(beta(t)) dw
with beta(t) = beta_min + t (beta_max - beta_min).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# A noise prediction: x (B, C, H, W), t (B,) in [0, 1] -> epsilon (B, C, H, W).
Epsilon = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class VPSDE:
    """The linear-beta VP-SDE. Times are tensors of any shape, in [0, 1]."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        """beta(t), the rate of noising."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t = -1/4 t^2 (beta_max - beta_min) - 1/2 t beta_min."""
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        """Factor on the image."""
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, sqrt(1 - alpha_t^2)."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t)."""
        return self.log_alpha(t) - self.sigma(t).log()

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`: from log alpha = -1/2 log(1 + e^(-2 lambda)), the positive root of its quadratic in t."""
        minus_log_alpha = 0.5 * torch.nn.functional.softplus(-2 * log_snr)
        slope = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 4 * slope * minus_log_alpha).sqrt()
        return 4 * minus_log_alpha / (self.beta_min + root) if slope else 2 * minus_log_alpha / self.beta_min

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t noise; x, noise (B, C, H, W), t (B,)."""
        t = t.view(-1, *[1] * (x.ndim - 1))
        return self.alpha(t) * x + self.sigma(t) * noise


def epsilon(model: nn.Module, condition: Tensor | None = None) -> Epsilon:
    """The model as a noise prediction over t in [0, 1]; the network's own input is 999 t."""
    return lambda x, t: model(x, 999 * t, condition)


def loss(model: nn.Module, sde: VPSDE, x: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
    """Plain mean squared error of the predicted noise, a scalar; x, noise (B, C, H, W), t (B,)."""
    return nn.functional.mse_loss(epsilon(model, condition)(sde.noised(x, t, noise), t), noise)
