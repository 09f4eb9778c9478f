"""The classifier of CIFAR-10: it learns, its weights are these, and it takes colour images."""

import pytest
import torch

from bench.errors import BadInput
from bench.evaluation import cifar_net, features


def drawn(count):
    """Red and green images under noise, and which they are."""
    bits = torch.Generator().manual_seed(0)
    images = torch.randint(0, 128, (count, 3, 16, 16), generator=bits, dtype=torch.uint8)
    labels = torch.randint(0, 2, (count,), generator=bits)
    images[torch.arange(count), labels] += 100
    return images, labels


def test_it_learns_what_it_is_shown(monkeypatch):
    monkeypatch.setattr(cifar_net, "HELD_OUT", 200)
    _, right = cifar_net.train(*drawn(200 + 8 * cifar_net.BATCH), epochs=1)
    assert right > 0.9


def test_its_weights_are_these_everywhere():
    """A change here changes every distance that was measured with it."""
    assert features.load("cifar-net").digest == "e25bc34335193c0b3ad06af88b3ac257596619b247e8f00bbaaf4ab19eae45aa"


def test_larger_images_are_averaged_and_the_batch_does_not_matter():
    extractor, (images, _) = features.load("cifar-net"), drawn(20)
    found = extractor(images)
    assert found.shape == (20, features.DIMS["cifar-net"]) and torch.allclose(found, extractor(images, 7), atol=1e-4)
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(found, extractor(larger), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 8, 8)])
def test_what_it_does_not_take_is_one_line(shape):
    with pytest.raises(BadInput, match=r"given; \(N, 3, H, W\), H and W of at least 16 expected"):
        features.load("cifar-net")(torch.zeros(shape, dtype=torch.uint8))
