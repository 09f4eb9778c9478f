"""The verb `plan`: the cells of a suite, or its runs, and what they cost."""

from __future__ import annotations

from pathlib import Path

from bench.cli.console import console, table
from bench.launching.local import default_workers
from bench.launching.looks import Looks
from bench.planning import costs
from bench.planning.plan import plan
from bench.planning.suite import SuiteFile
from bench.runs.run_spec import Run

ALIKE = 1.01  # arms whose parameters differ by more than this are listed


def show(suite: SuiteFile, runs: list[Run], root: Path, each: bool, chip: str | None) -> None:
    """Print a line per cell, or per run, and the sums; BadInput for an unknown chip.

    Runs of one cell and arm cost the same, but for pilots, which are measured more often.
    """
    gpu = costs.gpu(chip) if suite.device == "cuda" or chip else None
    kinds = {run.id: (run.spec.cell, run.label, run.role == "pilot") for run in runs}
    found = {kind: costs.of(run, gpu) for kind, run in {kinds[run.id]: run for run in runs}.items()}
    cost = {run.id: found[kinds[run.id]] for run in runs}
    hours = {name: one.seconds / 3600 for name, one in cost.items()}
    unit, scale = ("GPU-hours", 1.0) if gpu else ("minutes", 60.0)
    if each:
        matrix = table("run", "role", "state", right=("parameters", "MFLOPs", "images", "evaluations", unit))
        looks = Looks(plan(suite), root)
        looks.refresh()
        for run in runs:
            sizes = (f"{cost[run.id].params:,}", f"{cost[run.id].flops / 1e6:,.2f}", f"{run.spec.budget:,}")
            work = (str(costs.evaluations(run)), f"{hours[run.id] * scale:,.1f}")
            matrix.add_row(run.id, run.role, looks.state(run), *sizes, *work)
    else:
        matrix = table("cell", right=("runs", "done", "parameters", "MFLOPs", "images a run", unit, "GB after"))
        for cell in dict.fromkeys(run.spec.cell for run in runs):
            mine = [run for run in runs if run.spec.cell == cell]
            done = sum(run.folder(root).is_done() for run in mine)
            first, kept = cost[mine[0].id], sum(cost[run.id].kept for run in mine)
            size = (f"{first.params:,}", f"{first.flops / 1e6:,.1f}", f"{mine[0].spec.budget:,}")
            time = f"{sum(hours[run.id] for run in mine) * scale:,.1f}"
            matrix.add_row(cell, str(len(mine)), str(done), *size, time, f"{kept / 1e9:,.2f}")
    console().print(matrix)
    for cell in dict.fromkeys(run.spec.cell for run in runs):
        by_arm = {run.label: cost[run.id].params for run in runs if run.spec.cell == cell}
        if max(by_arm.values()) > ALIKE * min(by_arm.values()):
            print(f"parameters of {cell} by arm: {', '.join(f'{arm} {count:,}' for arm, count in by_arm.items())}")
    if suite.looks:
        print(f"looks after {', '.join(map(str, suite.looks))} pairs; least: every arm is decided at the first of them")
        _sums("least: ", suite, [run for run in runs if not run.look], root, cost, gpu)
    _sums("most: " * bool(suite.looks), suite, runs, root, cost, gpu)


def _sums(
    word: str, suite: SuiteFile, runs: list[Run], root: Path, cost: dict[str, costs.Cost], gpu: costs.Gpu | None
) -> None:
    """What runs cost together, in three lines."""
    images, total = sum(run.spec.budget for run in runs), sum(cost[run.id].seconds for run in runs) / 3600
    flops = sum(costs.TRAINING * cost[run.id].flops * run.spec.budget for run in runs)
    print(f"{word}{len(runs)} runs, {images:,} training images, {flops:.3g} training FLOPs; folder {root / suite.name}")
    mine = [cost[run.id] for run in runs]
    kept, more = sum(one.kept for one in mine), max((one.under_way for one in mine), default=0)
    print(f"disk: {kept / 1e9:,.2f} GB when all is done; up to {more / 1e9:,.2f} GB more for each run under way")
    if gpu:
        print(f"about {total:,.1f} GPU-hours at {gpu.said}")
    else:
        workers, how = default_workers(suite), "from a timed forward pass, training at three of them"
        print(
            f"about {total * 60 / workers:,.0f} minutes with {workers} workers of {suite.threads} thread here ({how})"
        )
