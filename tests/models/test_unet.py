"""The convolutional UNet: where its long skips are, its initial weights, and what the two families differ in."""

import pytest
import torch

import models
from models.scaling import Scaling
from models.unet import AttentionBlock, Downsample, ResBlock, UNet, UNetConfig, Upsample
from models.zoo import DDIM


def outline(preset):
    with torch.device("meta"):
        return models.build(preset)


@pytest.mark.parametrize(
    ("preset", "levels", "channels", "trunks"),
    [
        ("unet-iddpm-cifar10", [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4, [128] * 5 + [256] * 11, [128] * 3 + [256] * 13),
        (
            "unet-ddim-celeba64",
            [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3,
            [128] * 4 + [256] * 9 + [512] * 2,
            [128] * 2 + [256] * 9 + [512] * 4,
        ),
        ("unet-xs", [1, 1, 2, 2, 3, 3], [16] * 6, [16] * 6),
    ],
)
def test_where_the_long_skips_are(preset, levels, channels, trunks):
    """Shallowest first: the first convolution, then every stage and every downsampling at the resolution it leaves."""
    long_skips = outline(preset).long_skips
    assert [where.level for where in long_skips] == levels and [where.channels for where in long_skips] == channels
    assert [where.trunk for where in long_skips] == trunks
    assert {(where.N, where.levels, where.tokens) for where in long_skips} == {(len(levels), levels[-1], None)}


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder"),
    [
        ("unet-iddpm-cifar10", 6, 8),
        ("unet-ddim-celeba64", 2, 3),
        ("unet-coco256", 4, 6),
        ("unet-xs", 1, 2),
    ],
)
def test_attention_is_where_it_is_asked_for_and_in_the_middle(preset, encoder, decoder):
    net = outline(preset)
    counts = [sum(isinstance(m, AttentionBlock) for m in part.modules()) for part in (net.down, net.up)]
    assert counts == [encoder, decoder] and net.mid1.attn is not None and net.mid2.attn is None


def test_the_last_layers_start_at_zero_in_improved_diffusion_and_not_in_ddim():
    shape = {"channels": 8, "mult": (1, 2), "blocks": 1, "attention": (4,), "groups": 4}
    x, t = torch.randn(2, 3, 8, 8), torch.zeros(2)
    zero, other = UNet(UNetConfig(8, **shape)), UNet(UNetConfig(8, **shape, **DDIM))
    assert not zero(x, t).any() and other(x, t).any()
    for module in zero.modules():
        if isinstance(module, ResBlock):
            assert not module.conv2.weight.any() and module.conv1.weight.any()
        if isinstance(module, AttentionBlock):
            assert not module.proj.weight.any() and module.qkv.weight.any()


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_downsampling_pads_on_all_sides_or_right_and_bottom(padded):
    layer, x = Downsample(2, padded), torch.randn(1, 2, 6, 6)
    pass_through(layer.conv)  # takes the centre of its window
    assert torch.equal(layer(x), x[..., 1::2, 1::2] if padded else x[..., ::2, ::2])


@torch.no_grad()
def test_upsampling_repeats_the_nearest():
    layer, x = Upsample(2), torch.randn(1, 2, 3, 3)
    pass_through(layer.conv)
    assert torch.equal(layer(x), x.repeat_interleave(2, -1).repeat_interleave(2, -2))


def pass_through(conv):
    conv.weight.zero_()
    conv.weight[:, :, 1, 1] = torch.eye(2)
    conv.bias.zero_()


@torch.no_grad()
def test_text_joins_as_further_keys_and_values():
    """Every token counts, their order does not."""
    config = UNetConfig(8, channels=8, mult=(1,), blocks=1, attention=(8,), groups=4, context=(3, 5))
    block, scaling = AttentionBlock(config, 8), Scaling([])
    x, text = torch.randn(1, 8, 4, 4), torch.randn(1, 3, 5)
    mixed = block(x, scaling, text)
    assert mixed.shape == x.shape
    assert torch.allclose(mixed, block(x, scaling, text.flip(1)), atol=1e-6)
    assert not torch.allclose(mixed, block(x, scaling, text[:, :2]), atol=1e-6)
