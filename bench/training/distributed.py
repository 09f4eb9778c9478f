"""A run on several processes: torch's DDP, one process per device, started by torchrun.

    torchrun --standalone --nproc-per-node 2 -m bench.training.distributed SUITE RUN ROOT DATA WORKER

is what a worker (process id WORKER) starts for a run whose suite says `processes: 2`. Every rank draws the global batch and takes its slice;
rank 0 alone holds the folder's lock, writes the log, evaluates and saves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.launching import hold
from bench.runs import lock
from bench.runs.lock import Locked
from bench.runs.record import state

if TYPE_CHECKING:
    from bench.planning.plan import Run

PATIENCE = timedelta(days=1)  # the others wait while rank 0 evaluates


def rank() -> int:
    """Of this process; 0 where there is one."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Processes of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, its gradients averaged over the ranks."""
    if count() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None)


def mean(value: Tensor) -> Tensor:
    """The mean of a scalar over the ranks."""
    if count() > 1:
        dist.all_reduce(value)
        value = value / count()
    return value


def wait() -> None:
    """Until every rank is here."""
    if count() > 1:
        dist.barrier()


def launch(run: Run, suite: str, root: Path, data: Path) -> None:
    """Train a run on `processes` processes of this node. Locked if another process has it, RuntimeError if it fails.

    suite: a name or a path, as the worker got it.
    """
    suite = str(Path(suite).resolve()) if Path(suite).exists() else suite
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(run.spec["processes"]),
               "-m", "bench.training.distributed", suite, run.id, str(Path(root).resolve()), str(Path(data).resolve()), str(os.getpid())]
    folder = run.folder(root)
    _refuse_if_held(folder)
    with hold.held():
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate()
    if process.returncode and state(folder) != "done":  # which rank torchrun blames says nothing: the folder does
        _refuse_if_held(folder)
        raise RuntimeError(f"{' '.join(command[2:6])}: exit code {process.returncode}: {said[-2000:]}")


def _refuse_if_held(folder: Path) -> None:
    if lock.held(folder / "lock"):
        raise Locked(f"{folder}: in use by another process")


def main(suite: str, name: str, root: str, data: str, worker: str) -> None:
    """One rank of a run, which leaves with the worker that asked for it."""
    import bench
    from bench.planning import suite as suites
    from bench.planning.plan import plan
    from bench.training.trainer import Trainer, execute

    threading.Thread(target=_leave_with, args=(int(worker), lock.started(int(worker))), daemon=True).start()
    run = next(run for run in plan(suites.load(suite)) if run.id == name)
    cuda = run.spec["device"] == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    if rank() == 0:
        try:
            execute(run, Path(root), Path(data), time.time() - bench.STARTED)
        except Locked:
            os._exit(1)  # the others wait for a rank 0 that will not come: torchrun ends them
    else:
        trainer = Trainer(run, run.folder(Path(root)), Path(data))
        trainer.follow()
    dist.destroy_process_group()


def _leave_with(worker: int, born: str | None) -> None:
    """A scheduler may lose sight of processes whose first one has ended: without a worker nobody asks for this run."""
    while born is None or lock.started(worker) == born:  # None: no process table to look into
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
