"""What probes cost, by the cells of a suite: a probed step beside a plain one, in turn, and the responses at checkpoints."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.planning import suite as suites
from bench.planning.plan import Run, plan
from bench.training.probes import HISTORY, probed_steps
from bench.runs.record import write_json
from bench.training.trainer import Trainer

STEPS = 40  # of each kind


def show(name: str, data: Path) -> None:
    """Print a row per cell: seconds of a step without probes, between probed points and at one, and what this is of a run.

    Of the suite's arms the one with gates is taken, if there is one: it has the most to measure.
    """
    from rich.console import Console
    from rich.table import Table

    runs = [run for run in plan(suites.load(name)) if run.role == "paired"]
    cells = {run.cell: run for run in sorted(runs, key=lambda run: run.spec["method"]["name"].startswith("learnable"))}
    table = Table("cell", "method", "step, ms", "watched, ms", "probed, ms", "probed steps", "of training", "response, s", "responses", box=None, pad_edge=False)
    for cell in dict.fromkeys(run.cell for run in runs):
        run = cells[cell]
        plain, watched, probed, response = _measure(run, data)
        steps = run.spec["budget"] // run.spec["batch"]
        points = len(probed_steps(steps))
        table.add_row(cell, run.label, f"{1000 * plain:.2f}", f"{1000 * watched:.2f}", f"{1000 * probed:.2f}", f"{points} of {steps:,}",
                      f"{((steps - points) * watched + points * probed) / (steps * plain) - 1:.2%}", f"{response:.2f}", str(run.checkpoints))
    console = Console()
    console.width = max(console.width, 130) if not console.is_terminal else console.width
    console.print(table)
    print(f"one process; medians of {STEPS} steps of each kind in turn, of the difference to the step before. Watched: for spikes only. "
          "Responses are measured at checkpoints, off the training clock")


def _measure(run: Run, data: Path) -> tuple[float, float, float, float]:
    """Seconds of a step without probes, of one watched for spikes, of a probed one, and of a response."""
    times: tuple[list[float], ...] = ([], [], [])
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(run, probes=True)
        write_json(Path(folder) / "config.json", run.config)
        trainer = Trainer(run, Path(folder), data)
        # The processor's time, on a CPU: what else runs there does not enter it.
        clock = time.process_time if run.spec["device"] == "cpu" else time.perf_counter
        probes = trainer.probes
        probes.history = [1.0] * HISTORY  # full, as it is for most of a run
        for i in range(3 * (STEPS + 3)):
            trainer.probes = probes if i % 3 else None
            probes.points = {trainer.images + run.spec["batch"]} if i % 3 == 2 else set()
            began = clock()
            trainer.step()
            times[i % 3].append((trainer._elapsed(0.0), clock() - began)[1])
        trainer.probes = probes
        began = clock()
        trainer._probe_response()
        response = (trainer._elapsed(0.0), clock() - began)[1]
        trainer.log.close()
    # Differences of neighbours in time, of which the middle is taken: the machine's speed drifts by more than a watch costs.
    plain, watched, probed = (taken[3:] for taken in times)
    step = median(plain)
    watching = step + median(b - a for a, b in zip(plain, watched, strict=True))
    return step, watching, watching + median(b - a for a, b in zip(watched, probed, strict=True)), response
