"""Dense bf16 peaks of accelerators, to say what share of its chip a training step uses."""

from __future__ import annotations

# Name, as the driver gives it or how it begins: TFLOP/s of dense bf16 with fp32 accumulation, from the vendor's data
# sheets (half of the figure "with sparsity", where only that is printed). The first that fits counts.
PEAKS = {
    "NVIDIA H100 PCIe": 756, "NVIDIA H100 NVL": 835, "NVIDIA H100": 989, "NVIDIA H200 NVL": 835, "NVIDIA H200": 989,
    "NVIDIA A100": 312, "NVIDIA A30": 165, "NVIDIA A10": 125, "NVIDIA L40S": 362, "NVIDIA L4": 121,
}
TRAINING = 3  # a backward pass costs two forward passes


def peak(name: str) -> float | None:
    """FLOP/s of a chip, None for one that is not in the table. A name ends where a word does: an L4 is no L40."""
    return next((1e12 * teraflops for chip, teraflops in PEAKS.items() if name == chip or name.startswith((chip + " ", chip + "-"))), None)


def share(forward: int, images_per_second: float, name: str) -> float | None:
    """The share of the chip's peak that training at this speed uses; forward: FLOPs of one image. None for an unknown chip."""
    found = peak(name)
    return None if found is None else TRAINING * forward * images_per_second / found
