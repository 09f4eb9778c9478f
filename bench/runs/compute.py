"""How a run computes: threads, determinism, precision, memory layout. Everything here is a key of its specification."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits

from bench.runs.run_spec import RunSpec
from models import Backbone


def set_up(spec: RunSpec) -> torch.device:
    """Set this process up to compute a run; returns its device."""
    torch.set_num_threads(spec.threads)
    threadpool_limits(spec.threads)  # numpy's BLAS too: another number of threads gives other bits
    torch.use_deterministic_algorithms(spec.device == "cpu")
    # Nothing here reads such memory; filling it takes 7 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if spec.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = spec.tf32
    torch.backends.cudnn.benchmark = spec.cudnn_benchmark
    for kernel, name in {"flash": "flash", "efficient": "mem_efficient", "math": "math", "cudnn": "cudnn"}.items():
        chosen = spec.device == "cpu" or spec.attention in ("auto", "fp32", kernel)  # a CPU has kernels of its own
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(chosen)
    return torch.device(spec.device)


def prepare(model: Backbone, spec: RunSpec, checkpointing: bool = False) -> Backbone:
    """Give a network its memory layout, its attention's precision and recomputation, in place; returns it."""
    if spec.channels_last:
        model.to(memory_format=torch.channels_last)
    for name, value in {"recompute": checkpointing, "fp32_attention": spec.attention == "fp32"}.items():
        for module in model.modules():
            if hasattr(module, name):
                setattr(module, name, value)
    return model


def autocast(spec: RunSpec) -> torch.autocast:
    """bf16 where the specification says so."""
    return torch.autocast(spec.device, torch.bfloat16, enabled=spec.precision == "bf16")
