"""Feature extractors, registered with torch-fidelity: uint8 images (B, 3, H, W) in, features (B, dim) out.

small-conv   for images of 8 to 64 pixels, where Inception cannot be assumed: fixed random weights, the same everywhere
inception    torch-fidelity's InceptionV3; needs its weights file
dinov2       timm's ViT-S/14 of DINOv2; its weights come from a file, else from the hub
cifar-net    a small classifier of CIFAR-10, for colour images; its weights lie beside this file

image_mean(), which no suite names, has one feature: the mean of an image over its pixels and channels.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch_fidelity
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

import models
from bench.errors import BadInput, unknown
from bench.evaluation import cifar_net
from models import checkpoints

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # as published with torch-fidelity
INCEPTION_PATH = "SKIPBENCH_INCEPTION"  # environment variable with the path of that file
DINOV2 = "timm/vit_small_patch14_dinov2.lvd142m"  # on the hub, model.safetensors
DINOV2_PATH = "SKIPBENCH_DINOV2"  # environment variable with the path of that file, or of DINOv2's own .pth
FROM_FILE = ("inception", "dinov2")
RESIZE = {
    "inception": "bilinear to 299 as in TensorFlow 1",
    "dinov2": "bicubic to 224, antialiased",
    "cifar-net": f"averaged to {cifar_net.SIZE}",
}
SIDE = 224  # pixels of the images that DINOv2 is given
# Channels and smallest side of the images that an extractor takes, if not every grey or colour image.
TAKEN = {"small-conv": ((1, 3), 8), "cifar-net": ((3,), cifar_net.SIZE)}
EVERY = ((1, 3), 1)
DIMS = {
    "small-conv": 64,
    "inception": 2048,
    "dinov2": 384,
    "cifar-net": cifar_net.DIM,
}  # of features; torch-fidelity names an extractor's layer by it


class SmallConv(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """Fixed random features of small images, three scales, 64 dimensions.

    x in [-1, 1] passes three 3x3 convolutions with random orthonormal filters (16, 32 and 32 of them), each followed by
    a ReLU and, between them, 2x2 averaging. The ReLU maps of every scale are averaged over a 2x2 grid (texture, by
    place), and the image itself over a 4x4 grid (structure); a fixed random projection brings the 368 numbers to 64.
    What it measures, and what it does not, is measured in docs/extractors.md.
    """

    def __init__(self, name: str, features_list: Sequence[str], **_: object) -> None:
        super().__init__(name, features_list)
        bits = np.random.Philox(20231026)  # the same stream on every platform and of every version
        for i, (inputs, outputs) in enumerate(((3, 16), (16, 32), (32, 32)), 1):  # sqrt(2): a ReLU drops half
            weight = orthonormal(bits, outputs, inputs * 9).view(outputs, inputs, 3, 3) * 2**0.5
            self.register_parameter(f"conv{i}", nn.Parameter(weight, requires_grad=False))
        self.project = nn.Parameter(orthonormal(bits, 64, 3 * 16 + 4 * (16 + 32 + 32)), requires_grad=False)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return ("64",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer, for every metric."""
        return "64"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 (B, 3, H, W), H and W at least 8, to float32 (B, 64)."""
        x = images.to(torch.float32) / 127.5 - 1
        parts = [F.adaptive_avg_pool2d(x, 4).flatten(1)]
        for i, weight in enumerate((self.conv1, self.conv2, self.conv3)):
            x = F.conv2d(F.avg_pool2d(x, 2) if i else x, weight, padding=1).relu()
            parts.append(2 * F.adaptive_avg_pool2d(x, 2).flatten(1))
        return (torch.cat(parts, dim=1) @ self.project.T * 4,)


class DinoV2(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """The class token of DINOv2's ViT-S/14 (Oquab et al. 2023, arXiv 2304.07193), 384 dimensions, of images brought to
    224 pixels, bicubic with antialiasing, as in Stein et al. 2023 (arXiv 2306.04675).

    torch-fidelity's own class takes no path of weights and would run code from the network; this is timm's network.
    """

    def __init__(self, name: str, features_list: Sequence[str], weights: str | Path | None = None, **_: object) -> None:
        super().__init__(name, features_list)
        network: Any = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=SIDE)
        for key in ("mean", "std"):
            value = torch.tensor(network.default_cfg[key]).view(3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        if weights:
            state: Any = checkpoints.read(Path(weights))
            network.load_state_dict(checkpoint_filter_fn(state, network))
        self.network = network

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return ("384",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer, for every metric."""
        return "384"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 (B, 3, H, W) to float32 (B, 384)."""
        x = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        return (self.network((x - self.mean) / self.std),)


class ImageMean(nn.Module):
    """The mean of an image over channels and pixels, in [-1, 1], as its one feature."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(127.5), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 (B, C, H, W) to float32 (B, 1)."""
        return (images.float().mean((1, 2, 3))[:, None] / self.scale - 1,)


for registered, extractor in {"small-conv": SmallConv, "dinov2": DinoV2, "cifar-net": cifar_net.CifarNet}.items():
    torch_fidelity.register_feature_extractor(registered, extractor)


def orthonormal(bits: np.random.Philox, rows: int, columns: int) -> Tensor:
    """Random orthonormal rows (rows <= columns).

    They are normal numbers, by Box-Muller on the raw 64-bit stream, so that no library's choice of algorithm enters,
    after Gram-Schmidt, and rounded to 2^-16, so that no BLAS shows in the bits.
    """
    u, v = (bits.random_raw(2 * rows * columns) >> np.uint64(11)).reshape(2, rows, columns) * 2.0**-53
    q, r = np.linalg.qr((np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)).T)
    return torch.from_numpy(np.rint((q * np.sign(np.diag(r))).T * 2**16) / 2**16).float().contiguous()


@dataclass(frozen=True)
class Extractor:
    """A loaded extractor. digest: sha256 of its weights. resize: what it does to the size of an image, in words."""

    name: str
    digest: str
    dim: int
    resize: str
    module: nn.Module

    @torch.inference_mode()
    def __call__(self, images: Tensor, batch: int = 256) -> Tensor:
        """Features, float32 (N, dim) on the extractor's device, of uint8 images (N, 1 or 3, H, W), grey ones as RGB."""
        check_images(images, self.name)
        device = next(self.module.parameters()).device
        parts = (part.to(device).expand(-1, 3, -1, -1) for part in torch.split(images, batch))
        return torch.cat([self.module(part)[0].float() for part in parts])


def load(name: str, weights: str | Path | None = None, device: str = "cpu", digest: str | None = None) -> Extractor:
    """The extractor `name`, loaded once per process, device and weights file.

    weights: path of the weights file, for inception and dinov2 (default: the variable SKIPBENCH_INCEPTION or
    SKIPBENCH_DINOV2). digest: the sha256 that its weights must have, or how it begins. BadInput, one line, if something
    of this does not hold. Only dinov2 without a path asks the network.
    """
    if name not in DIMS:
        raise unknown("extractor", name, tuple(DIMS))
    if name in FROM_FILE:
        path = _inception_file(weights) if name == "inception" else _dinov2_file(weights)
        found = _from_file(name, path.resolve(), path.stat().st_mtime_ns, str(device))
    elif weights is not None:
        raise BadInput(f"weights: {str(weights)!r} given; extractor {name} has fixed weights and takes no file")
    else:
        found = _fixed(name, str(device))
    if digest is not None and not (digest and found.digest.startswith(digest.lower())):
        raise BadInput(f"extractor {name}: its weights have sha256 {found.digest}, expected {digest!r}")
    return found


def image_mean(device: str = "cpu") -> Extractor:
    """The extractor of one feature, whose spread over the images says how far their mean colours lie apart."""
    return _fixed("image-mean", str(device))


@functools.cache
def _fixed(name: str, device: str) -> Extractor:
    """An extractor whose weights come with the project."""
    if name == "cifar-net":
        module: nn.Module = cifar_net.CifarNet(name, [str(cifar_net.DIM)])
    else:
        module = SmallConv(name, ["64"]).eval() if name == "small-conv" else ImageMean()
    digest, resize = models.weights_digest(module), RESIZE.get(name, "none")
    return Extractor(name, digest, DIMS.get(name, 1), resize, module.to(device))


def _inception_file(given: str | Path | None) -> Path:
    path = Path(given or os.environ.get(INCEPTION_PATH) or INCEPTION_FILE)
    if not path.is_file():
        published = f"get {INCEPTION_FILE} from the releases of toshas/torch-fidelity"
        said = f"no weights file at {path}; {published} and set {INCEPTION_PATH} to its path"
        raise BadInput(f"extractor inception: {said}")
    return path


def _dinov2_file(given: str | Path | None) -> Path:
    if path := given or os.environ.get(DINOV2_PATH):
        if not Path(path).is_file():
            raise BadInput(
                f"extractor dinov2: no weights file at {path}; set {DINOV2_PATH} to model.safetensors of {DINOV2}"
            )
        return Path(path)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(DINOV2, "model.safetensors"))
    except Exception as error:  # the hub's, the network's and the disk's own errors have no class in common
        why = f"{DINOV2} cannot be fetched ({type(error).__name__})"
        raise BadInput(f"extractor dinov2: {why}; set {DINOV2_PATH} to its model.safetensors") from None


@functools.cache
def _from_file(name: str, path: Path, changed: int, device: str) -> Extractor:
    """An extractor with the weights in a file; `changed`, its time of change, makes another file at the same path
    another one. torch-fidelity unpickles a file freely, so only one of nothing but tensors gets that far."""
    try:
        if path.suffix != ".safetensors":
            torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(f"extractor {name}: {path} is not a file of tensors only ({type(error).__name__})") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        with torch.random.fork_rng(devices=[]):  # they draw initial weights before they load the file
            if name == "inception":
                module = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=str(path))
            else:
                module = DinoV2(name, ["384"], weights=path).eval()
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise BadInput(f"extractor {name}: {path} does not fit: {str(error).splitlines()[0]}") from None
    return Extractor(name, digest, DIMS[name], RESIZE[name], module.to(device))


def check_images(images: Tensor, name: str) -> None:
    """BadInput if these are not uint8 (N, C, H, W), N at least 1, of the channels and sides that an extractor takes."""
    if not isinstance(images, Tensor):
        raise BadInput(f"images: {type(images).__name__} given; a uint8 tensor expected")
    if images.dtype != torch.uint8:
        raise BadInput(f"images: dtype {images.dtype} given; uint8 expected")
    shape = tuple(images.shape)
    if len(shape) != 4 or not shape[0] or not takes(name, shape[1:]):
        raise BadInput(f"images: shape {shape} given; (N, {taken(name)} expected")


def takes(name: str, shape: Sequence[int]) -> bool:
    """Whether an extractor takes images (C, H, W)."""
    channels, side = TAKEN.get(name, EVERY)
    return shape[0] in channels and min(shape[1:]) >= side


def taken(name: str) -> str:
    """What it takes, in words."""
    channels, side = TAKEN.get(name, EVERY)
    return f"{' or '.join(map(str, channels))}, H, W), H and W of at least {side}"
