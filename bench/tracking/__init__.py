"""MLflow, a projection of the run folders."""
