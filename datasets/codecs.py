"""Autoencoders of latent datasets: what makes moments when a store is prepared, and images from latents afterwards.

A latent that a network sees is scale * (mean + exp(log variance / 2) * noise); `decode` takes it back to an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZE, GRID = 256, (32, 32)  # pixels per side that Stable Diffusion's autoencoder is given here, places of its latent
AUTOENCODER = "stabilityai/sd-vae-ft-ema"
BATCH = 8  # images and captions that networks see at a time; on a CPU eight images take 1.3 GB in the autoencoder
BLOCK = 2  # pixels per side that the linear autoencoder sees at a time
MISSING = "{}: the package {} is missing; install the extra with: make latent"


class Codec(Protocol):
    """From latents to images. scale: factor on a latent, so that its standard deviation is about 1."""

    scale: float

    def decode(self, latents: Tensor) -> Tensor:
        """Images, float (B, 3, H, W) nominally in [-1, 1], of scaled latents (B, C, h, w)."""


class Blocks:
    """The linear autoencoder of 2x2 blocks: latent = basis (block - mean), block = mean + basis^T latent."""

    def __init__(self, basis: np.ndarray, mean: np.ndarray, scale: float) -> None:
        self.basis, self.mean, self.scale = basis, mean, scale  # (C, 12), (12,)

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says."""
        return {"kind": "blocks", "scale": self.scale}

    def save(self, path: Path) -> None:
        """Write its weights."""
        np.save(path / "codec.npy", np.vstack([self.basis, self.mean]), allow_pickle=False)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Means of latents, unscaled, float64 (n, C, H/2, W/2) of uint8 (n, 3, H, W)."""
        n, _, height, width = images.shape
        latents: np.ndarray = (blocks(images) - self.mean) @ self.basis.T
        return latents.reshape(n, height // BLOCK, width // BLOCK, -1).transpose(0, 3, 1, 2)

    def moments(self, images: np.ndarray, spread: float) -> np.ndarray:
        """fp16 (n, 2C, H/2, W/2): means, and a log variance that is the same everywhere."""
        mean = self.encode(images)
        return np.concatenate([mean, np.full_like(mean, 2 * np.log(spread))], axis=1).astype(np.float16)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`."""
        import torch

        basis, mean = (torch.from_numpy(a).to(latents) for a in (self.basis, self.mean))
        flat = torch.einsum("bchw,cp->bphw", latents / self.scale, basis) + mean.view(1, -1, 1, 1)
        return torch.nn.functional.pixel_shuffle(flat, BLOCK)


def blocks(images: np.ndarray) -> np.ndarray:
    """2x2 blocks in [-1, 1], float64 (n * H/2 * W/2, 12), in the order that torch's pixel_shuffle puts back."""
    n, channels, height, width = images.shape
    parts = (images / 127.5 - 1).reshape(n, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * BLOCK * BLOCK)


def fit_blocks(images: np.ndarray, channels: int) -> Blocks:
    """The principal components of all blocks, rounded to 2^-12 so that no BLAS shows in the bits, signs fixed."""
    rows = blocks(images)
    mean = np.rint(rows.mean(0) * 2**12) / 2**12
    _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
    basis = vectors[:, ::-1][:, :channels].T
    signs = np.sign(np.take_along_axis(basis, abs(basis).argmax(1)[:, None], axis=1))
    basis = np.rint(basis * signs * 2**12) / 2**12
    codec = Blocks(basis, mean, 1.0)
    return Blocks(basis, mean, round(1 / float(codec.encode(images).std()), 3))


class StableDiffusion:
    """The KL autoencoder of Stable Diffusion (Rombach et al. 2022), through diffusers."""

    def __init__(self, path: Path, scale: float) -> None:
        self.module, self.scale = load_autoencoder(str(path)), scale

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`. Image by image in small batches: a 256-pixel decoder needs a gigabyte for eight."""
        import torch

        module = self.module.to(latents.device)
        return torch.cat([module.decode(part / self.scale).sample for part in torch.split(latents, 8)])


def encoder(name: str | None, device: str) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """(Stable Diffusion's autoencoder, images uint8 (n, 3, 256, 256) to moments fp16 (n, 8, 32, 32)), tried once."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: 'cuda' is not there on this machine; choose cpu")
    module = load_autoencoder(name or AUTOENCODER).to(device)

    @torch.inference_mode()
    def encode(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images)
        parts = [module.encode(part.to(device).float() / 127.5 - 1).latent_dist for part in torch.split(pixels, BATCH)]
        return torch.cat([torch.cat([part.mean, part.logvar], dim=1).half().cpu() for part in parts]).numpy()

    attempt("--autoencoder", lambda: encode(np.zeros((1, 3, SIZE, SIZE), np.uint8)), (8, *GRID))
    return module, encode


def attempt(option: str, encode: Callable[[], np.ndarray], shape: tuple[int, ...]) -> None:
    """Run a network once before hours of work; ValueError, one line, if it is not of the kind that is needed."""
    try:
        found = encode()
    except Exception as error:  # a network of another kind raises what it likes
        raise ValueError(f"{option}: the network is of another kind ({line(error)})") from None
    if found.shape[1:] != shape:
        expected = f"expected {shape}; is it the one that the dataset is made with?"
        raise ValueError(f"{option}: the network gives {found.shape[1:]}, {expected}")
    if not np.isfinite(found).all():
        raise ValueError(f"{option}: the network gives values that are not finite")


def facts(scale: float, reference: int) -> dict[str, Any]:
    """What the manifest of a store of its latents says: the codec, and how many reference images there are."""
    codec = {"kind": "stable-diffusion", "scale": scale}
    return {"codec": codec, "reference": {"array": "reference", "count": reference}}


def load_autoencoder(name: str) -> Any:
    """diffusers' AutoencoderKL from a folder or a hub name; ValueError, one line, if that fails."""
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise ValueError(MISSING.format("--autoencoder", "diffusers")) from None
    try:
        options = {"use_safetensors": True, "low_cpu_mem_usage": False, "output_loading_info": True}
        module, found = AutoencoderKL.from_pretrained(name, **options)
    except loading_errors() as error:
        raise ValueError(f"--autoencoder: {name!r} cannot be loaded ({line(error)})") from None
    check_whole("--autoencoder", name, found)
    return module.eval().requires_grad_(False)


def loading_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for a network that is not there, damaged or of another shape."""
    from safetensors import SafetensorError

    return (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError)


def check_whole(option: str, name: str, found: dict[str, Any]) -> None:
    """ValueError, one line, if a file holds weights for a part of its network only: the rest would be random."""
    if missing := sorted(found["missing_keys"]):
        first = f"{missing[0]} ({len(missing):,} such)"
        raise ValueError(f"{option}: {name!r} has no weights for {first}; they are of another network")


def digest(module: nn.Module, *more: object) -> str:
    """Of a network as it computes: its configuration and its weights, wherever they came from."""
    import torch

    config: Any = module.config
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    told = {key: value for key, value in config.items() if key[0] != "_" and key != "transformers_version"}
    found = hashlib.sha256(repr((sorted(told.items()), more)).encode())
    for key, tensor in module.state_dict().items():
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def line(error: Exception) -> str:
    """What a library's error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def load(path: Path, facts: dict[str, Any]) -> Codec:
    """The codec that a store was prepared with."""
    if facts["kind"] == "blocks":
        kept = np.load(path / "codec.npy", allow_pickle=False)
        return Blocks(kept[:-1], kept[-1], facts["scale"])
    return StableDiffusion(path / "autoencoder", facts["scale"])
