"""The harness: from a suite file to run folders, MLflow and a report. See `python -m bench --help`."""

import time

__version__ = "0.1.0"  # also in CITATION.cff
STARTED = time.time()  # of this process, before anything heavy is imported
