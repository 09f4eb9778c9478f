"""Every method against its definition: factors at every index, gates, gradients, and what text is accepted."""

import math

import pytest
import torch

import models
from models.methods import Method, names
from models.scaling import REGISTRY, Calibration, Where

TOKENS = [Where(i, 6, i, 6, 32, 32, 17) for i in range(1, 7)]
MAPS = [Where(i, 6, level, 3, 16, 16) for i, level in zip(range(1, 7), (1, 1, 2, 2, 3, 3), strict=True)]
R = {"learnable": "(r=4)", "learnable_per_skip": "(r=4)"}


def make(text, wheres):
    return models.parse_method(text).build(wheres)


def skip_of(wheres, where):
    shape = (3, where.tokens, where.channels) if where.tokens else (3, where.channels, 4, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(where.index))


@pytest.mark.parametrize(("text", "tokens", "maps"), [
    ("none", [1] * 6, [1] * 6),
    ("inv_sqrt2", [2**-0.5] * 6, [2**-0.5] * 6),
    ("constant", [0.5 ** (i - 1) for i in range(1, 7)], [1, 1, 0.5, 0.5, 0.25, 0.25]),
    ("constant(kappa=0.7)", [0.7**i for i in range(6)], [1, 1, 0.7, 0.7, 0.49, 0.49]),
    ("constant(kappa=0.7, index='concat')", [0.7**i for i in range(6)], [0.7**i for i in range(6)]),
    ("constant_reversed(kappa=0.7)", [0.7 ** (6 - i) for i in range(1, 7)], [0.49, 0.49, 0.7, 0.7, 1, 1]),
    ("residual_inv_sqrt2", [1] * 6, [1] * 6), ("scalar", [1] * 6, [1] * 6), ("rezero", [0] * 6, [0] * 6), ("no_skip", [0] * 6, [0] * 6),
    ("sigmoid_scalar", [1 / (1 + math.exp(1.5))] * 6, [1 / (1 + math.exp(1.5))] * 6),
    ("layerscale", [1e-4] * 6, [1e-4] * 6), ("layerscale(init=0.5)", [0.5] * 6, [0.5] * 6), ("mp_cat", [1] * 6, [1] * 6),
])
def test_the_factor_at_every_index(text, tokens, maps):
    """Deepest skip kappa^(N-1), shallowest 1; only the skip half is touched."""
    for wheres, factors in ((TOKENS, tokens), (MAPS, maps)):
        method = make(text, wheres)
        for where, factor in zip(wheres, factors, strict=True):
            s, trunk = skip_of(wheres, where), skip_of(wheres, where) + 1
            joined = method.join(trunk, s, where)
            axis = -1 if where.tokens else 1
            first, second = joined.split([where.trunk, where.channels], dim=axis)
            assert torch.allclose(second, s * factor, rtol=1e-6, atol=1e-12), (text, where)
            assert torch.allclose(first, trunk, rtol=1e-6)


@pytest.mark.parametrize("text", ["none", "constant(kappa=1.0)", "scalar", "mp_cat", "layerscale(init=1.0)", "constant_reversed(kappa=1)"])
@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs"])
def test_the_neutral_setting_is_none_bit_for_bit(text, preset):
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 700.0])
    plain, method = (models.build(preset, m, seeds=(1, 2)) for m in ("none", text))
    wake(plain, method)
    assert torch.equal(plain(x, t), method(x, t))


def wake(*nets):
    """Give the layers that start at zero the same weights in all networks, so that the output is not zero."""
    for net in nets:
        generator = torch.Generator().manual_seed(9)
        for name, parameter in net.named_parameters():
            if not name.startswith("scaling.") and not parameter.any():
                with torch.no_grad():
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs"])
def test_gradients_reach_every_parameter_of_every_method(name, preset):
    net = models.build(preset, name + R.get(name, ""), seeds=(1, 2))
    wake(net)
    net(torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0])).square().mean().backward()
    for parameter_name, parameter in net.scaling.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs"])
def test_no_method_shifts_the_backbone_and_the_seed_does(name, preset):
    plain, method, other = (models.build(preset, m, seeds=s) for m, s in (("none", (1, 2)), (name + R.get(name, ""), (1, 3)), ("none", (4, 2))))
    own = {key: value for key, value in method.state_dict().items() if not key.startswith("scaling.")}
    assert own.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in own.items())
    assert not all(torch.equal(value, plain.state_dict()[key]) for key, value in other.state_dict().items())
    assert own and not any(key.startswith("scaling.") for key in plain.state_dict())


def test_residual_acts_on_every_block_and_on_no_skip():
    method = make("residual_inv_sqrt2", TOKENS)
    assert torch.allclose(method.residual(torch.ones(2), torch.ones(2)), torch.full((2,), 2**0.5))


def test_ls_pools_features_per_token_in_a_uvit():
    """Changing one feature of a token by +d and another by -d changes no gate; the gate is the same for all features."""
    method, s = make("learnable(r=4)", TOKENS), skip_of(TOKENS, TOKENS[0])
    gate = method.nets["17"](s)
    assert gate.shape == (3, 17, 1)
    changed = s.clone()
    changed[:, 5, 0] += 1
    changed[:, 5, 1] -= 1
    assert torch.allclose(method.nets["17"](changed), gate, atol=1e-6)
    w = method.nets["17"]
    by_hand = torch.sigmoid(torch.relu(s.mean(-1) @ w.layer1.weight.T + w.layer1.bias) @ w.layer2.weight.T + w.layer2.bias)
    assert torch.allclose(method.skip(s, TOKENS[0]), s * by_hand[..., None])
    assert w.layer1.weight.shape == (4, 17)


def test_ls_pools_h_and_w_per_channel_in_a_unet():
    method, s = make("learnable(r=4)", MAPS), skip_of(MAPS, MAPS[0])
    w = method.nets["16"]
    by_hand = torch.sigmoid(torch.relu(s.mean((2, 3)) @ w.layer1.weight.T + w.layer1.bias) @ w.layer2.weight.T + w.layer2.bias)
    assert torch.allclose(method.skip(s, MAPS[0]), s * by_hand[..., None, None])


def test_ls_is_shared_over_skips_or_over_equal_widths_and_per_skip_is_not():
    widths = [Where(1, 2, 1, 2, 16, 16), Where(2, 2, 2, 2, 32, 32)]
    assert len(make("learnable", TOKENS).nets) == 1 and len(make("learnable", widths).nets) == 2
    assert len(make("learnable_per_skip", TOKENS).nets) == 6


@pytest.mark.parametrize(("length", "shared"), [(257, 8497), (258, 8530), (334, 13714)])
def test_ls_has_the_published_number_of_parameters(length, shared):
    assert sum(p.numel() for p in Calibration(length, 16).parameters()) == shared


def test_gates_start_near_one_half():
    gate = Calibration(257, 16)(torch.randn(64, 257, 512)).detach()
    assert 0.3 < float(gate.min()) < float(gate.max()) < 0.7


def test_mp_cat_preserves_magnitude():
    where = Where(1, 1, 1, 1, 100, 300, 5)
    method = make("mp_cat(t=0.3)", [where])
    generator = torch.Generator().manual_seed(0)
    joined = method.join(torch.randn(400, 5, 300, generator=generator), torch.randn(400, 5, 100, generator=generator), where)
    assert float(joined.square().mean()) == pytest.approx(1, rel=0.02)
    assert float(joined[..., 300:].square().sum() / joined[..., :300].square().sum()) == pytest.approx((0.3 / 0.7) ** 2, rel=0.03)


def test_norm_cat_is_a_layer_norm_over_the_concatenation():
    for wheres in (TOKENS, MAPS):
        where, axis = wheres[2], -1 if wheres is TOKENS else 1
        joined = make("norm_cat", wheres).join(skip_of(wheres, where) + 3, skip_of(wheres, where), where)
        assert float(joined.mean(axis).abs().max()) < 1e-5 and float(joined.var(axis, unbiased=False).mean()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("text", "label", "params"), [
    ("constant", "constant", {"kappa": 0.5, "index": "level"}), (" constant( kappa = 0.7 ) ", "constant(kappa=0.7)", {"kappa": 0.7, "index": "level"}),
    ("constant(kappa=0.5)", "constant", {"kappa": 0.5, "index": "level"}), ("constant(kappa=1)", "constant(kappa=1.0)", {"kappa": 1.0, "index": "level"}),
    ("learnable(r=4)", "learnable(r=4)", {"r": 4}), ("none()", "none", {}),
])
def test_methods_as_text(text, label, params):
    found = models.parse_method(text)
    assert (found.label, found.params) == (label, params)
    assert models.parse_method(found.label) == found == Method(found.name, params)


@pytest.mark.parametrize(("text", "message"), [
    ("lernable", "method 'lernable' is unknown; choose from none, inv_sqrt2, constant"), ("constant(kapa=0.7)", "constant: parameter 'kapa' is unknown; choose from kappa, index"),
    ("none(x=1)", "it takes no parameter"), ("constant(kappa=1.7)", "constant: kappa=1.7 is out of range; 0 < kappa <= 1"), ("constant(kappa=0)", "out of range"),
    ("constant(kappa='a')", "out of range"), ("constant(kappa=float('nan'))", "not of the form"), ("constant(index='depth')", "choose from 'level', 'concat'"),
    ("learnable(r=0)", "r=0 is out of range"), ("learnable(r=2.5)", "r=2.5 is out of range"), ("learnable(r=True)", "out of range"), ("constant(0.7)", "not of the form"),
    ("constant(**{'kappa': 1})", "not of the form"), ("", "not of the form"), ("__import__('os').system('true')", "not of the form"), ("a b", "not of the form"),
    ("constant(kappa=0.5, kappa=0.6)", "not of the form"), ("mp_cat(t=1)", "0 < t < 1"), ("layerscale(init='x')", "a finite number"),
])
def test_bad_text_is_one_line_with_the_choices(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as caught:
        models.parse_method(text)
    assert "\n" not in str(caught.value)


def test_every_method_says_where_it_is_from():
    for name, cls in REGISTRY.items():
        assert cls.__doc__ and len(cls.__doc__.split()) > 3, name
