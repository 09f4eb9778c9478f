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


def agree(loss: Tensor, leave: bool) -> tuple[float, bool]:
    """The mean of a scalar over the ranks, and whether any of them was told to leave."""
    if count() == 1:
        return loss.item(), leave
    both = torch.stack([loss, torch.full_like(loss, float(leave))])
    dist.all_reduce(both)
    total, leaving = both.tolist()
    return total / count(), leaving > 0


def of_rank_0(number: int) -> int:
    """The number that rank 0 gives here; the others wait for it."""
    given = [number]
    if count() > 1:
        dist.broadcast_object_list(given)
    return given[0]
