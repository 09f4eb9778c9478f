"""Presets: published and matched sizes, overrides, seeds, and what is counted."""

import pytest
import torch

import models

PUBLISHED = {
    "uvit-s-2": 44_255_328,
    "uvit-s-4": 44_292_228,
    "uvit-m-4": 130_940_292,
    "uvit-l-4": 286_827_652,
    "uvit-s-2-t2i": 44_692_644,
    "uvit-s-2-deep-t2i": 58_345_636,
    "unet-iddpm-cifar10": 52_542_979,
    "unet-ddim-celeba64": 78_700_803,
    # ours: fixed, so that a record stays comparable
    "uvit-xs": 122_702,
    "unet-xs": 111_153,
    "uvit-xs-16": 124_832,
    "unet-xs-16": 115_091,
    "uvit-xs-class": 124_352,
    "unet-xs-class": 112_499,
    "uvit-xs-t2i": 125_060,
    "unet-xs-t2i": 116_244,
    "uvit-xs-d12": 177_294,
    "uvit-xs-d16": 231_886,
    "uvit-xs-d24": 341_070,
    "unet-xs-n4": 80_433,
    "unet-xs-n6": 115_537,
    "unet-xs-n8": 150_641,
    "unet-xs-n12": 220_849,
    "uvit-s-2-deep": 57_908_320,
    "dit-xs": 132_976,
    "dit-xs-wide": 139_360,
    "dit-xs-class": 134_356,
    "dit-xs-class-wide": 140_740,
    "dit-s-2": 34_728_976,
    "dit-b-2": 137_582_608,
    "dit-l-2": 483_264_528,
    "dit-xl-2": 712_286_224,
    "unet-cifar10-matched": 46_186_083,
    "unet-celeba64-matched": 44_286_147,
    "unet-imagenet64": 121_572_483,
    "unet-coco256": 43_958_916,
}
MATCHED = {
    "unet-xs": "uvit-xs",
    "unet-xs-16": "uvit-xs-16",
    "unet-xs-class": "uvit-xs-class",
    "unet-xs-t2i": "uvit-xs-t2i",
    "unet-cifar10-matched": "uvit-s-2",
    "unet-celeba64-matched": "uvit-s-4",
    "unet-imagenet64": "uvit-m-4",
    "unet-coco256": "uvit-s-2-t2i",
    "dit-xs": "uvit-xs",
    "dit-xs-class": "uvit-xs-class",
}
DIT = {  # DiT and Skip-DiT, counted on the public code, the frozen position embedding and the variance's output with them
    "dit-xl-2": (675_129_632, 712_369_184),
    "dit-l-2": (458_102_816, 483_330_080),
    "dit-b-2": (130_512_416, 137_613_344),
    "dit-s-2": (32_963_360, 34_744_352),
}


def outline(preset, method="none", **overrides):
    """The network without memory behind it."""
    with torch.device("meta"):
        return models.build(preset, method, **overrides)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", models.presets())
def test_the_exact_number_of_parameters(preset):
    assert count(outline(preset)) == PUBLISHED[preset]


def test_six_output_channels_of_the_improved_diffusion_unet():
    assert count(outline("unet-iddpm-cifar10", out_channels=6)) == 52_546_438


@pytest.mark.parametrize("preset", DIT)
def test_dit_and_skip_dit_have_the_published_numbers(preset):
    methods = ("plain", "norm_cat")
    assert tuple(count(outline(preset, method, out_channels=8)) for method in methods) == DIT[preset]


@pytest.mark.parametrize(("preset", "shape"), [("dit-xs", (1, 8, 8)), ("dit-xs-class", (3, 12, 12))])
def test_a_wide_plain_dit_is_as_large_and_as_dear_as_one_with_joins(preset, shape):
    """Both are within 10 % of the U-ViT: with joins, see above, and without."""
    plain, joined, wide = (outline(*two) for two in ((preset, "plain"), (preset, "none"), (f"{preset}-wide", "plain")))
    assert count(wide) == count(joined) > count(plain) > 0.9 * PUBLISHED[MATCHED[preset]]
    assert models.flops(wide, shape) == models.flops(joined, shape) > models.flops(plain, shape)


@pytest.mark.parametrize(
    ("preset", "shared", "per_skip"),
    [
        ("uvit-s-2", 8_497, 50_982),
        ("uvit-s-4", 8_497, 50_982),
        ("uvit-m-4", 8_530, 68_240),
        ("uvit-l-4", 8_530, 85_300),
        ("uvit-s-2-t2i", 13_714, 82_284),
        ("uvit-s-2-deep-t2i", 13_714, 109_712),
    ],
)
def test_what_ls_adds_to_a_uvit(preset, shared, per_skip):
    assert count(outline(preset, "learnable").scaling) == shared
    assert count(outline(preset, "learnable_per_skip").scaling) == per_skip
    assert count(outline(preset, "learnable")) == PUBLISHED[preset] + shared


@pytest.mark.parametrize(("ours", "partner"), MATCHED.items())
def test_matched_networks_take_the_same_images_and_conditions(ours, partner):
    """Parameters within 10 %."""
    a, b = models.config(ours), models.config(partner)
    assert (a.image_size, a.in_channels, a.classes, a.context) == (b.image_size, b.in_channels, b.classes, b.context)
    assert abs(PUBLISHED[ours] / PUBLISHED[partner] - 1) < 0.1


def test_the_miniatures_are_matched():
    """Parameters within 10 %, FLOPs within 25 %, at least four long skips, at least four hidden units in a gate."""
    nets = [models.build(preset) for preset in ("uvit-xs", "unet-xs")]
    flops = [models.flops(net, (1, 8, 8)) for net in nets]
    assert min(map(count, nets)) / max(map(count, nets)) > 0.9 and min(flops) / max(flops) > 0.75, flops
    assert all(len(net.long_skips) >= 4 for net in nets) and len({where.level for where in nets[1].long_skips}) >= 2
    for net in (models.build(preset, "learnable(r=4)") for preset in ("uvit-xs", "unet-xs", "dit-xs")):
        assert all(calibration.layer1.out_features >= 4 for calibration in net.scaling.nets.values())


@pytest.mark.parametrize(
    ("preset", "skips"),
    [
        ("uvit-s-2", 6),
        ("uvit-s-2-deep", 8),
        ("uvit-l-4", 10),
        ("uvit-xs-d12", 6),
        ("uvit-xs-d16", 8),
        ("uvit-xs-d24", 12),
        ("unet-xs-n4", 4),
        ("unet-xs-n6", 6),
        ("unet-xs-n8", 8),
        ("unet-xs-n12", 12),
        ("uvit-s-2-deep-t2i", 8),
        ("unet-iddpm-cifar10", 16),
        ("unet-ddim-celeba64", 15),
        ("dit-xs", 4),
        ("dit-xl-2", 14),
    ],
)
def test_the_number_of_long_skips(preset, skips):
    long_skips = outline(preset).long_skips
    assert [where.index for where in long_skips] == list(range(1, skips + 1)) and {where.N for where in long_skips} == {
        skips
    }
    assert [where.level for where in long_skips] == sorted(where.level for where in long_skips)


@pytest.mark.parametrize("preset", [preset for preset in models.presets() if preset.startswith("unet")])
def test_group_norms_divide_every_width(preset):
    """Counted above on networks that never ran: one forward pass of each, without memory behind it."""
    config, net = models.config(preset), outline(preset)
    assert models.flops(net, (config.in_channels, config.image_size, config.image_size)) > 0


def test_flops_are_two_per_multiply_add():
    """By hand: linear layers, attention, patches and the final convolution of a U-ViT."""
    config = models.config("uvit-xs")
    tokens, width, blocks, skips = config.tokens, config.width, config.depth + 1, config.depth // 2
    linear = blocks * tokens * width * width * (3 + 1 + 8) + skips * tokens * 2 * width * width
    attention = blocks * 2 * tokens * tokens * width
    ends = 16 * 4 * width + tokens * width * 4 + 64 * 9
    assert models.flops(models.build("uvit-xs"), (1, 8, 8)) == 2 * (linear + attention + ends)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"preset": "uvit-xxs"}, "preset: 'uvit-xxs' is unknown; choose from uvit-xs, unet-xs, uvit-xs-16"),
        ({"preset": "uvit-xs", "widht": 3}, "override: 'widht' is unknown; choose from in_channels"),
        ({"preset": "uvit-xs", "image_size": 9}, "image_size: 9 does not fit uvit-xs; a multiple of 2"),
        ({"preset": "unet-xs", "image_size": 6}, "a multiple of 4"),
        ({"preset": "uvit-xs", "image_size": 8.0}, "image_size: 8.0 is out of range; a whole number"),
        ({"preset": "uvit-xs", "in_channels": 0}, "in_channels: 0 is out of range"),
        ({"preset": "uvit-xs", "out_channels": True}, "out_channels: True is out of range"),
        ({"preset": "unet-xs", "dropout": 1.5}, "dropout: 1.5 is out of range; 0 <= dropout < 1"),
        ({"preset": "unet-xs", "dropout": "a"}, "dropout: 'a' is out of range"),
        ({"preset": "unet-xs", "dropout": float("nan")}, "dropout: nan is out of range"),
        ({"preset": "uvit-xs", "method": "x"}, "method 'x' is unknown"),
    ],
)
def test_bad_builds_are_one_line(words, message):
    with pytest.raises(ValueError) as caught:
        models.build(**words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["uvit-xs", "unet-xs", "dit-xs"])
def test_overrides(preset):
    net = models.build(preset, in_channels=3, out_channels=6, image_size=16, dropout=0.2)
    x = torch.randn(2, 3, 16, 16)
    assert net(x, torch.zeros(2)).shape == (2, 6, 16, 16)
    assert {m.p for m in net.modules() if type(m).__name__ == "Dropout" and m.p} == {0.2}
    assert models.config(preset).dropout == 0 and isinstance(models.config(preset), models.Config)


def test_seeds_leave_the_global_generator_alone_and_none_uses_it():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seeded = models.build("uvit-xs", "learnable(r=4)", seeds=(5, 2))
    assert torch.equal(before, torch.get_rng_state())
    unseeded = models.build("uvit-xs", "learnable(r=4)")
    assert not torch.equal(before, torch.get_rng_state())
    assert torch.equal(seeded.pos_embed, unseeded.pos_embed)  # the backbone draws first


def test_seeded_weights_are_made_on_the_cpu_wherever_one_builds():
    here = models.build("uvit-xs", seeds=(1, 2))
    with torch.device("meta"):
        there = models.build("uvit-xs", seeds=(1, 2))
    assert all(torch.equal(a, b) for a, b in zip(here.parameters(), there.parameters(), strict=True))
