"""The most memory that a piece of work held: of the accelerator, or of this process."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import torch


def restart(device: str) -> None:
    """Begin to count anew; on a CPU freed memory goes back to the system first, as far as that is possible here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform.startswith("linux"):
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak is what is held now
        except OSError:
            pass  # not everywhere; then the peak is that of the whole process so far


def peak(device: str) -> int:
    """Bytes: allocated on an accelerator, resident in this process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
