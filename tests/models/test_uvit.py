"""U-ViT: its tokens, its initial weights, and the small parts."""

import pytest
import torch

import models
from models.layers import unpatchify
from models.uvit import UViT, UViTConfig


@pytest.mark.parametrize(
    ("preset", "tokens"),
    [
        ("uvit-xs", 17),
        ("uvit-s-2", 257),
        ("uvit-s-4", 257),
        ("uvit-m-4", 258),
        ("uvit-l-4", 258),
        ("uvit-s-2-t2i", 334),
    ],
)
def test_every_token_is_counted(preset, tokens):
    """The time token, the class token and the text too."""
    config = models.config(preset)
    patches = (config.image_size // config.patch) ** 2
    assert config.tokens == tokens
    assert {(where.tokens, where.gated, where.patches) for where in config.long_skips()} == {(tokens, tokens, patches)}


@torch.no_grad()
@pytest.mark.parametrize(
    ("words", "condition", "time"),
    [
        ({}, None, 0),
        ({"classes": 5}, torch.tensor([3]), 1),
        ({"context": (7, 12)}, torch.ones(1, 7, 12), 0),
    ],
)
def test_the_order_of_tokens(words, condition, time):
    """[label if any, time, patches], or [time, text, patches]."""
    net = UViT(UViTConfig(8, patch=2, width=16, depth=2, heads=2, **words))
    net.pos_embed.zero_()
    x = torch.randn(1, 3, 8, 8)
    tokens = net._tokens(x, torch.tensor([0.0]), condition)[0]
    assert torch.equal(tokens[time], torch.cat([torch.ones(8), torch.zeros(8)]))
    assert torch.equal(tokens[-16:], net.patch_embed(x)[0])
    if "classes" in words:
        assert torch.equal(tokens[0], net.label_emb.weight[3])
    if "context" in words:
        assert torch.equal(tokens[1:8], net.context_embed(condition)[0])


def test_unpatchify_undoes_the_cut_into_patches():
    image = torch.arange(2 * 3 * 6 * 6.0).reshape(2, 3, 6, 6)
    patches = [image[:, :, i : i + 2, j : j + 2].permute(0, 2, 3, 1).flatten(1) for i in (0, 2, 4) for j in (0, 2, 4)]
    assert torch.equal(unpatchify(torch.stack(patches, dim=1), patch=2, size=6), image)


def test_a_narrow_network_starts_with_layers_that_put_out_as_much_as_the_published_ones():
    for preset in ("uvit-xs", "uvit-xs-16", "uvit-xs-class", "uvit-xs-t2i", "uvit-xs-d24"):
        weight = models.build(preset).in_blocks[0].mlp.fc1.weight.detach()
        assert float(weight.std() * weight.shape[1] ** 0.5) == pytest.approx(0.02 * 512**0.5, rel=0.05), preset
    weight = models.build("uvit-s-2").in_blocks[0].mlp.fc1.weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.05)


def test_initial_weights():
    """Linear layers and positions from a truncated normal of 0.02, biases zero, norms one: no layer starts at zero."""
    net = UViT(UViTConfig(16, patch=2, width=128, depth=4, heads=4))
    linear = (".qkv.weight", "attn.proj.weight", "fc1.weight", "fc2.weight", "skip_linear.weight", "pos_embed")
    for name, parameter in net.named_parameters():
        if name.endswith(linear):
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.05), name
            assert float(parameter.detach().abs().max()) < 0.12
        elif ".norm" in name or name.startswith("norm"):
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name
        elif name.endswith("bias") and "patch_embed" not in name and "final_layer" not in name:
            assert not parameter.any(), name
    assert net(torch.randn(1, 3, 16, 16), torch.zeros(1)).any()
