"""Starting runs: on this machine, on SLURM."""
