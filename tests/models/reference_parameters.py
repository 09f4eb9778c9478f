"""Parameters of a reference network by their original names, made when they are first asked for."""

from __future__ import annotations

import torch
from torch import Tensor


class Parameters(dict[str, Tensor]):
    """p("conv.weight", 8, 3, 3, 3) is the tensor of that name and shape; running a reference fills the dict."""

    def __init__(self, seed: int = 0, device: str = "cpu") -> None:
        super().__init__()
        self.device, self.generator = device, torch.Generator().manual_seed(seed)

    def __call__(self, name: str, *shape: int) -> Tensor:
        if name not in self:
            self[name] = torch.empty(shape, device="meta") if self.device == "meta" else self._draw(name, shape)
        assert self[name].shape == shape, name
        return self[name]

    def _draw(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Of a size that keeps features near 1 through many layers; no parameter at its neutral value."""
        noise = torch.randn(shape, generator=self.generator)
        if len(shape) > 1:
            return noise / noise[0].numel() ** 0.5
        return 0.2 * noise + (1 if name.endswith("weight") else 0)

    def linear(self, name: str, x: Tensor, outputs: int, bias: bool = True) -> Tensor:
        """W x + b over the last axis."""
        y = x @ self(f"{name}.weight", outputs, x.shape[-1]).T
        return y + self(f"{name}.bias", outputs) if bias else y


def distance(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|a|."""
    assert a.shape == b.shape
    return float((a - b).abs().max() / a.abs().max())
