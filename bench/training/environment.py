"""What the `start` event says of a run: the network, the data, the machine and the versions it was made with."""

from __future__ import annotations

import os
import platform
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import models
from bench.evaluation.evaluator import Evaluator
from bench.runs import source_code
from bench.runs.run_spec import Run
from datasets import Store
from models import theory

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "timm", "torch-fidelity")


def describe(run: Run, model: models.Backbone, store: Store, evaluator: Evaluator) -> dict[str, Any]:
    """The fields of a `start` event."""
    (extractor, *beside, _), (reference, *_, means) = evaluator.extractors, evaluator.references
    method, total = (sum(weight.numel() for weight in part.parameters()) for part in (model.scaling, model))
    fields = {"run": run.id, "hash": run.spec.hash, "protocol": run.config["protocol"]}
    fields |= {"params": total, "backbone_params": total - method, "method_params": method}
    fields |= {"flops": models.flops(model, store.shape), "skips": len(model.long_skips)}
    fields |= {"kappas": theory.factors(model.scaling), "init_digest": models.weights_digest(model, "scaling.")}
    fields |= {"data_digest": store.digest, "data_images": store.count, "data_partial": store.partial}
    fields |= {"reference_digest": reference.digest, "reference_size": reference.size}
    fields |= {"extractor": extractor.name, "extractor_digest": extractor.digest, "resize": extractor.resize}
    fields |= {"mean_spread": means.spread} | ({"beside": {one.name: one.digest for one in beside}} if beside else {})
    return fields | place(run) | {"cpu_count": os.cpu_count(), "git": source_code.git_state()}


def place(run: Run) -> dict[str, Any]:
    """Where and how a run is computed, and with which versions; recorded again at every resumption."""
    how = {key: getattr(run.execution, key) for key in ("processes", "accumulate", "checkpointing")}
    name = device_name(run.spec.device)
    versions = {"python": platform.python_version()}
    versions |= {package.replace("-", "_"): metadata.version(package) for package in PACKAGES}
    host, code = socket.gethostname(), source_code.digest()
    return how | {"device": run.spec.device, "device_name": name, "host": host, "versions": versions, "code": code}


def device_name(kind: str) -> str:
    """The processor's or the accelerator's own name."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):
        return platform.processor() or platform.machine()
