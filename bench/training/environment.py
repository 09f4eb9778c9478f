"""What the `start` event says of a run: the network, the data, the machine and the versions it was made with."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import models
from bench.launching import snapshot
from datasets import Store
from models import theory

if TYPE_CHECKING:
    from bench.evaluation.evaluator import Evaluator
    from bench.planning.plan import Run

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "timm", "torch-fidelity")


def describe(spec: dict, run: Run, model: nn.Module, store: Store, evaluator: Evaluator) -> dict:
    """The fields of a `start` event."""
    total = sum(p.numel() for p in model.parameters())
    method = sum(p.numel() for p in model.scaling.parameters())
    return {
        "run": run.id, "hash": run.hash, "protocol": spec["protocol"],
        "params": total, "backbone_params": total - method, "method_params": method,
        "flops": models.flops(model, store.shape), "skips": len(model.wheres), "kappas": theory.factors(model.scaling),
        "init_digest": backbone_digest(model),
        "data_digest": store.digest, "data_images": store.count, "data_partial": store.partial, "reference_digest": evaluator.reference.digest,
        "reference_size": evaluator.reference.size, "extractor": evaluator.extractor.name,
        "extractor_digest": evaluator.extractor.digest, "resize": evaluator.extractor.resize,
        "device": spec["device"], "device_name": device_name(spec["device"]), "host": socket.gethostname(),
        "cpu_count": os.cpu_count(), "versions": versions(), "code": snapshot.digest(),
        "git": git_state(),
    }


def backbone_digest(model: nn.Module) -> str:
    """sha256 of all weights and buffers but the method's, by name and bytes: what the arms of a pair must share."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("scaling."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of what computes."""
    return {"python": platform.python_version()} | {name.replace("-", "_"): metadata.version(name) for name in PACKAGES}


def device_name(kind: str) -> str:
    """The processor's or the accelerator's own name."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def git_state() -> dict:
    """Commit and whether the tree differs from it; None where this is no checkout. A snapshot says what it was taken from."""
    if recorded := snapshot.recorded_git():
        return recorded
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
