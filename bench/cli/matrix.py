"""The verb `plan`: every run of a suite and what it costs."""

from __future__ import annotations

from pathlib import Path

from bench.cli.console import console, table
from bench.launching.local import default_workers
from bench.planning import costs
from bench.planning.suite import Suite
from bench.runs.run_spec import Run


def show(suite: Suite, runs: list[Run], root: Path) -> None:
    """Print the matrix and its sums."""
    found = {kind: costs.of(run) for kind, run in {_kind(run): run for run in runs}.items()}
    figures = ("parameters", "MFLOPs", "images", "evaluations", "seconds")
    matrix = table("run", "role", "state", right=figures)
    for run in runs:
        cost, budget = found[_kind(run)], f"{run.spec.budget:,}"
        counted = (
            f"{cost.params:,}",
            f"{cost.flops / 1e6:,.2f}",
            budget,
            str(costs.evaluations(run)),
            f"{cost.seconds:,.0f}",
        )
        matrix.add_row(run.id, run.role, run.folder(root).state(), *counted)
    console().print(matrix)
    seconds = sum(found[_kind(run)].seconds for run in runs)
    images = sum(run.spec.budget for run in runs)
    flops = sum(costs.TRAINING * found[_kind(run)].flops * run.spec.budget for run in runs)
    print(f"{len(runs)} runs, {images:,} training images, {flops:.3g} training FLOPs; folder {Path(root) / suite.name}")
    print(_estimate(suite, seconds))


def _kind(run: Run) -> tuple[str, str, bool]:
    """Runs of one kind cost the same; a pilot is measured more often at its end."""
    return run.spec.cell, run.label, run.role == "pilot"


def _estimate(suite: Suite, seconds: float) -> str:
    if suite.training.device == "cuda":
        return f"about {seconds / 3600:,.1f} GPU-hours at an assumed {costs.GPU_FLOPS / 1e12:.0f} TFLOP/s"
    workers, threads = default_workers(suite), suite.training.threads
    return (
        f"about {seconds / workers / 60:,.0f} minutes with {workers} workers of {threads} thread here (from a timed "
        "forward pass, training at three of them)"
    )
