"""What both backbones use, against the formulas."""

import math

import pytest
import torch

from models.layers import attend, sinusoid


@pytest.mark.parametrize("width", [6, 7, 16, 384])
@pytest.mark.parametrize(("sine_first", "closed"), [(False, False), (True, False), (False, True), (True, True)])
def test_sinusoids_at_every_position(width, sine_first, closed):
    """A width that is odd ends in a zero."""
    half, t = width // 2, [0.0, 0.5, 999.0]
    embedded = sinusoid(torch.tensor(t), width, sine_first, closed)
    for row, time in zip(embedded, t, strict=True):
        angles = [time * 10 ** (-4 * k / (half - 1 if closed else half)) for k in range(half)]
        sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
        expected = (sines + cosines if sine_first else cosines + sines) + [0.0] * (width % 2)
        assert row.tolist() == pytest.approx(expected, abs=2e-4)


def test_attention_of_several_heads():
    """Queries of other length than keys; each head mixes its own part of the width only."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, length, 12, generator=generator) for length in (5, 7, 7))
    parts = []
    for head in range(3):
        a, b, c = (x[..., 4 * head : 4 * head + 4] for x in (q, k, v))
        parts.append((a @ b.mT / math.sqrt(4)).softmax(-1) @ c)
    assert torch.allclose(attend(q, k, v, 3), torch.cat(parts, dim=-1), atol=1e-6)
