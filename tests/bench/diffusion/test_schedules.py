"""The schedule against its definition, and the loss against the plain formula."""

import math

import numpy as np
import pytest
import torch

from bench.diffusion import schedules
from bench.runs.run_spec import Diffusion

LINEAR = schedules.schedule(Diffusion())
CONSTANT = schedules.schedule(Diffusion(beta_min=3.0, beta_max=3.0))
DISCRETE = schedules.schedule(Diffusion(schedule="sd-discrete"))
DDPM = schedules.schedule(Diffusion(schedule="ddpm-linear"))
T = torch.linspace(0.001, 1, 57, dtype=torch.float64)


@pytest.mark.parametrize("sde", [LINEAR, schedules.schedule(Diffusion(beta_min=0.2, beta_max=10.0)), CONSTANT])
def test_alpha_solves_its_differential_equation(sde):
    """d log alpha / dt = -beta / 2, alpha(0) = 1."""
    t = T.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sde.log_alpha(t).sum(), t)
    assert torch.allclose(slope, -0.5 * sde.beta(T), rtol=1e-12)
    assert sde.alpha(torch.tensor(0.0)) == 1


@pytest.mark.parametrize("sde", [LINEAR, DISCRETE, DDPM])
def test_variance_is_preserved(sde):
    assert torch.allclose(sde.alpha(T) ** 2 + sde.sigma(T) ** 2, torch.ones_like(T), rtol=1e-12)


def test_it_ends_in_noise():
    assert float(LINEAR.alpha(torch.tensor(1.0))) == pytest.approx(math.exp(-0.25 * 19.9 - 0.05), rel=1e-6)


@pytest.mark.parametrize("sde", [LINEAR, CONSTANT, DISCRETE, DDPM])
def test_time_inverts_log_snr(sde):
    assert torch.allclose(sde.time(sde.log_snr(T)), T, rtol=1e-9)


def test_loss_is_the_mean_squared_error_of_the_noise_at_999_t():
    seen = {}

    class Zero(torch.nn.Module):
        def forward(self, x, t, condition=None):
            seen.update(x=x, t=t)
            return torch.zeros_like(x)

    x, noise, t = torch.ones(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.tensor([0.0, 0.5, 1.0])
    value = schedules.loss(Zero(), LINEAR, x, t, noise, None)
    assert float(value) == pytest.approx(float((noise**2).mean()), rel=1e-6)
    assert seen["t"].tolist() == [0.0, 499.5, 999.0]
    assert torch.equal(seen["x"][0], x[0])  # no noise at t = 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_interpolation_is_numpys(dtype):
    """Between the points, at them, and beyond them."""
    points = np.sort(np.random.default_rng(0).random(100))
    values = np.random.default_rng(1).random(100)
    x = torch.cat([torch.linspace(-1, 2, 4001, dtype=dtype), torch.as_tensor(points, dtype=dtype)])
    found = schedules.interpolate(x, torch.from_numpy(points), torch.from_numpy(values))
    expected = torch.as_tensor(np.interp(x.double().numpy(), points, values), dtype=dtype)
    assert found.dtype == dtype and torch.allclose(found, expected, rtol=1e-13 if dtype == torch.float64 else 1e-7)


def test_between_steps_the_discrete_schedule_is_linear():
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    halves = (times[1:] + times[:-1]) / 2
    at = DISCRETE.log_alpha(times)
    assert torch.allclose(DISCRETE.log_alpha(halves), (at[1:] + at[:-1]) / 2, rtol=1e-12)
    assert DISCRETE.log_alpha(torch.tensor([-1.0, 2.0], dtype=torch.float64)).tolist() == [float(at[0]), float(at[-1])]


@pytest.mark.parametrize(
    ("sde", "beta", "last"),
    [
        (DISCRETE, lambda i: (8.5e-4**0.5 + i / 999 * (1.2e-2**0.5 - 8.5e-4**0.5)) ** 2, 0.00466),
        (DDPM, lambda i: 1e-4 + i / 999 * (2e-2 - 1e-4), 4.0e-5),
    ],
    ids=["sd-discrete", "ddpm-linear"],
)
def test_a_discrete_schedule_is_the_product_of_its_steps(sde, beta, last):
    """alpha_n^2 = prod (1 - beta_i), written out; the last is that of the published schedule."""
    product, steps = 1.0, []
    for i in range(1000):
        product *= 1 - beta(i)
        steps.append(product)
    n = torch.arange(1000, dtype=torch.float64)
    t = (n + 1) / 1000
    assert torch.allclose(sde.alpha(t) ** 2, torch.tensor(steps, dtype=torch.float64), rtol=1e-9)
    assert torch.allclose(sde.network_time(t), n) and steps[-1] == pytest.approx(last, rel=0.02)
    assert sde.draw(torch.tensor([0.0, 0.9999])).tolist() == pytest.approx([0.001, 1.0])
    assert torch.allclose(
        sde.beta(t), -1000 * torch.diff(torch.log(torch.tensor([1.0, *steps], dtype=torch.float64))), rtol=1e-6
    )
