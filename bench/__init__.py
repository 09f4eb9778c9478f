"""The harness: from a suite file to run folders, MLflow and a report. See `python -m bench --help`."""
