"""The verb `plan`: every run of a suite and what it costs."""

from __future__ import annotations

from pathlib import Path

from bench.cli.console import console, table
from bench.launching.local import default_workers
from bench.planning import costs
from bench.planning.suite import SuiteFile
from bench.runs.run_spec import Run


def show(suite: SuiteFile, runs: list[Run], root: Path) -> None:
    """Print the matrix and its sums. Runs of one cell and arm cost the same, pilots apart: measured more often."""
    kinds = {run.id: (run.spec.cell, run.label, run.role == "pilot") for run in runs}
    found = {kind: costs.of(run) for kind, run in {kinds[run.id]: run for run in runs}.items()}
    matrix = table("run", "role", "state", right=("parameters", "MFLOPs", "images", "evaluations", "seconds"))
    for run in runs:
        cost = found[kinds[run.id]]
        sizes = (f"{cost.params:,}", f"{cost.flops / 1e6:,.2f}", f"{run.spec.budget:,}")
        work = (str(costs.evaluations(run)), f"{cost.seconds:,.0f}")
        matrix.add_row(run.id, run.role, run.folder(root).state(), *sizes, *work)
    console().print(matrix)
    seconds = sum(found[kinds[run.id]].seconds for run in runs)
    images = sum(run.spec.budget for run in runs)
    flops = sum(costs.TRAINING * found[kinds[run.id]].flops * run.spec.budget for run in runs)
    print(f"{len(runs)} runs, {images:,} training images, {flops:.3g} training FLOPs; folder {root / suite.name}")
    if suite.device == "cuda":
        peak = f"an assumed {costs.GPU_FLOPS / 1e12:.0f} TFLOP/s"
        print(f"about {seconds / 3600:,.1f} GPU-hours at {peak}")
    else:
        workers, how = default_workers(suite), "from a timed forward pass, training at three of them"
        print(
            f"about {seconds / workers / 60:,.0f} minutes with {workers} workers of {suite.threads} thread here ({how})"
        )
