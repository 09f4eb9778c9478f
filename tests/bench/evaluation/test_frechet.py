"""The Frechet distance: known answers, torch-fidelity's own, and a cache that is keyed by digests."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
import tqdm
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from bench.errors import BadInput
from bench.evaluation import features, frechet
from bench.evaluation.frechet import Statistics, frechet_distance, statistics
from datasets import Store


def noisy(real):
    return frechet.to_uint8(
        real / 127.5 - 1 + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    )


def test_the_distance_of_two_known_gaussians():
    """Diagonal covariances commute: |mu1 - mu2|^2 + sum (s1 - s2)^2."""
    a = Statistics(np.array([1.0, 2.0, 3.0]), np.diag([1.0, 4.0, 9.0]), 10)
    b = Statistics(np.array([1.0, 0.0, 3.0]), np.diag([4.0, 4.0, 1.0]), 10)
    assert frechet_distance(a, b) == pytest.approx(4 + 1 + 0 + 4, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12) and frechet_distance(a, b) == pytest.approx(
        frechet_distance(b, a), rel=1e-12
    )


def test_rotating_both_changes_nothing_and_a_singular_one_is_fine():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a, b = (Statistics(rng.standard_normal(5), (x := rng.standard_normal((5, 5))) @ x.T, 10) for _ in range(2))
    turned = [Statistics(q @ s.mu, q @ s.sigma @ q.T, 10) for s in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    flat = Statistics(a.mu, np.outer(a.mu, a.mu), 10)
    assert np.isfinite(frechet_distance(flat, b)) and frechet_distance(flat, b) > 0


def test_equal_to_torch_fidelity_on_the_same_features(real, extractor):
    """To 1e-6 relative; its mean is float32, so it gets float64 features here."""
    parts = [extractor(images).double() for images in (real, noisy(real))]
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(x) for x in parts), verbose=False)[
        "frechet_inception_distance"
    ]
    assert frechet_distance(*(statistics([images], extractor) for images in (real, noisy(real)))) == pytest.approx(
        theirs, rel=1e-6
    )


def test_equal_to_torch_fidelity_on_a_folder_of_pngs(real, extractor, tmp_path):
    """The same call that anyone can make on the images on disk, to 1e-3 relative."""
    for name, images in (("real", real), ("fake", noisy(real)[:512])):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(tmp_path / name / f"{i:05d}.png")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "fake"),
        input2=str(tmp_path / "real"),
        fid=True,
        cuda=False,
        verbose=False,
        cache=False,
        feature_extractor="small-conv",
        feature_layer_fid=str(features.DIMS["small-conv"]),
        batch_size=256,
        datasets_download=False,
    )
    assert frechet.distance(
        noisy(real)[:512], statistics(real.split(frechet.BATCH), extractor), extractor
    ) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)


def test_the_kernel_distance_is_the_unbiased_mmd_of_the_features_kept(real, extractor):
    """Binkowski et al. 2018, eq. 4, written out, on subsets that are the whole; near 0 between halves of the data."""
    a, b = (statistics([images[:512]], extractor) for images in (real, noisy(real)))
    x, y = a.features.astype(float), b.features.astype(float)
    kernel = lambda u, v: (u @ v.T / 64 + 1) ** 3
    pairs = 512 * 511
    inner = sum((kernel(u, u).sum() - np.trace(kernel(u, u))) / pairs for u in (x, y))
    expected = inner - 2 * kernel(x, y).mean()
    assert len(x) == 512 and frechet.kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)
    halves = [statistics([half], extractor) for half in (real[::2], real[1::2])]
    assert abs(frechet.kernel_distance(*halves)) < 0.01 * frechet.kernel_distance(a, b)


def test_a_bar_that_cannot_start_its_thread_is_not_spoken_of(real, extractor, monkeypatch, recwarn):
    monkeypatch.setattr(tqdm.tqdm, "monitor", None)
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 10)
    monkeypatch.setattr(tqdm.std, "TMonitor", lambda *_: 1 / 0)
    one = statistics([real[:128]], extractor)
    assert math.isfinite(frechet.kernel_distance(one, one)) and tqdm.tqdm.monitor_interval == 0 and not recwarn.list


def test_no_more_features_are_kept_than_the_kernel_distance_needs(real, extractor, monkeypatch):
    monkeypatch.setattr(frechet, "KEPT", 700)
    found = statistics(real.split(500), extractor)
    assert found.size == len(real) and torch.equal(torch.from_numpy(found.features), extractor(real[:700]))


def test_statistics_are_numpys_in_float64(real, extractor):
    x = extractor(real).double().numpy()
    found = statistics(real.split(frechet.BATCH), extractor)
    assert found.mu.dtype == found.sigma.dtype == np.float64
    assert np.allclose(found.mu, x.mean(0), rtol=1e-12) and np.allclose(
        found.sigma, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12
    )


def test_on_a_device_they_are_summed_up_there(real, extractor, monkeypatch):
    """torch's sums in place of numpy's, as for features that are not on a CPU: the statistics agree."""
    expected, accumulator = statistics(real.split(500), extractor), frechet.Accumulator(extractor.dim)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "numpy", lambda x: x)
        for images in real.split(500):
            accumulator.add(extractor(images))
    sums = (accumulator.shift, accumulator.total, accumulator.products)
    assert all(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in sums)
    found = accumulator.statistics()
    assert isinstance(found.mu, np.ndarray) and found.mu.dtype == found.sigma.dtype == np.float64
    assert np.allclose(found.mu, expected.mu, rtol=1e-9)
    assert np.allclose(found.sigma, expected.sigma, rtol=1e-9, atol=1e-12)


def test_as_many_samples_as_dimensions_are_too_few(real, extractor):
    with pytest.raises(BadInput, match="samples: 64 given; more than the 64 feature dimensions are needed"):
        statistics([real[:64]], extractor)


def test_the_reference_is_kept_by_digests(data, extractor, tmp_path):
    store = Store.open(data, "digits")
    made = frechet.reference(store, extractor, tmp_path)
    (path,) = (tmp_path / ".reference").iterdir()
    assert store.digest[:32] in path.name and extractor.digest[:32] in path.name
    before = path.stat().st_mtime_ns
    assert frechet.reference(store, extractor, tmp_path).digest == made.digest and path.stat().st_mtime_ns == before
    other = Store(store.path, store.manifest | {"digest": "0" * 64})
    frechet.reference(other, extractor, tmp_path)
    assert len(list((tmp_path / ".reference").iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-200]),
        lambda p: np.savez(p, mu=np.zeros(64), sigma=np.eye(64), size=3, digest="x"),
    ],
)
def test_a_damaged_reference_is_made_again(data, extractor, tmp_path, damage):
    store = Store.open(data, "digits")
    made = frechet.reference(store, extractor, tmp_path)
    damage(next((tmp_path / ".reference").iterdir()))
    assert frechet.reference(store, extractor, tmp_path).digest == made.digest


def test_a_reference_is_made_once_where_it_can_be_written(data, extractor, tmp_path, monkeypatch):
    """Of data that may only be read it is kept with the runs; of several that need it one makes it."""
    store, made, plain = Store.open(data, "digits"), [], frechet.statistics
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".reference").touch()  # no folder can be made in its place, by root neither
    monkeypatch.setattr(frechet, "statistics", lambda *words: made.append(1) or plain(*words))
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(frechet.reference, store, extractor, tmp_path / "data", tmp_path / "runs") for _ in range(4)
        ]
        assert len({call.result().digest for call in calls}) == 1 and len(made) == 1
    assert len(list((tmp_path / "runs" / ".reference").iterdir())) == 1
    (tmp_path / "data" / ".reference").unlink()
    (tmp_path / "runs" / ".reference").rename(tmp_path / "data" / ".reference")
    frechet.reference(store, extractor, tmp_path / "data", tmp_path / "runs")
    assert len(made) == 1 and not (tmp_path / "runs" / ".reference").exists()
    with pytest.raises(OSError):
        frechet.reference(store, extractor, Path("/dev/null"))


def test_a_reference_under_another_key_is_made_again(data, extractor, tmp_path):
    """Even if its file was given the name that is looked for."""
    store = Store.open(data, "digits")
    made = frechet.reference(store, extractor, tmp_path)
    (path,) = (tmp_path / ".reference").iterdir()
    other = Store(store.path, store.manifest | {"digest": "0" * 64})
    path.rename(path.with_name(path.name.replace(store.digest[:32], "0" * 32)))
    kept = next((tmp_path / ".reference").iterdir())
    before = kept.stat().st_ino
    assert frechet.reference(other, extractor, tmp_path).digest == made.digest and kept.stat().st_ino != before
    assert [p.name for p in (tmp_path / ".reference").iterdir()] == [kept.name]  # nothing partial is left


def test_many_batches_are_as_good_as_one(real, extractor, monkeypatch):
    whole = statistics(real.split(frechet.BATCH), extractor)
    monkeypatch.setattr(frechet, "BATCH", 100)
    parts = statistics(real.split(frechet.BATCH), extractor)
    assert np.allclose(parts.mu, whole.mu, rtol=1e-6) and np.allclose(parts.sigma, whole.sigma, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(100, 1, 8, 8), "dtype torch.float32"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"shape \(0, 1, 8, 8\)"),
        (torch.zeros(63, 1, 8, 8, dtype=torch.uint8), "samples: 63 given; more than the 64"),
    ],
)
def test_bad_images_are_one_line(real, extractor, images, message):
    with pytest.raises(BadInput, match=message) as caught:
        frechet.distance(images, statistics([real], extractor), extractor)
    assert "\n" not in str(caught.value)


def test_a_reference_of_another_extractor_is_one_line(real, extractor):
    with pytest.raises(BadInput, match="reference: statistics of 5 dimensions given; small-conv has 64"):
        frechet.distance(real, Statistics(np.zeros(5), np.eye(5), 10), extractor)


def test_features_that_are_not_finite_are_one_line():
    total = frechet.Accumulator(3)
    total.add(torch.full((10, 3), float("nan")))
    with pytest.raises(BadInput, match="features: not finite"):
        total.statistics()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_quantised(value):
    with pytest.raises(BadInput, match="images: 1 of 3 values are not finite"):
        frechet.to_uint8(torch.tensor([0.0, value, 1.0]))


def test_quantisation():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 1 / 127.5 - 1])
    assert frechet.to_uint8(x).tolist() == [0, 0, 128, 255, 255, 1]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(frechet.to_uint8(pixels / 127.5 - 1), pixels)
