"""The paper's bounds: by Monte Carlo, on the additive toy network, and never violated where they are rigorous."""

import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits

import models
from models.theory import (
    AdditiveUNet,
    coefficients,
    constant_limit,
    expected_square,
    input_norm,
    reach,
    robustness_bound,
    sum_of_squares,
)

STEPS = 1000


def ddpm():
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), 0)


def vp():
    t = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    return torch.exp(-(0.1 * t + 0.5 * (20 - 0.1) * t**2))


def stable_diffusion():
    return torch.cumprod(1 - torch.linspace(8.5e-4**0.5, 1.2e-2**0.5, STEPS, dtype=torch.float64) ** 2, 0)


def cosine(steps=4000):
    f = torch.cos((torch.linspace(0, 1, steps + 1, dtype=torch.float64) + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod((f[1:] / f[:-1]).clamp(min=1e-3), 0)  # betas are cut at 0.999


SCHEDULES = {
    "ddpm": (ddpm, 0.8163),
    "vp": (vp, 0.8160),
    "stable-diffusion": (stable_diffusion, 0.7511),
    "cosine": (cosine, 0.6694),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_norm_of_the_input(name):
    """The closed form, and x_t drawn: x_0 uniform on [-1, 1], t uniform."""
    make, expected = SCHEDULES[name]
    bars = make()
    assert input_norm(bars) == pytest.approx(expected, rel=5e-4)
    bits = torch.Generator().manual_seed(0)
    t = torch.randint(len(bars), (400_000,), generator=bits)
    x0 = torch.rand(len(t), generator=bits, dtype=torch.float64) * 2 - 1
    xt = bars[t].sqrt() * x0 + (1 - bars[t]).sqrt() * torch.randn(len(t), generator=bits, dtype=torch.float64)
    assert float((xt**2).mean()) == pytest.approx(expected, rel=5e-3)


def test_the_norm_of_real_images():
    """With the measured second moment of x_0 in place of 1/3."""
    images = torch.tensor(load_digits().data) / 16 * 2 - 1
    moment = float((images**2).mean())
    bits, bars = torch.Generator().manual_seed(1), vp()
    picked = images[torch.randint(len(images), (20_000,), generator=bits)]
    bar = bars[torch.randint(len(bars), (len(picked), 1), generator=bits)]
    xt = bar.sqrt() * picked + (1 - bar).sqrt() * torch.randn(picked.shape, generator=bits, dtype=torch.float64)
    assert float((xt**2).mean()) == pytest.approx(input_norm(bars, moment), rel=5e-3)
    assert abs(moment - 1 / 3) > 0.1  # digits are far from uniform: 1/3 would be wrong for them
    assert expected_square(0.0, moment) == 1 and expected_square(1.0, moment) == pytest.approx(moment)


def norms(kappas, width=512, networks=4):
    """||h_0||^2 / ||x||^2, the mean over networks and inputs."""
    found = []
    for seed in range(networks):
        bits = torch.Generator().manual_seed(seed)
        net, x = AdditiveUNet(kappas, width, bits), torch.randn(16, width, generator=bits)
        with torch.no_grad():
            found.append(float((net(x).square().sum(1) / x.square().sum(1)).mean()))
    return sum(found) / len(found)


def test_the_forward_law_on_the_toy():
    """Order of the methods at each depth, growth with depth, and `constant` bounded. Values: a sanity range only."""
    table = {
        (method, n): norms(coefficients(method, n, **words))
        for n in (4, 8, 12)
        for method, words in (("none", {}), ("inv_sqrt2", {}), ("constant", {"kappa": 0.7}), ("no_skip", {}))
    }
    for n in (4, 8, 12):
        assert table["none", n] > table["inv_sqrt2", n] > table["constant", n] > table["no_skip", n]
    for method in ("none", "inv_sqrt2"):
        assert table[method, 4] < table[method, 8] < table[method, 12]
        assert table[method, 12] > 3 * table[method, 4]
    assert table["constant", 12] < 1.25 * table["constant", 4]
    rough = {("none", 4): 9.8, ("none", 8): 27.3, ("none", 12): 49.4, ("constant", 12): 6.0, ("inv_sqrt2", 8): 12.6}
    for key, value in rough.items():
        assert table[key] == pytest.approx(value, rel=0.25), (key, table[key])


def test_a_thousand_random_networks_never_violate_the_bound(capsys):
    """Rigorous form; pairs of points near and far. The slack is printed."""
    bits, slacks = torch.Generator().manual_seed(3), []
    kinds = [("none", {}), ("inv_sqrt2", {}), ("constant", {"kappa": 0.5}), ("constant", {"kappa": 0.9})]
    for index, (method, words) in zip(range(1000), itertools.cycle(kinds)):
        depth, width = 1 + index % 5, (4, 8, 16)[index % 3]
        net = AdditiveUNet(coefficients(method, depth, **words), width, bits, gain=0.3 + index % 7 * 0.2)
        x = torch.randn(32, width, generator=bits)
        d = torch.randn(32, width, generator=bits) * torch.logspace(-3, 1, 32)[:, None]
        with torch.no_grad():
            response = (net.double()((x + d).double()) - net(x.double())).norm(dim=1) / d.norm(dim=1)
        slacks.append(net.bound() / max(float(response.max()), 1e-300))
        assert slacks[-1] >= 1 - 1e-9, (index, method, depth)
    slacks.sort()
    with capsys.disabled():
        print(f"\nslack of the robustness bound over 1,000 networks: least {slacks[0]:.2f}, median {slacks[500]:.1f}")


def test_the_bound_is_tight_for_scaled_identities():
    """a = b = c I and positive inputs: every inequality is an equality. By hand for N = 2: see the numbers."""
    net = AdditiveUNet([1.0, 0.5], 3)
    with torch.no_grad():
        for weight in (*net.a, *net.b, *net.middle):
            weight.copy_(torch.eye(3) * 2)
    # M0 = 4; kappa_1 M0 + kappa_2 M0^2 + 2 M0^2 = 4 + 8 + 32
    assert net.bound() == pytest.approx(44)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.allclose(net(x), 44 * x)
    assert robustness_bound([1.0, 0.5], [2, 1], [1, 3], 2.0) == 1 * 3 + 0.5 * 9 + 2 * 9


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        ("none", {}, [1, 1, 1]),
        ("inv_sqrt2", {}, [2**-0.5] * 3),
        ("constant", {"kappa": 0.5}, [1, 0.5, 0.25]),
        ("constant_reversed", {"kappa": 0.5}, [0.25, 0.5, 1]),
        ("no_skip", {}, [0, 0, 0]),
    ],
)
def test_coefficients_come_from_the_methods(method, words, expected):
    assert coefficients(method, 3, **words) == pytest.approx(expected)


def test_coefficients_of_a_learnt_method_are_refused():
    with pytest.raises(ValueError, match="'learnable' has no fixed factor"):
        coefficients("learnable", 3)
    with pytest.raises(
        ValueError, match="'residual_inv_sqrt2' has no fixed factor"
    ):  # it multiplies more than the skips
        coefficients("residual_inv_sqrt2", 4)
    with pytest.raises(ValueError, match="method 'nix' is unknown; choose from none"):
        coefficients("nix", 4)


def test_sums_and_limits():
    assert sum_of_squares([1, 0.5, 0.25]) == 1.3125 and sum_of_squares([1, 0.5, 0.25], first=2) == 0.3125
    assert sum_of_squares(coefficients("inv_sqrt2", 12)) == pytest.approx(sum_of_squares(coefficients("none", 12)) / 2)
    for kappa in (0.5, 0.7, 0.95):
        sums = [sum_of_squares(coefficients("constant", n, kappa=kappa)) for n in (4, 16, 64)]
        assert (
            sums == sorted(sums)
            and sums[-1] <= constant_limit(kappa)
            and sums[-1] == pytest.approx(constant_limit(kappa), rel=0.002)
        )


@pytest.mark.parametrize(
    "preset", ["uvit-xs", "uvit-xs-d24", "uvit-s-2", "unet-xs-n4", "unet-xs-n12", "unet-iddpm-cifar10"]
)
def test_at_the_start_deep_skips_hardly_reach_the_shallowest_block(preset, capsys):
    """Norms grow less with depth than the sum of squares: the layer after a concatenation shrinks what is below it."""
    model = models.build(preset, seeds=(0, 1)).eval()
    bits, config = torch.Generator().manual_seed(0), model.config
    x = torch.randn(4, config.in_channels, config.image_size, config.image_size, generator=bits)
    found = reach(model, x, torch.full((4,), 500.0))
    with capsys.disabled():
        print(f"\n{preset}: of the shallowest block, skip by skip: {', '.join(f'{share:.2g}' for share in found)}")
    assert len(found) == len(model.long_skips) and found[0] > 0.7
    assert all(deeper < 0.9 * share for share, deeper in itertools.pairwise(found) if share > 0.01)
    assert math.fsum(share**2 for share in found[len(found) // 2 :]) < 0.1 * math.fsum(share**2 for share in found)
    assert "join" not in vars(model.scaling) and not model.decoder[0]._forward_hooks  # the network is as it was


def test_in_the_additive_network_every_skip_arrives():
    """There the deeper half makes as much as the rest, as the theorem has it."""
    bits = torch.Generator().manual_seed(0)
    x = torch.randn(64, 64, generator=bits)
    network = AdditiveUNet([1.0] * 12, 64, bits)
    whole, found = network(x).detach(), []
    for j in range(12):
        network.kappas = tuple(float(k != j) for k in range(12))
        found.append(float((network(x).detach() - whole).norm() / whole.norm()))
    assert min(found) > 0.2 * max(found) and math.fsum(share**2 for share in found[6:]) > 0.2 * math.fsum(
        share**2 for share in found
    )
