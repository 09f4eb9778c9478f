"""The backbones: shapes, the seam, conditions, published sizes, and matched miniatures."""

import dataclasses

import pytest
import torch

import models
from models.scaling import Scaling
from models.unet import UNet, UNetConfig
from models.uvit import UViT, UViTConfig

MINI = ("uvit-xs", "unet-xs")
SMALL = {
    "uvit": UViTConfig(8, patch=2, width=16, depth=4, heads=2), "uvit class": UViTConfig(8, patch=2, width=16, depth=4, heads=2, classes=5),
    "uvit text": UViTConfig(8, patch=2, width=16, depth=4, heads=2, context=(7, 12)),
    "unet": UNetConfig(8, channels=8, mult=(1, 2), blocks=2, attention=(4,), heads=2, groups=4),
    "unet class": UNetConfig(8, channels=8, mult=(1, 2), blocks=1, attention=(8, 4), groups=4, classes=5),
    "unet text": UNetConfig(8, channels=8, mult=(1, 2), blocks=1, attention=(8, 4), groups=4, context=(7, 12), scale_shift=False, padded_down=True),
}


def make(config):
    torch.manual_seed(0)
    return UViT(config) if isinstance(config, UViTConfig) else UNet(dataclasses.replace(config, zero_init=False))


def condition(config, n=2):
    if config.context:
        return torch.randn(n, *config.context)
    return torch.arange(n) if config.classes else None


class Spy(Scaling):
    """Counts the calls of the seam."""

    def __init__(self, wheres):
        super().__init__(wheres)
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
    net.scaling = spy = Spy(net.wheres)
    out = net(torch.randn(2, 3, 8, 8), torch.tensor([0.0, 999.0]), condition(config))
    assert out.shape == (2, 3, 8, 8)
    assert [where.index for where, *_ in spy.joined] == list(range(len(net.wheres), 0, -1))  # the deepest first
    for where, trunk, s in spy.joined:
        axis = -1 if where.tokens else 1
        assert where.N == len(net.wheres) and (trunk[axis], s[axis]) == (where.trunk, where.channels)
        if where.tokens:
            assert s[1] == where.tokens == config.tokens and where.level == where.index
        else:
            assert s[-1] == 8 >> (where.level - 1)
    if isinstance(config, UViTConfig):
        assert spy.sums == 2 * (config.depth + 1)
    else:
        residuals = [m for m in net.modules() if type(m).__name__ in ("ResBlock", "AttentionBlock")]
        assert spy.sums == len(residuals)


@pytest.mark.parametrize("name", SMALL)
def test_time_and_condition_matter(name):
    config = SMALL[name]
    net, x = make(config), torch.randn(2, 3, 8, 8)
    c = condition(config)
    out = net(x, torch.tensor([10.0, 10.0]), c)
    assert not torch.allclose(out, net(x, torch.tensor([900.0, 900.0]), c))
    if c is not None:
        assert not torch.allclose(out, net(x, torch.tensor([10.0, 10.0]), c.flip(0)))


@pytest.mark.parametrize(("name", "bad", "message"), [
    ("uvit", torch.arange(2), "class given; the model takes none"), ("uvit class", None, "none given; the model takes class"),
    ("uvit text", torch.arange(2), "class given; the model takes text"), ("unet", torch.randn(2, 7, 12), "text given; the model takes none"),
    ("unet class", None, "none given; the model takes class"), ("unet text", None, "none given; the model takes text"),
])
def test_a_wrong_condition_is_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        make(SMALL[name])(torch.randn(2, 3, 8, 8), torch.zeros(2), bad)


@pytest.mark.parametrize("preset", MINI)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 16, 16), (2, 1, 8, 16), (1, 8, 8)])
def test_images_of_another_shape_are_refused(preset, shape):
    with pytest.raises(ValueError, match=r"x: shape .* does not fit; the model takes \(B, 1, 8, 8\)"):
        models.build(preset)(torch.zeros(shape), torch.zeros(shape[0]))


def test_the_miniatures_are_matched():
    """Parameters within 10 %, forward FLOPs within 25 %, at least four long skips each."""
    nets = [models.build(preset) for preset in MINI]
    params = [sum(p.numel() for p in net.parameters()) for net in nets]
    flops = [models.flops(net, (1, 8, 8)) for net in nets]
    assert min(params) / max(params) > 0.9 and min(flops) / max(flops) > 0.75, (params, flops)
    assert all(len(net.wheres) >= 4 for net in nets)
    for net in (models.build(preset, "learnable(r=4)") for preset in MINI):
        assert all(calibration.layer1.out_features >= 4 for calibration in net.scaling.nets.values())


@pytest.mark.parametrize(("config", "count"), [
    (UViTConfig(32, 2, 512, 12, 8), 44_255_328), (UViTConfig(64, 4, 512, 12, 8), 44_292_228), (UViTConfig(64, 4, 768, 16, 12, classes=1000), 130_940_292),
    (UViTConfig(64, 4, 1024, 20, 16, classes=1000), 286_827_652), (UViTConfig(32, 2, 512, 12, 8, in_channels=4, context=(77, 768)), 44_692_644),
    (UViTConfig(32, 2, 512, 16, 8, in_channels=4, context=(77, 768)), 58_345_636),
    (UNetConfig(32, 128, (1, 2, 2, 2), 3, (16, 8), heads=4), 52_542_979), (UNetConfig(32, 128, (1, 2, 2, 2), 3, (16, 8), heads=4, out_channels=6), 52_546_438),
    (UNetConfig(64, 128, (1, 2, 2, 2, 4), 2, (16,), eps=1e-6, scale_shift=False, sine_first=True, closed=True, padded_down=True), 78_700_803),
])
def test_the_published_sizes_are_configurations(config, count):
    """The published parameter counts, exactly: the same two classes carry them."""
    with torch.device("meta"):
        net = UViT(config) if isinstance(config, UViTConfig) else UNet(config)
    assert sum(p.numel() for p in net.parameters()) == count


def test_flops_are_two_per_multiply_add():
    """A UNet without blocks to speak of: counted by hand for the U-ViT's linear layers and attention."""
    config = models.spec("uvit-xs")
    tokens, width, blocks, skips = config.tokens, config.width, config.depth + 1, config.depth // 2
    linear = blocks * tokens * width * width * (3 + 1 + 8) + skips * tokens * 2 * width * width
    attention = blocks * 2 * tokens * tokens * width
    ends = 16 * 4 * width + tokens * width * 4 + 64 * 9
    assert models.flops(models.build("uvit-xs"), (1, 8, 8)) == 2 * (linear + attention + ends)


@pytest.mark.parametrize(("words", "message"), [
    ({"preset": "uvit-xxs"}, "preset: 'uvit-xxs' is unknown; choose from uvit-xs, unet-xs"), ({"preset": "uvit-xs", "widht": 3}, "override: 'widht' is unknown; choose from in_channels"),
    ({"preset": "uvit-xs", "image_size": 9}, "image_size: 9 does not fit uvit-xs; a multiple of 2"), ({"preset": "unet-xs", "image_size": 6}, "a multiple of 4"),
    ({"preset": "unet-xs", "dropout": 1.5}, "dropout: 1.5 is out of range"), ({"preset": "uvit-xs", "method": "x"}, "method 'x' is unknown"),
])
def test_bad_builds_are_one_line(words, message):
    with pytest.raises(ValueError, match=message):
        models.build(**words)


def test_overrides():
    net = models.build("unet-xs", in_channels=3, out_channels=6, image_size=16, dropout=0.2)
    assert net(torch.randn(1, 3, 16, 16), torch.zeros(1)).shape == (1, 6, 16, 16)
    assert {m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)} == {0.2}


def test_seeds_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    models.build("uvit-xs", "learnable(r=4)", seeds=(1, 2))
    assert torch.equal(before, torch.get_rng_state())
