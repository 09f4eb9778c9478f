"""What a device can and what it holds: dense bf16 peaks of accelerators, and the most memory that work took."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import torch

# Name, as the driver gives it or how it begins: TFLOP/s of dense bf16 with fp32 accumulation, from the vendor's data
# sheets (half of the figure "with sparsity", where only that is printed). The first that fits counts.
PEAKS = {
    "NVIDIA H100 PCIe": 756, "NVIDIA H100 NVL": 835, "NVIDIA H100": 989, "NVIDIA H200 NVL": 835, "NVIDIA H200": 989,
    "NVIDIA A100": 312, "NVIDIA A30": 165, "NVIDIA A10": 125, "NVIDIA L40S": 362, "NVIDIA L4": 121,
}  # fmt: skip
RESET = Path("/proc/self/clear_refs")  # Linux, proc(5): writing 5 sets the peak of this process to what it holds now


def peak_flops(name: str) -> float | None:
    """FLOP/s of a chip, None for one that is not in the table. A name ends where a word does: an L4 is no L40."""
    fits = (1e12 * flops for chip, flops in PEAKS.items() if name == chip or name.startswith((chip + " ", chip + "-")))
    return next(fits, None)


def restart_memory(device: str) -> None:
    """Begin to count the peak anew; where a CPU's system cannot, it stays that of the whole process so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif RESET.exists():
        ctypes.CDLL(None).malloc_trim(0)  # glibc: what earlier work freed goes back to the kernel
        RESET.write_text("5")


def peak_memory(device: str) -> int:
    """Bytes: allocated on an accelerator, resident in this process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
