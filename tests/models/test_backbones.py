"""All backbones: the seam, conditions, and inputs that do not fit."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import models
from models.dit import DiT, DiTConfig
from models.scaling import Scaling
from models.unet import AttentionBlock, ResBlock, UNetConfig
from models.uvit import UViTConfig

SMALL = {
    "uvit": UViTConfig(8, patch=2, width=16, depth=4, heads=2),
    "uvit class": UViTConfig(8, patch=2, width=16, depth=4, heads=2, classes=5),
    "uvit text": UViTConfig(8, patch=2, width=16, depth=4, heads=2, context=(7, 12)),
    "dit": DiTConfig(8, patch=2, width=16, depth=4, heads=2),
    "dit class": DiTConfig(8, patch=2, width=16, depth=4, heads=2, classes=5),
    "unet": UNetConfig(8, channels=8, mult=(1, 2), blocks=2, attention=(4,), heads=2, groups=4),
    "unet class": UNetConfig(8, channels=8, mult=(1, 2), blocks=1, attention=(8, 4), groups=4, classes=5),
    "unet text": UNetConfig(
        8,
        channels=8,
        mult=(1, 2),
        blocks=1,
        attention=(8, 4),
        groups=4,
        context=(7, 12),
        scale_shift=False,
        padded_down=True,
    ),
}


def make(config):
    """A network whose branches and output are not zero."""
    torch.manual_seed(0)
    if isinstance(config, UNetConfig):
        return dataclasses.replace(config, zero_init=False).build()
    net = config.build()
    if isinstance(net, DiT):
        wake(net)
    return net


def wake(net):
    for parameter in (parameter for parameter in net.parameters() if not parameter.any()):
        torch.nn.init.normal_(parameter, std=0.1)


def condition(config, n=2):
    if config.context:
        return torch.randn(n, *config.context)
    return torch.arange(n) if config.classes else None


class Spy(Scaling):
    """Records the calls of the seam."""

    def __init__(self, long_skips):
        super().__init__(long_skips)
        self.joined, self.sums = [], 0

    def join(self, trunk, s, where):
        self.joined.append((where, trunk.shape, s.shape))
        return super().join(trunk, s, where)

    def residual(self, x, h):
        self.sums += 1
        return super().residual(x, h)


@pytest.mark.parametrize("name", SMALL)
def test_join_at_every_long_skip_and_residual_in_every_block(name):
    config = SMALL[name]
    net = make(config)
    net.scaling = spy = Spy(net.long_skips)
    out = net(torch.randn(2, 3, 8, 8), torch.tensor([0.0, 999.0]), condition(config))
    assert out.shape == (2, 3, 8, 8)
    assert tuple(where for where, *_ in spy.joined) == net.long_skips[::-1]  # the deepest first
    assert [where.index for where in net.long_skips] == list(range(1, len(net.long_skips) + 1))
    for where, trunk, s in spy.joined:
        axis = -1 if where.tokens else 1
        assert len(net.long_skips) == where.N and (trunk[axis], s[axis]) == (where.trunk, where.channels)
        assert where.joined == where.trunk + where.channels
        if where.tokens:
            assert (
                s[1] == where.tokens == getattr(config, "tokens", 16)
                and where.level == where.index
                and where.patches == 16
            )
        else:
            assert s[-1] == 8 >> (where.level - 1) and where.levels == len(config.mult)
    if isinstance(config, DiTConfig | UViTConfig):
        assert spy.sums == 2 * (config.depth + len(net.middle))
    else:
        assert spy.sums == sum(isinstance(m, ResBlock | AttentionBlock) for m in net.modules())


@pytest.mark.parametrize("name", SMALL)
def test_a_skip_carries_what_the_mirrored_block_put_out(name):
    """In a UNet the first convolution and every downsampling too."""
    config = SMALL[name]
    net = make(config).eval()
    outputs, carried = [], []

    class Carried(Scaling):
        def skip(self, s, where):
            carried.append((where.index, s))
            return s

    net.scaling = Carried(net.long_skips)
    if isinstance(config, DiTConfig):
        sources = net.blocks[:2]
    elif isinstance(config, UViTConfig):
        sources = [*net.in_blocks]
    else:
        sources = [net.conv_in]
        for level in net.down:
            sources += [*level.blocks, *([level.sample] if level.sample is not None else [])]
    for module in sources:
        module.register_forward_hook(lambda _, __, out: outputs.append(out))
    net(torch.randn(2, 3, 8, 8), torch.zeros(2), condition(config))
    assert len(outputs) == len(carried) == len(net.long_skips)
    assert all(torch.equal(s, outputs[index - 1]) for index, s in carried)


@pytest.mark.parametrize("name", SMALL)
def test_time_and_condition_matter_and_images_of_a_batch_do_not_mix(name):
    config = SMALL[name]
    net, x, t = make(config), torch.randn(2, 3, 8, 8), torch.tensor([10.0, 500.0])
    c = condition(config)
    out = net(x, t, c)
    assert not torch.allclose(out, net(x, torch.tensor([900.0, 20.0]), c))
    if c is not None:
        assert not torch.allclose(out, net(x, t, c.flip(0)))
    assert torch.allclose(out.flip(0), net(x.flip(0), t.flip(0), None if c is None else c.flip(0)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("uvit", torch.arange(2), "class given; the model takes none"),
        ("uvit class", None, "none given; the model takes class"),
        ("uvit text", torch.arange(2), "class given; the model takes text"),
        ("unet", torch.randn(2, 7, 12), "text given; the model takes none"),
        ("dit", torch.arange(2), "class given; the model takes none"),
        ("dit class", None, "none given; the model takes class"),
        ("unet class", None, "none given; the model takes class"),
        ("unet text", None, "none given; the model takes text"),
        ("uvit class", torch.arange(3), r"condition: shape \(3,\) does not fit; the model takes \(2,\)"),
        (
            "unet text",
            torch.randn(2, 8, 12),
            r"condition: shape \(2, 8, 12\) does not fit; the model takes \(2, 7, 12\)",
        ),
    ],
)
def test_a_wrong_condition_is_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        make(SMALL[name])(torch.randn(2, 3, 8, 8), torch.zeros(2), bad)


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs", "dit-xs"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 16, 16), (2, 1, 8, 16), (1, 8, 8)])
def test_images_of_another_shape_are_refused(preset, shape):
    with pytest.raises(ValueError, match=r"x: shape .* does not fit; the model takes \(B, 1, 8, 8\)"):
        models.build(preset)(torch.zeros(shape), torch.zeros(shape[0]))


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs", "dit-xs"])
@pytest.mark.parametrize("times", [torch.tensor(3.0), torch.zeros(1), torch.zeros(2, 1)])
def test_times_of_another_shape_are_refused(preset, times):
    with pytest.raises(ValueError, match=r"timesteps: shape .* does not fit; the model takes \(2,\), one per image"):
        models.build(preset)(torch.zeros(2, 1, 8, 8), times)


def test_dropout_acts_in_training_only():
    for preset in ("uvit-xs", "unet-xs", "dit-xs"):
        net, x, t = models.build(preset, dropout=0.5), torch.randn(2, 1, 8, 8), torch.zeros(2)
        if preset == "unet-xs":
            torch.nn.init.normal_(net.conv_out.weight)
            for module in net.modules():
                if isinstance(module, ResBlock):
                    torch.nn.init.normal_(module.conv2.weight, std=0.1)
        if preset == "dit-xs":
            wake(net)
        assert not torch.equal(net(x, t), net(x, t))
        net.eval()
        assert torch.equal(net(x, t), net(x, t))


# What is computed, and what is not


class Recorder(TorchDispatchMode):
    """The operations that run, with the types of their inputs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append((function.overloadpacket.__name__, [a.dtype for a in args if isinstance(a, torch.Tensor)]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs", "dit-xs"])
def test_no_scaling_joins_by_one_concatenation_and_no_copy(preset):
    """The skip itself goes into the one `cat` that a long skip needs."""
    model = models.build(preset)
    where = model.long_skips[0]
    skip = torch.randn(2, where.tokens, where.channels) if where.tokens else torch.randn(2, where.channels, 4, 4)
    assert model.scaling.skip(skip, where) is skip
    with Recorder() as joined:
        model.scaling.join(skip.clone(), skip, where)
    assert [name for name, _ in joined.seen] == ["clone", "cat"]  # the clone is the trunk's, made here


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs", "dit-xs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_torchs_own_in_the_type_of_the_computation(preset, dtype, monkeypatch):
    """scaled_dot_product_attention, in bf16 under autocast, at every attention and nowhere a softmax beside it."""
    attend, types = F.scaled_dot_product_attention, []

    def record(q, k, v, **words):
        types.append({q.dtype, k.dtype, v.dtype})
        return attend(q, k, v, **words)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    model = models.build(preset)
    with torch.no_grad(), Recorder() as run, torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(
            torch.randn(2, model.config.in_channels, model.config.image_size, model.config.image_size), torch.zeros(2)
        )
    assert types and all(found == {dtype} for found in types)
    assert not any("softmax" in name or name == "bmm" for name, _ in run.seen)
