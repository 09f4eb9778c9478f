"""The extractors: small-conv measures what it should; inception says what it lacks."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from bench import features, fid
from bench.errors import BadInput
from datasets import Store


@pytest.fixture(scope="module")
def extractor():
    return features.load("small-conv")


@pytest.fixture(scope="module")
def real(data):
    return torch.from_numpy(np.array(Store.open(data, "digits").images))


@pytest.fixture(scope="module")
def reference(real, extractor):
    return fid.statistics(real, extractor)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_weights_are_these_everywhere(extractor):
    """A change here changes every distance ever measured."""
    assert extractor.digest == "c826fa8ebffe9c9c4a71f98810647c50a859dbda1de50006105b76f0d132f9ca"


def test_it_rises_with_noise(real, reference, extractor):
    noise = torch.randn(real.shape, generator=generator())
    found = [fid.distance(fid.to_uint8(real / 127.5 - 1 + level * noise), reference, extractor) for level in (0, 0.05, 0.1, 0.2, 0.4, 0.8)]
    assert found == sorted(found) and len(set(found)) == 6 and found[0] == pytest.approx(0, abs=1e-6)


def test_it_rises_with_blur(real, reference, extractor):
    found = [fid.distance(gaussian_blur(real, 5, sigma), reference, extractor) for sigma in (0.3, 0.5, 0.7, 1.0, 1.5)]
    assert found == sorted(found) and len(set(found)) == 5 and found[0] > 0


def test_it_rises_as_classes_are_lost(real, reference, extractor):
    from sklearn.datasets import load_digits

    label = torch.from_numpy(load_digits().target)
    found = [fid.distance(real[label >= k], reference, extractor) for k in (1, 3, 5, 7)]
    assert found == sorted(found)


def test_two_halves_of_the_real_data_are_near(real, reference, extractor):
    """Under 5 % of the distance from real data to noise."""
    order = torch.randperm(len(real), generator=generator())
    halves = fid.frechet(*(fid.statistics(real[half], extractor) for half in order.split(899)))
    noise = torch.randint(0, 256, real.shape, generator=generator(), dtype=torch.uint8)
    assert halves < 0.05 * fid.distance(noise, reference, extractor)


def test_grey_is_repeated_and_the_batch_does_not_matter(real, extractor):
    assert torch.equal(extractor(real[:64]), extractor(real[:64].repeat(1, 3, 1, 1)))
    assert torch.allclose(extractor(real[:64]), extractor(real[:64], batch=7), atol=1e-5)
    assert extractor(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 64)


@pytest.mark.parametrize(("images", "message"), [
    (torch.zeros(2, 1, 8, 8), "dtype torch.float32 given; uint8 expected"), (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), r"shape \(2, 2, 8, 8\) given"),
    (torch.zeros(1, 8, 8, dtype=torch.uint8), r"shape \(1, 8, 8\) given"), (torch.zeros(2, 1, 4, 8, dtype=torch.uint8), "at least 8 expected"),
])
def test_bad_images_are_one_line(extractor, images, message):
    with pytest.raises(BadInput, match=message):
        extractor(images)


def test_an_unknown_extractor_names_the_valid_ones():
    with pytest.raises(BadInput, match="extractor: 'vgg' is unknown; choose from small-conv, inception"):
        features.load("vgg")


def test_inception_without_its_file_says_where_to_get_it_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPBENCH_INCEPTION", str(tmp_path / "none.pth"))
    with pytest.raises(BadInput, match=r"no weights file at .*none.pth; get weights-inception-2015-12-05-6726825d.pth from .*torch-fidelity and set SKIPBENCH_INCEPTION") as caught:
        features.load.__wrapped__("inception")
    assert "\n" not in str(caught.value)


def test_inception_refuses_what_is_not_tensors_and_what_does_not_fit(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(BadInput, match="not a file of tensors only"):
        features.load.__wrapped__("inception", str(tmp_path / "evil.pth"))
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(BadInput, match="does not fit"):
        features.load.__wrapped__("inception", str(tmp_path / "other.pth"))


def test_inception_loads_weights_of_its_shape(tmp_path, real):
    """Random weights of the published shapes: the path from file to distance, without the published file."""
    from unittest import mock

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with mock.patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", side_effect=RuntimeError("network")), \
            mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        torch.save({}, tmp_path / "none.pth")
        module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "none.pth"))
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    loaded = features.load.__wrapped__("inception", str(tmp_path / "weights.pth"))
    assert (loaded.dim, len(loaded.digest)) == (2048, 64) and loaded(real[:2]).shape == (2, 2048)
