"""The verb `perf`: throughput of a whole training step as a ratio over its bare forward and backward, in one process."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median


import datasets
from bench import diffusion, suite as suites
from bench.plan import Run, plan
from bench.record import write_json
from bench.train import Trainer


def show(preset: str | None, batch: int, steps: int, data: Path) -> None:
    """Print images per second of the whole step and of the bare one, and the ratio, per backbone of the suite quick."""
    from rich.console import Console
    from rich.table import Table

    suite = suites.load("quick")
    backbones = [preset] if preset else [cell.backbone for cell in suite.cells]
    for cell in suite.cells:
        datasets.prepare(cell.dataset, data)
    table = Table("backbone", "batch", "forward+backward images/s", "whole step images/s", "overhead", box=None, pad_edge=False)
    for backbone in backbones:
        bare, whole = measure(_with(plan(suite)[0], backbone, batch, steps), steps, data)
        table.add_row(backbone, str(batch), f"{batch / bare:,.0f}", f"{batch / whole:,.0f}", f"{whole / bare:.3f}x")
    Console().print(table)
    print("one process, one thread, fp32 on the CPU; the two are timed in turn, medians of the steps")


def _with(run: Run, backbone: str, batch: int, steps: int) -> Run:
    budget = batch * steps * 10
    evaluation = run.spec["evaluation"] | {"images": [budget]}
    return dataclasses.replace(run, spec=run.spec | {"backbone": backbone, "batch": batch, "budget": budget, "evaluation": evaluation})


def measure(run: Run, steps: int, data: Path) -> tuple[float, float]:
    """Median seconds of a bare forward and backward, and of a whole step (draws, data, loss, optimizer, EMA, clock)."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", run.config)
        trainer = Trainer(run, Path(folder), data)
        batch = trainer.batch()

        def bare() -> None:
            trainer.optimizer.zero_grad(set_to_none=True)
            diffusion.loss(trainer.model, trainer.schedule, batch.x, batch.t, batch.noise, batch.condition).backward()

        times: dict[Callable, list[float]] = {bare: [], trainer.step: []}
        for _ in range(steps + 3):  # in turn, so that a change of the machine's speed meets both
            for function, taken in times.items():
                began = time.perf_counter()
                function()
                taken.append(time.perf_counter() - began)
        trainer.log.close()
    return median(times[bare][3:]), median(times[trainer.step][3:])
