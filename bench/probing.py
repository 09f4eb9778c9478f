"""What probes cost, by the cells of a suite: a probed step beside a plain one, in turn, and the responses at checkpoints."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import suite as suites
from bench.plan import Run, plan
from bench.probes import POINTS
from bench.record import write_json
from bench.train import Trainer

STEPS = 40  # of each kind


def show(name: str, data: Path) -> None:
    """Print a row per cell: seconds of a step and of a probed one, and what this is of a run."""
    from rich.console import Console
    from rich.table import Table

    cells = {run.cell: run for run in plan(suites.load(name)) if run.role == "paired" and run.spec["method"]["name"] == "none"}
    table = Table("cell", "step, ms", "probed, ms", "probed steps", "of training", "response, s", "responses", box=None, pad_edge=False)
    for cell, run in cells.items():
        plain, probed, response = _measure(run, data)
        steps = run.spec["budget"] // run.spec["batch"]
        points = min(POINTS, steps)
        table.add_row(cell, f"{1000 * plain:.2f}", f"{1000 * probed:.2f}", f"{points} of {steps:,}",
                      f"{points * (probed - plain) / (steps * plain):.2%}", f"{response:.2f}", str(run.checkpoints))
    Console().print(table)
    print(f"one process; medians of {STEPS} steps of each kind in turn. Responses are measured at checkpoints, off the training clock")


def _measure(run: Run, data: Path) -> tuple[float, float, float]:
    """Seconds of a step, of a probed step, and of a response."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(run, probes=True)
        write_json(Path(folder) / "config.json", run.config)
        trainer = Trainer(run, Path(folder), data)
        # The processor's time, on a CPU: what else runs there does not enter it.
        clock = time.process_time if run.spec["device"] == "cpu" else time.perf_counter
        for i in range(2 * (STEPS + 3)):
            trainer.probes.points = {trainer.images + run.spec["batch"]} if i % 2 else set()
            began = clock()
            trainer.step()
            times[bool(i % 2)].append((trainer._elapsed(0.0), clock() - began)[1])
        began = clock()
        trainer._probe_response()
        response = (trainer._elapsed(0.0), clock() - began)[1]
        trainer.log.close()
    return median(times[False][3:]), median(times[True][3:]), response
