"""What a job runs. Pickled by its name and a few words: the job imports this module from the snapshot of its sweep."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission

from bench.launching.coordinator import Coordinator
from bench.launching.local import synced
from bench.launching.nodes import Nodes
from bench.launching.process import WARNINGS
from bench.planning import suite_file
from bench.planning.plan import plan, select, with_pilots
from reports.report.output import listings, write

# A program with SLURM's warnings blocked: one that comes before Python can take it would end the job for good. They
# stay pending, also through exec, until the job takes them.
BLOCKED = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM}); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
EVERY = 15.0  # seconds between two passes of a job's projection into MLflow
GRACE = 300.0  # seconds that a job whose run was told to leave waits for its own end
_at_work: list[Coordinator] = []  # of this job; a job is pickled without it


@dataclass(frozen=True)
class Work:
    """Train the runs `only` of a suite, one after the other. Called again after a requeue, it goes on.

    patience: seconds that its run gets to save when the job is warned. devices: CUDA_VISIBLE_DEVICES of this job, where
    no scheduler sets it.
    """

    suite: str
    root: str
    data: str
    only: str | None
    tracking: str | None = None
    patience: float = 60.0
    devices: str | None = None

    def __call__(self) -> int:
        everything, root = plan(suite_file.load(self.suite)), Path(self.root)
        devices = None if self.devices is None else [self.devices]
        coordinator = Coordinator(everything, root, Path(self.data), 1, devices, GRACE)
        job = submitit.JobEnvironment()
        _at_work.append(coordinator)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)
        nodes = Nodes(job) if job.num_nodes > 1 else None
        if nodes and nodes.node:
            return nodes.follow({run.id: run for run in everything}, root, coordinator.data)
        coordinator.elsewhere = nodes.begin if nodes else coordinator.elsewhere
        with synced(everything[0].suite, root, EVERY if self.tracking else 0.0, self.tracking):
            code = coordinator.train(with_pilots(everything, select(everything, self.only)))
        if nodes:
            nodes.close()
        return code

    def checkpoint(self) -> DelayedSubmission:
        """The job is warned: its run saves and ends; what is requeued is the same work."""
        for coordinator in _at_work:
            coordinator.end(self.patience)
        paths = submitit.JobEnvironment().paths
        # A dump that was cut short by a kill would make submitit refuse the next.
        for torn in paths.folder.glob(f"{paths.submitted_pickle.stem}*.save_tmp"):
            torn.unlink(missing_ok=True)
        return DelayedSubmission(self)


def write_report(suite: str, root: str) -> list[str]:
    """Write the reports of what is there, once the sweep has ended."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)
    return [str(write(Path(root), suite, listing=listing)) for listing in listings(root, suite)]
