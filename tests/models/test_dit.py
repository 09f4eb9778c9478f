"""DiT: what it starts from, and where it puts what."""

import math

import pytest
import torch

import models
from models.dit import DiTConfig, positions


def test_initial_weights():
    """Xavier, embeddings of 0.02, modulations, last layer and biases 0: every block starts as the identity."""
    net = DiTConfig(16, patch=2, width=64, depth=4, heads=4, classes=50).build()
    for name, parameter in net.named_parameters():
        weight = parameter.detach()
        if name == "pos_embed" or name.startswith("scaling."):
            continue
        if "adaLN" in name or name.startswith("final_layer") or name.endswith("bias"):
            assert not weight.any(), name
        elif "embedder" in name and "x_" not in name:
            assert float(weight.std()) == pytest.approx(0.02, rel=0.05), name
        else:
            flat = weight.flatten(1)
            assert float(flat.abs().max()) == pytest.approx(math.sqrt(6 / sum(flat.shape)), rel=0.02), name
    assert [name for name, weight in net.named_parameters() if not weight.requires_grad] == ["pos_embed"]
    assert not net(torch.randn(1, 3, 16, 16), torch.zeros(1), torch.tensor([50])).any()
    assert net.config.null_class == 50 and models.config("dit-xs").null_class is None


def test_positions_are_sines_and_cosines_of_column_and_row():
    """The patch in row 1, column 2 of 3 by 3, by hand."""
    found, frequencies = positions(16, 3)[0], (1, 10**-1, 10**-2, 10**-3)
    parts = [f(place * w) for place in (2, 1) for f in (math.sin, math.cos) for w in frequencies]
    assert found.shape == (9, 16) and found[5].tolist() == pytest.approx(parts, abs=1e-6)


@torch.no_grad()
def test_what_plain_and_no_skip_are():
    """plain: the blocks one after the other. no_skip: the trunk's half of each joining layer is all that acts."""
    net, x = models.build("dit-xs", "no_skip", seeds=(1, 2)), torch.randn(2, 1, 8, 8)
    for parameter in (parameter for parameter in net.parameters() if not parameter.any()):
        torch.nn.init.normal_(parameter, std=0.1)
    whole, t = net(x, torch.zeros(2)), torch.zeros(2)
    for linear in net.scaling.linears:
        linear.weight[:, 28:] = 7
    assert torch.equal(net(x, t), whole)
    for linear in net.scaling.linears:
        linear.weight[:, :28] = torch.eye(28)
        linear.bias.zero_()
    plain = models.build("dit-xs", "plain", seeds=(1, 2))
    plain.load_state_dict({key: w for key, w in net.state_dict().items() if not key.startswith("scaling.")})
    assert torch.allclose(plain(x, t), net(x, t), atol=1e-6)
