"""Every method against its definition: factors at every index, what is pooled, gradients and neutral settings."""

import copy
import dataclasses
import math

import pytest
import torch

import models
from models.methods import names
from models.scaling import REGISTRY, Calibration, LongSkip, Scaling, defaults, register

TOKENS = [LongSkip(i, 6, i, 6, 32, 17, trunk=32, patches=16) for i in range(1, 7)]
MAPS = [LongSkip(i, 6, level, 3, 16, trunk=16) for i, level in zip(range(1, 7), (1, 1, 2, 2, 3, 3), strict=True)]
MINI = ("uvit-xs", "unet-xs", "dit-xs")
FITTING = [(name, preset) for name in names() for preset in MINI if name != "plain" or preset == "dit-xs"]
R = {"learnable": "(r=4)", "learnable_per_skip": "(r=4)"}


def make(text, long_skips):
    if text == "plain":
        long_skips = [dataclasses.replace(where, mapped=True) for where in long_skips]
    return models.parse_method(text).build(long_skips)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def skip_of(where, seed=0):
    shape = (3, where.tokens, where.channels) if where.tokens else (3, where.channels, 4, 4)
    return random(*shape, seed=seed + where.index)


def wake(*nets):
    """Give the layers that start at zero the same weights in all networks, so that the output is not zero."""
    for net in nets:
        generator = torch.Generator().manual_seed(9)
        for name, parameter in net.named_parameters():
            if not name.startswith("scaling.") and not parameter.any():
                with torch.no_grad():
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
@pytest.mark.parametrize(
    ("text", "tokens", "maps"),
    [
        ("none", [1] * 6, [1] * 6),
        ("inv_sqrt2", [2**-0.5] * 6, [2**-0.5] * 6),
        ("constant", [0.5 ** (i - 1) for i in range(1, 7)], [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ("constant(kappa=0.7)", [0.7**i for i in range(6)], [1, 1, 0.7, 0.7, 0.49, 0.49]),
        ("constant(kappa=0.7, index='concat')", [0.7**i for i in range(6)], [0.7**i for i in range(6)]),
        ("constant_reversed(kappa=0.7)", [0.7 ** (6 - i) for i in range(1, 7)], [0.49, 0.49, 0.7, 0.7, 1, 1]),
        ("constant_reversed(kappa=0.7, index='concat')", *[[0.7 ** (6 - i) for i in range(1, 7)]] * 2),
        ("residual_inv_sqrt2", [1] * 6, [1] * 6),
        ("scalar", [1] * 6, [1] * 6),
        ("rezero", [0] * 6, [0] * 6),
        ("no_skip", [0] * 6, [0] * 6),
        ("sigmoid_scalar", [1 / (1 + math.exp(1.5))] * 6, [1 / (1 + math.exp(1.5))] * 6),
        ("layerscale", [1e-4] * 6, [1e-4] * 6),
        ("layerscale(init=0.5)", [0.5] * 6, [0.5] * 6),
        ("mp_cat", [1] * 6, [1] * 6),
        ("skip_tuning", [1, 0.96, 0.92, 0.88, 0.84, 0.8], [1, 0.96, 0.92, 0.88, 0.84, 0.8]),
        ("skip_tuning(rho_bottom=0, rho_top=2)", [2, 1.6, 1.2, 0.8, 0.4, 0], [2, 1.6, 1.2, 0.8, 0.4, 0]),
    ],
)
def test_the_factor_at_every_index(text, tokens, maps):
    """Deepest skip kappa^(N-1), shallowest 1; only the skip half is touched."""
    for long_skips, factors in ((TOKENS, tokens), (MAPS, maps)):
        method = make(text, long_skips)
        for where, factor in zip(long_skips, factors, strict=True):
            s, trunk = skip_of(where), skip_of(where, seed=50)
            joined = method.join(trunk, s, where)
            first, second = joined.split([where.trunk, where.channels], dim=-1 if where.tokens else 1)
            assert torch.allclose(second, s * factor, rtol=1e-6, atol=1e-12), (text, where)
            assert torch.equal(first, trunk)


@torch.no_grad()
@pytest.mark.parametrize("t", [0.3, 0.5, 0.9])
def test_mp_cat_weighs_both_halves_by_the_formula(t):
    """At every index, for trunks of the skip's width and of three times it."""
    for i in range(1, 5):
        where = LongSkip(i, 4, i, 4, 8, trunk=8 * (1 + 2 * (i % 2)))
        a, b = where.trunk, where.channels
        constant = math.sqrt((a + b) / ((1 - t) ** 2 + t**2))
        trunk, s = random(2, a, 4, 4), random(2, b, 4, 4, seed=1)
        first, second = make(f"mp_cat(t={t})", [where] * 4).join(trunk, s, where).split([a, b], dim=1)
        assert torch.allclose(first, constant * (1 - t) / math.sqrt(a) * trunk, rtol=1e-6)
        assert torch.allclose(second, constant * t / math.sqrt(b) * s, rtol=1e-6)


def test_mp_cat_preserves_magnitude():
    where = LongSkip(1, 1, 1, 1, 100, 5, trunk=300)
    joined = make("mp_cat(t=0.3)", [where]).join(random(400, 5, 300), random(400, 5, 100, seed=1), where)
    assert float(joined.square().mean()) == pytest.approx(1, rel=0.02)
    trunk, s = (part.square().sum() for part in joined.split([300, 100], dim=-1))
    assert float(s / trunk) == pytest.approx((0.3 / 0.7) ** 2, rel=0.03)


@torch.no_grad()
def test_norm_cat_is_a_layer_norm_over_the_concatenation():
    """At every index; in a U-ViT the linear layer that follows is skip_linear."""
    for long_skips in (TOKENS, MAPS):
        method = make("norm_cat", long_skips)
        for where in long_skips:
            axis, norm = (-1 if where.tokens else 1), method.norms[where.index - 1]
            norm.weight.copy_(random(where.joined, seed=3))
            norm.bias.copy_(random(where.joined, seed=4))
            trunk, s = skip_of(where) + 3, skip_of(where, seed=9)
            joined = torch.cat([trunk, s], axis).movedim(axis, -1)
            centred = joined - joined.mean(-1, keepdim=True)
            expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
            assert torch.allclose(method.join(trunk, s, where).movedim(axis, -1), expected, atol=1e-5)


def plain_freeu(trunk, s, b, low):
    """FreeU on maps, written out: a window of two by two around the centre of the shifted spectrum."""
    mean = trunk.mean(1)
    flat = mean.flatten(1)
    smallest, largest = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    trunk = trunk.clone()
    trunk[:, : trunk.shape[1] // 2] *= ((b - 1) * (mean - smallest) / (largest - smallest) + 1)[:, None]
    spectrum = torch.fft.fftshift(torch.fft.fftn(s, dim=(-2, -1)), dim=(-2, -1))
    row, column = s.shape[-2] // 2, s.shape[-1] // 2
    spectrum[..., row - 1 : row + 1, column - 1 : column + 1] *= low
    return torch.cat([trunk, torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real], dim=1)


@pytest.mark.parametrize("size", [4, 5])
def test_freeu_in_the_first_two_decoder_stages(size):
    method = make("freeu(b1=1.3, b2=1.4, s1=0.9, s2=0.2)", MAPS)
    for where in MAPS:
        trunk, s = random(3, 16, size, size), random(3, 16, size, size, seed=where.index)
        strength = {3: (1.3, 0.9), 2: (1.4, 0.2), 1: None}[where.level]
        expected = plain_freeu(trunk, s, *strength) if strength else torch.cat([trunk, s], dim=1)
        assert torch.allclose(method.join(trunk, s, where), expected, atol=1e-5)


def test_freeu_on_the_patches_of_a_uvit():
    """They are laid out as an image, 4 by 4; the token before them stays."""
    method = make("freeu", TOKENS)
    for where, (b, low) in zip(TOKENS[:3:-1], ((1.3, 0.9), (1.4, 0.2)), strict=True):
        trunk, s = skip_of(where), skip_of(where, seed=9)
        joined = method.join(trunk, s, where)
        image = plain_freeu(*(x[:, 1:].reshape(3, 4, 4, 32).permute(0, 3, 1, 2) for x in (trunk, s)), b, low)
        assert torch.allclose(joined[:, 1:], image.permute(0, 2, 3, 1).reshape(3, 16, 64), atol=1e-5)
        assert torch.equal(joined[:, :1], torch.cat([trunk, s], dim=-1)[:, :1])


def test_freeu_of_a_flat_image_is_finite():
    where = MAPS[-1]
    assert torch.isfinite(make("freeu", MAPS).join(torch.ones(1, 16, 2, 2), torch.ones(1, 16, 2, 2), where)).all()


@pytest.mark.parametrize("text", names())
def test_only_one_method_touches_the_residual_sum(text):
    method, x, h = make(text, TOKENS), random(2, 17, 32), random(2, 17, 32, seed=1)
    expected = (x + h) / math.sqrt(2) if text == "residual_inv_sqrt2" else x + h
    assert torch.allclose(method.residual(x, h), expected, rtol=1e-6)
    assert text == "residual_inv_sqrt2" or torch.equal(method.residual(x, h), x + h)


@torch.no_grad()
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", None),
        ("constant(kappa=1.0)", None),
        ("constant_reversed(kappa=1)", None),
        ("scalar", None),
        ("rezero", 1),
        ("layerscale(init=1.0)", None),
        ("mp_cat", None),
        ("skip_tuning(rho_bottom=1, rho_top=1)", None),
        ("freeu(b1=1, b2=1, s1=1, s2=1)", None),
    ],
)
@pytest.mark.parametrize("preset", MINI)
def test_the_neutral_setting_is_none_bit_for_bit(text, value, preset):
    """mp_cat at t = 1/2 is neutral where trunk and skip are equally wide, as they are here."""
    x, t = random(2, 1, 8, 8), torch.tensor([3.0, 700.0])
    plain, method = (models.build(preset, m, seeds=(1, 2)) for m in ("none", text))
    for parameter in method.scaling.own:
        parameter.fill_(value) if value is not None else None
    wake(plain, method)
    assert torch.equal(plain(x, t), method(x, t)) and plain(x, t).any()


@pytest.mark.parametrize(("name", "preset"), [two for two in FITTING if two[0] not in ("none", "scalar", "mp_cat")])
def test_every_other_method_changes_the_output(name, preset):
    x, t = random(2, 1, 8, 8), torch.tensor([3.0, 700.0])
    plain, method = (models.build(preset, m, seeds=(1, 2)) for m in ("none", name + R.get(name, "")))
    wake(plain, method)
    assert not torch.allclose(plain(x, t), method(x, t))


@pytest.mark.parametrize(("name", "preset"), FITTING)
def test_gradients_reach_every_parameter_of_every_method(name, preset):
    net = models.build(preset, name + R.get(name, ""), seeds=(1, 2))
    wake(net)
    net(random(2, 1, 8, 8), torch.tensor([3.0, 700.0])).square().mean().backward()
    for parameter_name, parameter in net.named_parameters():
        frozen = not parameter.requires_grad
        assert frozen or (parameter.grad is not None and torch.isfinite(parameter.grad).all()), parameter_name
    for parameter_name, parameter in net.scaling.named_parameters():
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(("name", "preset"), FITTING)
def test_every_method_runs_in_half_precision_and_survives_a_copy(name, preset):
    net = copy.deepcopy(models.build(preset, name + R.get(name, ""), seeds=(1, 2)))
    wake(net)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(random(2, 1, 8, 8), torch.tensor([3.0, 700.0]))
    out.float().square().mean().backward()
    assert torch.isfinite(out).all() and all(torch.isfinite(p.grad).all() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "preset"), FITTING)
def test_no_method_shifts_the_backbone_and_the_seed_does(name, preset):
    plain, other = (models.build(preset, "none", seeds=seeds) for seeds in ((1, 2), (4, 2)))
    method = models.build(preset, name + R.get(name, ""), seeds=(1, 3))
    own = {key: value for key, value in method.state_dict().items() if not key.startswith("scaling.")}
    assert own.keys() == {key for key in plain.state_dict() if not key.startswith("scaling.")}
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in own.items())
    assert not all(torch.equal(value, plain.state_dict()[key]) for key, value in other.state_dict().items())


def test_the_gate_has_a_seed_of_its_own():
    nets = [models.build("uvit-xs", "learnable(r=4)", seeds=(1, gate)) for gate in (2, 2, 3)]
    first, again, other = (net.scaling.state_dict() for net in nets)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_in_a_dit_the_joins_layers_are_the_methods_and_the_same_in_all_arms():
    """Drawn from the gate's seed, torch's default linear layers; `plain` has nothing of its own."""
    arms = ("none", "constant", "learnable(r=4)", "norm_cat", "no_skip")
    first, *others = (models.build("dit-xs", arm, seeds=(1, 2)).scaling.linears.state_dict() for arm in arms)
    assert len(first) == 8 and first["0.weight"].shape == (28, 56)
    assert all(torch.equal(first[key], other[key]) for other in others for key in first)
    again = models.build("dit-xs", "none", seeds=(1, 3)).scaling.linears.state_dict()
    assert not any(torch.equal(first[key], again[key]) for key in first)
    assert 0.9 < max(float(weight.abs().max()) * 56**0.5 for weight in first.values()) <= 1
    plain = models.build("dit-xs", "plain", seeds=(1, 2)).scaling
    assert not plain.state_dict() and len(plain.long_skips) == 4


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs"])
def test_plain_is_refused_where_the_layers_expect_a_skip(preset):
    with pytest.raises(
        ValueError, match=r"^plain: the layers of this backbone take trunk and skip joined; choose no_s"
    ):
        models.build(preset, "plain")


def gate_by_hand(w, pooled):
    hidden = torch.relu(pooled @ w.layer1.weight.T + w.layer1.bias)
    return torch.sigmoid(hidden @ w.layer2.weight.T + w.layer2.bias)


@torch.no_grad()
def test_ls_pools_features_per_token_in_a_uvit():
    """Changing one feature of a token by +d and another by -d changes no gate; a gate is the same for all features."""
    method, s = make("learnable(r=4)", TOKENS), skip_of(TOKENS[0])
    w = method.nets["17"]
    assert w(s).shape == (3, 17, 1) and w.layer1.weight.shape == (4, 17)
    changed = s.clone()
    changed[:, 5, 0] += 1
    changed[:, 5, 1] -= 1
    assert torch.allclose(w(changed), w(s), atol=1e-6)
    changed[:, 5] += 1
    assert not torch.allclose(w(changed), w(s), atol=1e-3)
    by_hand = gate_by_hand(w, s.mean(-1))
    for where in TOKENS:
        assert torch.allclose(method.skip(s, where), s * by_hand[..., None])


@torch.no_grad()
def test_ls_pools_h_and_w_per_channel_in_a_unet():
    """Moving content about within a channel changes no gate."""
    method, s = make("learnable(r=4)", MAPS), skip_of(MAPS[0])
    w = method.nets["16"]
    assert w(s).shape == (3, 16, 1, 1) and torch.allclose(w(s), w(s.flip(-1).roll(1, -2)), atol=1e-6)
    by_hand = gate_by_hand(w, s.mean((2, 3)))
    for where in MAPS:
        assert torch.allclose(method.skip(s, where), s * by_hand[..., None, None])


@torch.no_grad()
def test_ls_per_skip_has_a_net_of_its_own_at_every_index():
    for long_skips in (TOKENS, MAPS):
        method, s = make("learnable_per_skip(r=4)", long_skips), skip_of(long_skips[0])
        for where in long_skips:
            assert torch.equal(method.skip(s, where), s * method.nets[where.index - 1](s))
        assert len({float(method.skip(s, where).sum()) for where in long_skips}) == len(method.nets) == 6


@torch.no_grad()
@pytest.mark.parametrize("text", ["scalar", "sigmoid_scalar", "rezero", "layerscale"])
def test_learned_factors_belong_to_their_skip(text):
    """With other values at every index, and at every channel where there is one per channel."""
    for long_skips in (TOKENS, MAPS):
        method = make(text, long_skips)
        for where in long_skips:
            values = random(where.channels if text == "layerscale" else 1, seed=where.index)
            own = (
                method.gains[where.index - 1] if text == "layerscale" else method.weight[where.index - 1 : where.index]
            )
            own.copy_(values)
        for where in long_skips:
            gain = random(where.channels if text == "layerscale" else 1, seed=where.index)
            gain = gain.sigmoid() if text == "sigmoid_scalar" else gain
            s = skip_of(where)
            assert torch.allclose(method.skip(s, where), s * (gain if where.tokens else gain.view(-1, 1, 1)), rtol=1e-6)


def test_ls_is_shared_over_skips_or_over_equal_widths():
    widths = [LongSkip(1, 2, 1, 2, 16), LongSkip(2, 2, 2, 2, 32)]
    assert len(make("learnable", TOKENS).nets) == 1 and len(make("learnable", widths).nets) == 2


@pytest.mark.parametrize(
    ("length", "r", "hidden"),
    [
        (257, 16, 16),
        (258, 16, 16),
        (334, 16, 20),
        (17, 4, 4),
        (16, 4, 4),
        (5, 16, 1),
        (5, 1, 5),
    ],
)
def test_ls_hidden_width(length, r, hidden):
    assert Calibration(length, r).layer1.weight.shape == (hidden, length)


def test_gates_start_near_one_half():
    gate = Calibration(257, 16)(random(64, 257, 512)).detach()
    assert 0.3 < float(gate.min()) < float(gate.max()) < 0.7


def test_a_single_skip_is_the_shallowest():
    where, s = LongSkip(1, 1, 1, 1, 4), random(1, 4, 2, 2)
    for text in ("constant", "constant_reversed", "skip_tuning"):
        assert torch.equal(make(text, [where]).skip(s, where), s)


@torch.no_grad()
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("long_skips", [TOKENS, MAPS])
def test_a_bf16_trunk_and_skip_stay_in_bf16(name, long_skips):
    """Under autocast, and outside it as far as a method has no layer of its own, which would refuse to mix."""
    method, where = make(name, long_skips), long_skips[-1]
    trunk, s = (skip_of(where, seed).bfloat16() for seed in (0, 1))
    for autocast in (True, False)[: 1 if name in R else 2]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert method.join(trunk, s, where).dtype == method.residual(trunk, s).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize(("name", "preset"), FITTING)
def test_no_method_changes_the_precision_of_a_network(name, preset):
    """Every decoder block gets what it gets without a method."""

    def inputs(method):
        net, found = models.build(preset, method), []
        for block in net.decoder:
            block.register_forward_pre_hook(lambda _, given: found.append(given[0].dtype))
        with torch.autocast("cpu", torch.bfloat16):
            net(random(2, 1, 8, 8), torch.tensor([3.0, 700.0]))
        return found

    assert inputs(name) == inputs("none")


@pytest.mark.parametrize(("name", "preset"), FITTING)
def test_weight_decay_leaves_gains_and_norms_alone(name, preset):
    """One group of all weights in their order, as if nobody asked, for every other method: LS as published."""
    net = models.build(preset, name)
    weights, groups = list(map(id, net.parameters())), models.parameter_groups(net, 0.03)
    spared = [id(weight) for group in groups if group["weight_decay"] == 0 for weight in group["params"]]
    ordered = [weight for weight in weights if weight not in spared] + spared
    assert [id(weight) for group in groups for weight in group["params"]] == ordered
    if name in ("scalar", "sigmoid_scalar", "rezero", "layerscale", "norm_cat"):
        assert spared == [id(weight) for weight in net.scaling.own] and len(groups) == 2
    else:
        assert not spared and len(groups) == 1
    assert groups[0]["weight_decay"] == 0.03 and torch.optim.AdamW(groups, lr=1e-3)


def test_every_method_says_where_it_is_from():
    for name, cls in REGISTRY.items():
        first = cls.__doc__.splitlines()[0]
        assert any(source in first for source in ("arXiv", "modded-nanogpt", "An example")), name
        assert set(cls.valid) <= set(defaults(cls))


@pytest.mark.parametrize(
    ("name", "cls", "message"),
    [
        ("none", Scaling, "registered twice, by models.scaling and models.scaling"),
        ("in-valid", Scaling, "letters, digits and _"),
        ("odd", torch.nn.Module, "subclass of Scaling"),
        ("bare", type("Bare", (Scaling,), {"__init__": lambda self: None}), "Bare.__init__ must take long_skips first"),
        ("early", type("Early", (Scaling,), {"__init__": lambda self, factor=1.0: None}), "must take long_skips first"),
        (
            "bound",
            type("Bound", (Scaling,), {"__init__": lambda self, long_skips, factor: None}),
            "parameter 'factor' of Bound.__init__ needs a default",
        ),
    ],
)
def test_a_class_that_cannot_be_a_method_is_refused(name, cls, message):
    with pytest.raises(ValueError, match=message):
        register(name)(cls)
    assert REGISTRY.get(name) in (None, REGISTRY["none"])
