"""The extractors: small-conv measures what it should; inception says what it lacks."""

import hashlib
import time
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.transforms.functional import gaussian_blur

from bench.errors import BadInput
from bench.evaluation import features, frechet


@pytest.fixture(scope="module")
def reference(real, extractor):
    return frechet.statistics([real], extractor)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_weights_are_these_everywhere(extractor):
    """A change here changes every distance ever measured."""
    assert extractor.digest == "c826fa8ebffe9c9c4a71f98810647c50a859dbda1de50006105b76f0d132f9ca"


def test_the_filters_are_orthonormal(extractor):
    """Times sqrt(2), to the 2^-16 they are rounded to."""
    module = extractor.module
    for weight in (module.conv1, module.conv2, module.conv3):
        rows = weight.flatten(1) / 2**0.5
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-4) and not weight.requires_grad
    assert torch.equal(module.project * 2**16, (module.project * 2**16).round())


def test_it_rises_with_noise(real, reference, extractor):
    noise = torch.randn(real.shape, generator=generator())
    found = [
        frechet.distance(frechet.to_uint8(real / 127.5 - 1 + level * noise), reference, extractor)
        for level in (0, 0.05, 0.1, 0.2, 0.4, 0.8)
    ]
    assert found == sorted(found) and len(set(found)) == 6 and found[0] == pytest.approx(0, abs=1e-6)


def test_it_rises_with_blur(real, reference, extractor):
    found = [
        frechet.distance(gaussian_blur(real, 5, sigma), reference, extractor) for sigma in (0.3, 0.5, 0.7, 1.0, 1.5)
    ]
    assert found == sorted(found) and len(set(found)) == 5 and found[0] > 0


def test_it_rises_as_classes_are_lost(real, reference, extractor):
    from sklearn.datasets import load_digits

    label = torch.from_numpy(load_digits().target)
    found = [frechet.distance(real[label >= k], reference, extractor) for k in (1, 3, 5, 7)]
    assert found == sorted(found)


def test_two_halves_of_the_real_data_are_near(real, reference, extractor):
    """Under 5 % of the distance from real data to noise."""
    order = torch.randperm(len(real), generator=generator())
    halves = frechet.frechet_distance(*(frechet.statistics([real[half]], extractor) for half in order.split(899)))
    noise = torch.randint(0, 256, real.shape, generator=generator(), dtype=torch.uint8)
    assert halves < 0.05 * frechet.distance(noise, reference, extractor)


def test_grey_is_repeated_and_the_batch_does_not_matter(real, extractor):
    assert torch.equal(extractor(real[:64]), extractor(real[:64].repeat(1, 3, 1, 1)))
    assert torch.allclose(extractor(real[:64]), extractor(real[:64], batch=7), atol=1e-5)
    assert extractor(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 64)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 8, 8), "dtype torch.float32 given; uint8 expected"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), r"shape \(2, 2, 8, 8\) given"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"shape \(1, 8, 8\) given"),
        (torch.zeros(2, 1, 4, 8, dtype=torch.uint8), "H and W of at least 8 expected"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"shape \(0, 1, 8, 8\) given"),
        (np.zeros((2, 1, 8, 8), np.uint8), "ndarray given"),
    ],
)
def test_bad_images_are_one_line(extractor, images, message):
    with pytest.raises(BadInput, match=message):
        extractor(images)


def test_an_unknown_extractor_names_the_valid_ones():
    with pytest.raises(BadInput, match="extractor: 'vgg' is unknown; choose from small-conv, inception"):
        features.load("vgg")


def test_small_conv_takes_no_file_and_its_digest_can_be_asked_for(extractor, tmp_path):
    with pytest.raises(BadInput, match="small-conv has fixed weights and takes no file"):
        features.load("small-conv", tmp_path / "weights.pth")
    assert features.load("small-conv", digest=extractor.digest) is extractor
    for wrong in ("0000", ""):
        with pytest.raises(BadInput, match="extractor small-conv: its weights have sha256 c826fa8e"):
            features.load("small-conv", digest=wrong)


def test_512_images_take_little_time_on_one_thread(real, extractor):
    """Typically 7 ms; a fifth of a second would be a tenth of the time of a miniature evaluation."""
    images, times = real[:512], []
    for _ in range(3):
        before = time.perf_counter()
        extractor(images)
        times.append(time.perf_counter() - before)
    assert min(times) < 0.2


def test_a_measurement_scatters_little(real, reference, extractor):
    """Coefficient of variation between disjoint sets of 512 blurred digits, and the bias of 512 against all 1,797."""
    blurred = gaussian_blur(real, 5, 0.7)
    order = torch.randperm(len(real), generator=generator())
    found = np.array([frechet.distance(blurred[part], reference, extractor) for part in order[:1536].split(512)])
    assert found.std(ddof=1) / found.mean() < 0.05
    assert found.mean() == pytest.approx(frechet.distance(blurred, reference, extractor), rel=0.05)


def test_it_rises_as_samples_repeat_themselves(real, reference, extractor):
    """Diversity: as many images each time, of ever fewer different digits."""
    found = [
        frechet.distance(real[:n].repeat(1024 // n, 1, 1, 1), reference, extractor) for n in (1024, 512, 256, 128, 64)
    ]
    assert found == sorted(found) and len(set(found)) == 5


def test_inception_without_its_file_says_where_to_get_it_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPBENCH_INCEPTION", str(tmp_path / "none.pth"))
    file = r"weights-inception-2015-12-05-6726825d\.pth"
    message = rf"no weights file at .*none.pth; get {file} from .*torch-fidelity and set SKIPBENCH_INCEPTION"
    with pytest.raises(BadInput, match=message) as caught:
        features.load("inception")
    assert "\n" not in str(caught.value)


def test_inception_refuses_what_is_not_tensors_and_what_does_not_fit(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(BadInput, match="not a file of tensors only"):
        features.load("inception", str(tmp_path / "evil.pth"))
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(BadInput, match="does not fit"):
        features.load("inception", str(tmp_path / "other.pth"))


def test_inception_loads_weights_of_its_shape(tmp_path, real):
    """Random weights of the published shapes: the path from file to distance, without the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with (
        mock.patch(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", side_effect=RuntimeError("network")
        ),
        mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        torch.save({}, tmp_path / "none.pth")
        module = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "none.pth")
        )
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    before = torch.random.get_rng_state()
    loaded = features.load("inception", str(tmp_path / "weights.pth"))
    assert torch.equal(before, torch.random.get_rng_state())  # loading draws nothing from the global stream
    assert features.load("inception", str(tmp_path / "weights.pth"), digest=loaded.digest[:8]) is loaded
    with pytest.raises(BadInput, match=f"its weights have sha256 {loaded.digest}, expected '6726825d'"):
        features.load("inception", str(tmp_path / "weights.pth"), digest="6726825d")
    assert (loaded.dim, len(loaded.digest)) == (2048, 64) and loaded(real[:2]).shape == (2, 2048)


@pytest.fixture(scope="module")
def dinov2_file(tmp_path_factory):
    """Random weights of the shape, as timm's hub has them: position embeddings for 518 pixels."""
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    path = tmp_path_factory.mktemp("dinov2") / "model.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_dinov2_loads_weights_of_its_shape_from_a_path(dinov2_file, real, monkeypatch):
    monkeypatch.setenv("SKIPBENCH_DINOV2", str(dinov2_file))
    loaded = features.load("dinov2")
    assert loaded.digest == hashlib.sha256(dinov2_file.read_bytes()).hexdigest() and loaded.dim == 384
    x = loaded(real[:3])
    assert x.shape == (3, 384) and x.isfinite().all() and torch.allclose(x, loaded(real[:3], batch=1), atol=1e-5)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0, checkpoint_path=str(dinov2_file))
    network.set_input_size(img_size=224)
    larger = torch.nn.functional.interpolate(
        real[:3].expand(-1, 3, -1, -1) / 255, (224, 224), mode="bicubic", antialias=True
    )
    mean, std = (torch.tensor(network.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        assert torch.allclose(network.eval()((larger.clamp(0, 1) - mean) / std), x, atol=1e-4)


def test_dinov2_without_a_file_or_a_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPBENCH_DINOV2", "")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", mock.Mock(side_effect=OSError("no network")))
    with pytest.raises(BadInput, match=r"cannot be fetched .OSError.; set SKIPBENCH_DINOV2 to its model.safetensors"):
        features.load("dinov2")
    with pytest.raises(BadInput, match=r"no weights file at .*none; set SKIPBENCH_DINOV2"):
        features.load("dinov2", tmp_path / "none")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match=r"extractor dinov2: .*other.safetensors does not fit"):
        features.load("dinov2", tmp_path / "other.safetensors")
