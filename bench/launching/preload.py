"""What the forkserver imports before it forks the processes of runs; an import that fails is told by the run itself."""

import contextlib

with contextlib.suppress(Exception):
    import bench.training.trainer  # noqa: F401
