"""What probes cost, by the cells of a suite: a probed step beside a plain one, in turn, and responses at checkpoints.

Run as `python -m tests.tools.probing SUITE --data DATA`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Run
from bench.training.probes import HISTORY, probed_steps
from bench.training.trainer import Trainer
from reports.records.run_folder import RunFolder

STEPS = 40  # of each kind
ROW = "{:28} {:16} {:>9} {:>12} {:>11} {:>13} {:>12} {:>12} {:>10}".format
TITLES = ("cell", "method", "step, ms", "watched, ms", "probed, ms", "probed steps", "of training", "response, s")


def show(name: str, data: Path) -> None:
    """Print a row per cell: time of a step without probes, between probed points and at one, and their share of a run.

    Of the suite's arms the one with gates is taken, if there is one: it has the most to measure.
    """
    runs = [run for run in plan(suite_file.load(name)) if run.role == "paired"]
    gated = sorted(runs, key=lambda run: str(run.spec.method["name"]).startswith("learnable"))
    print(ROW(*TITLES, "responses"), flush=True)
    for cell, run in {run.spec.cell: run for run in gated}.items():
        plain, watched, probed, response = _measure(run, data)
        steps, points = run.spec.steps, len(probed_steps(run.spec.steps))
        share = ((steps - points) * watched + points * probed) / (steps * plain) - 1
        figures = (f"{1000 * seconds:.2f}" for seconds in (plain, watched, probed))
        rest = (f"{points} of {steps:,}", f"{share:.2%}", f"{response:.2f}", run.execution.checkpoints)
        print(ROW(cell, run.label, *figures, *rest), flush=True)
    print(
        f"one process; medians of {STEPS} steps of each kind in turn, of the difference to the step before. Watched: "
        "for spikes only. Responses are measured at checkpoints, off the training clock"
    )


def _measure(run: Run, data: Path) -> tuple[float, float, float, float]:
    """Seconds of a step without probes, of one watched for spikes, of a probed one, and of a response."""
    times: tuple[list[float], ...] = ([], [], [])
    # The processor's time, on a CPU: what else runs there does not enter it.
    clock = time.process_time if run.spec.device == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(run, execution=run.execution.model_copy(update={"probes": True}))
        trainer = Trainer(run, RunFolder(Path(folder)), data)
        probes = trainer.probes
        assert probes is not None
        probes.history = [1.0] * HISTORY  # full, as it is for most of a run
        for i in range(3 * (STEPS + 3)):
            trainer.probes = probes if i % 3 else None
            probes.points = {trainer.images + run.spec.batch} if i % 3 == 2 else set()
            began = clock()
            trainer.step()
            trainer.read_losses()
            trainer._elapsed(0.0)  # waits for the device
            times[i % 3].append(clock() - began)
        trainer.probes = probes
        began = clock()
        trainer._probe_response()
        trainer._elapsed(0.0)
        response = clock() - began
        trainer.log.close()
    # Medians of differences between neighbours in time: the machine's speed drifts by more than a watch costs.
    plain, watched, probed = (taken[3:] for taken in times)
    step = median(plain)
    watching = step + median(b - a for a, b in zip(plain, watched, strict=True))
    return step, watching, watching + median(b - a for a, b in zip(watched, probed, strict=True)), response


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tools.probing", description=show.__doc__)
    parser.add_argument("suite", help="a name in bench/suites, or the path of a suite file")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where datasets lie (default: %(default)s)")
    options = parser.parse_args()
    show(options.suite, options.data)
