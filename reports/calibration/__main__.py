"""The command line of the calibration; exit code 1 if an expectation does not hold."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from reports.calibration.page import write
from reports.calibration.simulate import PLANNED, decided, power, sequential, settings, study

if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m reports.calibration", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.md"), help="figure and grid lie beside it")
    parser.add_argument("--repetitions", type=int, default=4000, help="of every setting")
    options = parser.parse_args()
    with ProcessPoolExecutor() as workers:
        jobs = [workers.submit(study, one, options.repetitions, seed) for seed, one in enumerate(settings())]
        plans = [workers.submit(power, *one, 4 * options.repetitions, seed) for seed, one in enumerate(PLANNED)]
        ends = [workers.submit(decided, one, options.repetitions, seed) for seed, one in enumerate(sequential())]
        rows = pd.DataFrame([row for job in jobs for row in job.result()])
        powers = pd.DataFrame([plan.result() for plan in plans])
        looks = pd.DataFrame([row for end in ends for row in end.result()])
    holds = write(options.out, rows, powers, looks, options.repetitions)
    print(options.out.read_text(encoding="utf-8"))
    sys.exit(int(not holds))
