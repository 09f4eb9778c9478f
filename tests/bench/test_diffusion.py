"""The schedule against its definition, and the loss against the plain formula."""

import math

import pytest
import torch

from bench import diffusion
from bench.diffusion import VPSDE

T = torch.linspace(0.001, 1, 57, dtype=torch.float64)


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(0.2, 10.0), VPSDE(3.0, 3.0)])
def test_alpha_solves_its_differential_equation(sde):
    """d log alpha / dt = -beta / 2, alpha(0) = 1."""
    t = T.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sde.log_alpha(t).sum(), t)
    assert torch.allclose(slope, -0.5 * sde.beta(T), rtol=1e-12)
    assert sde.alpha(torch.tensor(0.0)) == 1


def test_variance_is_preserved_and_ends_in_noise():
    sde = VPSDE()
    assert torch.allclose(sde.alpha(T) ** 2 + sde.sigma(T) ** 2, torch.ones_like(T), rtol=1e-12)
    assert float(sde.alpha(torch.tensor(1.0))) == pytest.approx(math.exp(-0.25 * 19.9 - 0.05), rel=1e-6)


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(3.0, 3.0)])
def test_time_inverts_log_snr(sde):
    assert torch.allclose(sde.time(sde.log_snr(T)), T, rtol=1e-9)


def test_loss_is_the_mean_squared_error_of_the_noise_at_999_t():
    seen = {}

    class Zero(torch.nn.Module):
        def forward(self, x, t, condition=None):
            seen.update(x=x, t=t)
            return torch.zeros_like(x)

    x, noise, t = torch.ones(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.tensor([0.0, 0.5, 1.0])
    value = diffusion.loss(Zero(), VPSDE(), x, t, noise)
    assert float(value) == pytest.approx(float((noise**2).mean()), rel=1e-6)
    assert seen["t"].tolist() == [0.0, 499.5, 999.0]
    assert torch.equal(seen["x"][0], x[0])  # no noise at t = 0
