"""Several processes of one run: torch's DDP, one process per device.

Rank 0 alone owns the folder, writes the log, evaluates and saves; every rank takes its slice of each batch.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(days=1)  # the others wait while rank 0 evaluates


def rank() -> int:
    """Of this process; 0 where there is one."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Processes of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def join(device: str) -> None:
    """Meet the other ranks, as the variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, its gradients averaged over the ranks."""
    if count() == 1:
        return model
    devices = [torch.cuda.current_device()] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def agree(losses: Tensor, leave: bool) -> tuple[list[float], bool]:
    """The means of losses (n,) over the ranks, and whether any of them was told to leave. Waits for the device."""
    if count() == 1:
        return losses.tolist(), leave
    both = torch.cat([losses, losses.new_tensor([float(leave)])])
    dist.all_reduce(both)
    *totals, leaving = both.tolist()
    return [total / count() for total in totals], leaving > 0


def gathered(rows: Tensor, size: int) -> list[Tensor]:
    """The tensors (n, ...) of all ranks, n at most `size`, in the order of the ranks; to be called on all of them."""
    if count() == 1:
        return [rows]
    lengths = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(count())]
    dist.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    padded = torch.cat([rows, rows.new_zeros((size - len(rows), *rows.shape[1:]))])
    everything = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(everything, padded)
    return [one[: int(length)] for one, length in zip(everything, lengths, strict=True)]


def of_rank_0(number: int) -> int:
    """The number that rank 0 gives here; the others wait for it."""
    given = [number]
    if count() > 1:
        dist.broadcast_object_list(given)
    return given[0]
