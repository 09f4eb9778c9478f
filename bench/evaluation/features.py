"""Feature extractors, registered with torch-fidelity: uint8 images (B, 3, H, W) in, features (B, dim) out.

small-conv   for images of 8 to 64 pixels, where Inception cannot be assumed: fixed random weights, the same everywhere
inception    torch-fidelity's InceptionV3; needs its weights file
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from bench.errors import BadInput, unknown

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # as published with torch-fidelity
INCEPTION_PATH = "SKIPBENCH_INCEPTION"  # environment variable with the path of that file
DIM = 64  # of small-conv


class SmallConv(FeatureExtractorBase):
    """Fixed random features of small images, three scales, 64 dimensions.

    x in [-1, 1] passes three 3x3 convolutions with random orthonormal filters (16, 32 and 32 of them), each followed by
    a ReLU and, between them, 2x2 averaging. The ReLU maps of every scale are averaged over a 2x2 grid (texture, by
    place), and the image itself over a 4x4 grid (structure); a fixed random projection brings the 368 numbers to 64.
    What it measures, and what it does not, is measured in docs/extractors.md.
    """

    def __init__(self, name: str, features_list: Sequence[str], **_: object) -> None:
        super().__init__(name, features_list)
        draw = Drawer(20231026)
        self.conv1 = nn.Parameter(draw.filters(16, 3))
        self.conv2 = nn.Parameter(draw.filters(32, 16))
        self.conv3 = nn.Parameter(draw.filters(32, 32))
        self.project = nn.Parameter(draw.orthonormal(DIM, 3 * 16 + 4 * (16 + 32 + 32)))
        self.requires_grad_(False)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer."""
        return (str(DIM),)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The one layer, for every metric."""
        return str(DIM)

    @staticmethod
    def can_be_compiled() -> bool:
        """Not worth it."""
        return False

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 (B, 3, H, W), H and W at least 8, to float32 (B, 64)."""
        x = images.to(torch.float32) / 127.5 - 1
        parts = [F.adaptive_avg_pool2d(x, 4).flatten(1)]
        for i, weight in enumerate((self.conv1, self.conv2, self.conv3)):
            x = F.conv2d(F.avg_pool2d(x, 2) if i else x, weight, padding=1).relu()
            parts.append(2 * F.adaptive_avg_pool2d(x, 2).flatten(1))
        return (torch.cat(parts, dim=1) @ self.project.T * 4,)


class Drawer:
    """Fixed weights from numpy's Philox, whose stream is the same on every platform and version."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.Philox(seed)

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal float64 by Box-Muller on the raw 64-bit stream: no library's choice of algorithm enters."""
        count = int(np.prod(shape))
        u = (self.bits.random_raw(2 * count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (np.sqrt(-2 * np.log1p(-u[:count])) * np.cos(2 * np.pi * u[count:])).reshape(shape)

    def orthonormal(self, rows: int, columns: int) -> Tensor:
        """Orthonormal rows (rows <= columns), rounded to 2^-16 so that no BLAS shows in the bits."""
        basis: list[np.ndarray] = []
        for row in self.normal(rows, columns):
            for _ in range(2):  # Gram-Schmidt, twice for accuracy
                for other in basis:
                    row = row - other * float((other * row).sum())
            basis.append(row / float(np.sqrt((row * row).sum())))
        return torch.from_numpy((np.rint(np.stack(basis) * 2**16) / 2**16).astype(np.float32))

    def filters(self, outputs: int, inputs: int) -> Tensor:
        """3x3 filters (outputs, inputs, 3, 3), orthonormal, times sqrt(2) for the half that a ReLU drops."""
        return self.orthonormal(outputs, inputs * 9).view(outputs, inputs, 3, 3) * 2**0.5


torch_fidelity.register_feature_extractor("small-conv", SmallConv)


@dataclass(frozen=True)
class Extractor:
    """A loaded extractor. digest: sha256 of its weights. resize: what it does to the size of an image, in words."""

    name: str
    digest: str
    dim: int
    resize: str
    layer: str
    fidelity_name: str  # under which torch-fidelity knows it
    module: FeatureExtractorBase
    minimum: int  # smallest image side
    weights: str | None = None  # path of the weights file, where there is one

    @torch.inference_mode()
    def __call__(self, images: Tensor, batch: int = 256) -> Tensor:
        """Features, float32 (N, dim) on the extractor's device, of uint8 images (N, 1 or 3, H, W); grey is repeated to 3 channels."""
        check_images(images, self.minimum)
        device = next(self.module.parameters()).device
        parts = (part.to(device).expand(-1, 3, -1, -1) for part in images.split(batch))
        return torch.cat([self.module(part)[0].float() for part in parts])


DIMS = {"small-conv": DIM, "inception": 2048}


def names() -> tuple[str, ...]:
    """The extractors there are."""
    return tuple(DIMS)


def load(name: str, weights: str | Path | None = None, device: str = "cpu", digest: str | None = None) -> Extractor:
    """The extractor `name`, loaded once per process, device and weights file.

    weights: path of the weights file, for inception (default: the variable SKIPBENCH_INCEPTION). digest: the sha256
    that its weights must have, or how it begins. BadInput, one line, if something of this does not hold; no network.
    """
    if name not in DIMS:
        raise unknown("extractor", name, names())
    if name == "inception":
        path = Path(weights or os.environ.get(INCEPTION_PATH) or INCEPTION_FILE)
        if not path.is_file():
            raise BadInput(f"extractor inception: no weights file at {path}; get {INCEPTION_FILE} from the releases of "
                           f"toshas/torch-fidelity and set {INCEPTION_PATH} to its path")
        found = _inception(path.resolve(), path.stat().st_mtime_ns, str(device))
    elif weights is not None:
        raise BadInput(f"weights: {str(weights)!r} given; extractor {name} has fixed weights and takes no file")
    else:
        found = _small_conv(str(device))
    if digest is not None and not (digest and found.digest.startswith(digest.lower())):
        raise BadInput(f"extractor {name}: its weights have sha256 {found.digest}, expected {digest!r}")
    return found


@functools.cache
def _small_conv(device: str) -> Extractor:
    module = SmallConv("small-conv", [str(DIM)]).eval()
    digest = weights_digest(module)
    return Extractor("small-conv", digest, DIM, "none", str(DIM), "small-conv", module.to(device), minimum=8)


@functools.cache
def _inception(path: Path, changed: int, device: str) -> Extractor:
    """InceptionV3 from a local file; `changed`, its time of change, makes another file at the same path another one.

    torch-fidelity unpickles the file freely, so only a file of nothing but tensors gets that far.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(f"extractor inception: {path} is not a file of tensors only ({type(error).__name__})") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        with torch.random.fork_rng(devices=[]):  # it draws initial weights before it loads the file
            module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"],
                                                 feature_extractor_weights_path=str(path))
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"extractor inception: {path} does not fit: {str(error).splitlines()[0]}") from None
    return Extractor("inception", digest, DIMS["inception"], "bilinear to 299 as in TensorFlow 1", "2048",
                     "inception-v3-compat", module.to(device), minimum=1, weights=str(path))


def weights_digest(module: nn.Module) -> str:
    """sha256 over the names and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_images(images: Tensor, minimum: int) -> None:
    """BadInput if these are not uint8 (N, 1 or 3, H, W), N at least 1, of at least `minimum` pixels a side."""
    if not isinstance(images, Tensor):
        raise BadInput(f"images: {type(images).__name__} given; a uint8 tensor expected")
    if images.dtype != torch.uint8:
        raise BadInput(f"images: dtype {images.dtype} given; uint8 expected")
    if images.ndim != 4 or not len(images) or images.shape[1] not in (1, 3) or min(images.shape[2:]) < minimum:
        raise BadInput(f"images: shape {tuple(images.shape)} given; "
                       f"(N, 1 or 3, H, W) with H and W of at least {minimum} expected")
