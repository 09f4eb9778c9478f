"""The harness: from a suite file to run folders, MLflow and a report. See `python -m bench --help`."""

import time

STARTED = time.time()  # of this process, before anything heavy is imported
