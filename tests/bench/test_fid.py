"""The Frechet distance: known answers, torch-fidelity's own, and a cache that is keyed by digests."""

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from bench import features, fid
from bench.errors import BadInput
from bench.fid import Statistics, frechet
from datasets import Store


@pytest.fixture(scope="module")
def extractor():
    return features.load("small-conv")


@pytest.fixture(scope="module")
def real(data):
    return torch.from_numpy(np.array(Store.open(data, "digits").images))


def noisy(real):
    return fid.to_uint8(real / 127.5 - 1 + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0)))


def test_the_distance_of_two_known_gaussians():
    """Diagonal covariances commute: |mu1 - mu2|^2 + sum (s1 - s2)^2."""
    a = Statistics(np.array([1.0, 2.0, 3.0]), np.diag([1.0, 4.0, 9.0]), 10)
    b = Statistics(np.array([1.0, 0.0, 3.0]), np.diag([4.0, 4.0, 1.0]), 10)
    assert frechet(a, b) == pytest.approx(4 + 1 + 0 + 4, rel=1e-12)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12) and frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)


def test_rotating_both_changes_nothing_and_a_singular_one_is_fine():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a, b = (Statistics(rng.standard_normal(5), (x := rng.standard_normal((5, 5))) @ x.T, 10) for _ in range(2))
    turned = [Statistics(q @ s.mu, q @ s.sigma @ q.T, 10) for s in (a, b)]
    assert frechet(*turned) == pytest.approx(frechet(a, b), rel=1e-9)
    flat = Statistics(a.mu, np.outer(a.mu, a.mu), 10)
    assert np.isfinite(frechet(flat, b)) and frechet(flat, b) > 0


def test_equal_to_torch_fidelity_on_the_same_features(real, extractor):
    """To 1e-6 relative; its mean is float32, so it gets float64 features here."""
    parts = [extractor(images).double() for images in (real, noisy(real))]
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(x) for x in parts), verbose=False)["frechet_inception_distance"]
    assert frechet(*(fid.statistics(images, extractor) for images in (real, noisy(real)))) == pytest.approx(theirs, rel=1e-6)


def test_equal_to_torch_fidelity_on_a_folder_of_pngs(real, extractor, tmp_path):
    """The same call that anyone can make on the images on disk, to 1e-3 relative."""
    for name, images in (("real", real), ("fake", noisy(real)[:512])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(tmp_path / name / f"{i:05d}.png")
    theirs = torch_fidelity.calculate_metrics(input1=str(tmp_path / "fake"), input2=str(tmp_path / "real"), fid=True, cuda=False, verbose=False, cache=False,
                                              feature_extractor="small-conv", feature_layer_fid=str(features.DIM), batch_size=256, datasets_download=False)
    assert fid.distance(noisy(real)[:512], fid.statistics(real, extractor), extractor) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)


def test_statistics_are_numpys_in_float64(real, extractor):
    x = extractor(real).double().numpy()
    found = fid.statistics(real, extractor)
    assert found.mu.dtype == found.sigma.dtype == np.float64
    assert np.allclose(found.mu, x.mean(0), rtol=1e-12) and np.allclose(found.sigma, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)


def test_as_many_samples_as_dimensions_are_too_few(real, extractor):
    with pytest.raises(BadInput, match="samples: 64 given; more than the 64 feature dimensions are needed"):
        fid.statistics(real[:64], extractor)


def test_the_reference_is_kept_by_digests(data, extractor, tmp_path):
    store = Store.open(data, "digits")
    made = fid.reference(store, extractor, tmp_path)
    (path,) = (tmp_path / ".reference").iterdir()
    assert store.digest[:32] in path.name and extractor.digest[:32] in path.name
    before = path.stat().st_mtime_ns
    assert fid.reference(store, extractor, tmp_path).digest == made.digest and path.stat().st_mtime_ns == before
    other = Store(store.path, store.manifest | {"digest": "0" * 64})
    fid.reference(other, extractor, tmp_path)
    assert len(list((tmp_path / ".reference").iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:-200]),
                                    lambda p: np.savez(p, mu=np.zeros(64), sigma=np.eye(64), size=3, digest="x")])
def test_a_damaged_reference_is_made_again(data, extractor, tmp_path, damage):
    store = Store.open(data, "digits")
    made = fid.reference(store, extractor, tmp_path)
    damage(next((tmp_path / ".reference").iterdir()))
    assert fid.reference(store, extractor, tmp_path).digest == made.digest


def test_quantisation():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 1 / 127.5 - 1])
    assert fid.to_uint8(x).tolist() == [0, 0, 128, 255, 255, 1]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(fid.to_uint8(pixels / 127.5 - 1), pixels)
