"""The samplers against Gaussian data, whose score is exact: x_0 ~ N(m, s^2) gives

    epsilon(x, t) = sigma_t (x - alpha_t m) / (alpha_t^2 s^2 + sigma_t^2),

and the probability-flow ODE carries x at t = 1 linearly to
    alpha m + sqrt((alpha^2 s^2 + sigma^2) / (alpha_1^2 s^2 + sigma_1^2)) (x - alpha_1 m) at t.
"""

import numpy as np
import pytest
import torch

from bench.diffusion.samplers import LAST, SAMPLERS, clipped, dpmpp_2m, euler_maruyama
from bench.diffusion.schedules import schedule
from bench.runs.run_spec import Diffusion

SDE, MEAN, STD = schedule(Diffusion()), 0.3, 0.4
END = 1e-3  # where samplers end unless a test says otherwise


def exact(x, t):
    alpha, sigma = SDE.alpha(t).view(-1, 1), SDE.sigma(t).view(-1, 1)
    return sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)


def flow(x):
    """The exact solution of the ODE at END."""

    def moments(t):
        t = torch.tensor(t, dtype=torch.float64)
        return SDE.alpha(t) * MEAN, (SDE.alpha(t) ** 2 * STD**2 + SDE.sigma(t) ** 2).sqrt()

    (mean, std), (first_mean, first_std) = moments(END), moments(1.0)
    return mean + std / first_std * (x - first_mean)


def noise(count):
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def never():
    """No noise for a deterministic sampler."""
    raise AssertionError


def gaussian(x, seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def test_dpm_solver_finds_the_exact_solution():
    x = noise(1000)
    assert torch.allclose(dpmpp_2m(exact, x, SDE, 400, END, never), flow(x), atol=2e-4)


def test_dpm_solver_converges_at_second_order():
    x = noise(1000)
    steps = [40, 80, 160, 320]
    errors = [float((dpmpp_2m(exact, x, SDE, n, END, never) - flow(x)).abs().mean()) for n in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.8 < order < 2.3, errors


def test_dpm_solver_needs_few_steps():
    x = noise(20_000)
    samples = dpmpp_2m(exact, x, SDE, 20, END, never)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(samples.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("end", [END, 1e-4, 0.0])
def test_euler_maruyama_reaches_mean_and_variance(end):
    x = noise(20_000)
    draw = gaussian(x, 1)
    samples = euler_maruyama(exact, x, SDE, 1000, end, draw)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(samples.std()) == pytest.approx(STD, rel=0.02)


def moments_of_euler_maruyama(steps):
    """Mean and variance of the discrete scheme, propagated exactly: every step is linear in x."""
    t = torch.linspace(1.0, END, steps + 1, dtype=torch.float64)
    step, mean, variance = float(t[0] - t[1]), 0.0, 1.0
    schedule = zip(*(f(t).tolist() for f in (SDE.beta, SDE.alpha, SDE.sigma)), strict=True)
    for i, (beta, alpha, sigma) in zip(range(steps), schedule):
        total = alpha**2 * STD**2 + sigma**2
        slope = 1 + step * beta * (0.5 - 1 / total)
        mean = slope * mean + step * beta * alpha * MEAN / total
        variance = slope**2 * variance + (step * beta if i + 1 < steps else 0.0)
    return mean, variance


def test_euler_maruyama_converges_at_first_weak_order():
    alpha, sigma = (float(f(torch.tensor(END, dtype=torch.float64))) for f in (SDE.alpha, SDE.sigma))
    truth = alpha**2 * STD**2 + sigma**2
    steps = [2000, 4000, 8000, 16000]
    # The noise-free last step takes step * beta(END) off the variance, which is of first order too.
    errors = [abs(moments_of_euler_maruyama(n)[1] - truth) for n in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 0.8 < order < 1.2, errors


def test_euler_maruyama_has_the_moments_of_its_scheme():
    x = noise(200_000)
    draw = gaussian(x, 2)
    samples = euler_maruyama(exact, x, SDE, 50, END, draw)
    mean, variance = moments_of_euler_maruyama(50)
    assert float(samples.mean()) == pytest.approx(mean, abs=0.004)
    assert float(samples.var()) == pytest.approx(variance, rel=0.015)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_network_evaluation_per_step_and_no_noise_after_the_last(name):
    calls, draws = [], []

    def count(x, t):
        calls.append(float(t[0]))
        return torch.zeros_like(x)

    def draw():
        draws.append(1)
        return torch.zeros(4, 1, 2, 2)

    SAMPLERS[name](count, torch.zeros(4, 1, 2, 2), SDE, 7, END, draw)
    assert len(calls) == 7 and calls == sorted(calls, reverse=True) and calls[0] == pytest.approx(1.0, abs=1e-6)
    assert len(draws) == (6 if name == "euler-maruyama" else 0)


@pytest.mark.parametrize("sampler", [dpmpp_2m, euler_maruyama])
def test_samplers_work_on_the_discrete_schedule(sampler):
    sde, x = schedule(Diffusion(schedule="sd-discrete")), noise(20_000)

    def score(x, t):
        alpha, sigma = sde.alpha(t).view(-1, 1), sde.sigma(t).view(-1, 1)
        return sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)

    samples = sampler(score, x, sde, 200, END, gaussian(x, 1))
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(samples.std()) == pytest.approx(STD, rel=0.05)


def test_clipping_bounds_the_clean_image_and_leaves_a_possible_one_alone():
    x, t = torch.randn(5, 3, 2, 2, dtype=torch.float64), torch.full((5,), 0.7, dtype=torch.float64)
    alpha, sigma = float(SDE.alpha(t[0])), float(SDE.sigma(t[0]))

    def clean(epsilon):
        return (x - sigma * epsilon(x, t)) / alpha

    for wanted in (torch.full_like(x, 0.4), torch.full_like(x, 3.0)):
        predict = clipped(lambda x, t, wanted=wanted: (x - alpha * wanted) / sigma, SDE)
        assert torch.allclose(clean(predict), wanted.clamp(-1, 1), atol=1e-12)


def test_euler_maruyama_that_ends_at_zero_steps_there_from_last():
    """Uniform in t from 1 to LAST in steps - 1 steps, and from there to 0 in one."""
    times = []

    def record(x, t):
        times.append(float(t[0]))
        return torch.zeros_like(x)

    x = torch.ones(4, 1, dtype=torch.float64)
    found = euler_maruyama(record, x, SDE, 5, 0.0, lambda: torch.zeros_like(x))
    assert times == pytest.approx(np.linspace(1, LAST, 5))
    steps = [-step for step in np.diff([*times, 0.0])]
    assert float(found[0]) == pytest.approx(
        np.prod([1 + 0.5 * h * float(SDE.beta(torch.tensor(t))) for h, t in zip(steps, times, strict=True)]), rel=1e-6
    )
