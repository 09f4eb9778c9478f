"""What a job runs. Pickled by its name and a few words: the job imports this module from the snapshot of its sweep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.launching import hold
from bench.runs.record import state, write_json
from reports.records import reading

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

STARTS = 3  # of a job, in a row, without a checkpoint of any of its runs: the next would be in vain too
TREE = Path(__file__).parents[2]
leaving = threading.Event()  # this job was told to go, and is being requeued


@dataclass(frozen=True)
class Work:
    """Train the runs `only` of a suite. Called again after a requeue, it goes on from what the run folders say."""

    suite: str
    root: str
    data: str
    only: str | None
    tracking: str | None = None
    gpus: str | None = None  # those of this job, where no scheduler says it

    def __call__(self) -> int:
        hold.release()
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        from bench.launching import worker

        if not self._goes_forward():
            print(f"{STARTS} starts of this job in a row reached no new checkpoint: it ends; give it more --time, or the suite more "
                  "checkpoints, and submit again", file=sys.stderr, flush=True)
            return 1
        with _synced(self):
            return worker.work(self.suite, Path(self.root), Path(self.data), self.only, leaving=leaving)

    def _goes_forward(self) -> bool:
        """False if the last starts of this job left its runs as they were; counts this one, in a file beside the job's pickle."""
        import submitit

        pickle = submitit.JobEnvironment().paths.submitted_pickle
        path = pickle.with_name(pickle.name.replace("_submitted.pkl", "_starts.json"))
        before = reading.read_json(path) if path.is_file() else {}
        now = self._standing()
        starts = before["starts"] + 1 if before.get("standing") == now else 1
        if starts <= STARTS:
            write_json(path, {"starts": starts, "standing": now})
        return starts <= STARTS

    def _standing(self) -> dict[str, str]:
        """Run to its newest checkpoint, or done, or failed: what a start of this job can carry forward."""
        from bench.planning import suite as suites
        from bench.launching import worker
        from bench.planning.plan import plan, select

        everything, found = plan(suites.load(self.suite)), {}
        for run in worker.needed(everything, select(everything, self.only)):
            folder = run.folder(Path(self.root))
            saved = max((path.stem for path in (folder / "checkpoints").glob("*.pt")), default="")
            found[run.id] = standing if (standing := state(folder)) in ("done", "failed") else saved
        return found

    def checkpoint(self) -> DelayedSubmission:
        """What the requeued job runs: the same. A dump that was cut short by a kill would make submitit refuse the next.

        Submitit calls this in the midst of the training, and next `scontrol requeue`, which may raise there: SLURM ends
        a requeued job with all its processes, scontrol among them.
        """
        import submitit

        leaving.set()
        paths = submitit.JobEnvironment().paths
        for torn in paths.folder.glob("*.save_tmp"):
            if torn.name.startswith(paths.submitted_pickle.stem):
                torn.unlink(missing_ok=True)
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class Report:
    """Write the report of what is there, once the sweep has ended."""

    suite: str
    root: str

    def __call__(self) -> str:
        hold.release()
        import reports

        root = Path(self.root)
        return str(reports.write(root, self.suite, root / self.suite / "report", None))


@contextmanager
def _synced(job: Work) -> Iterator[None]:
    """Project into a tracking server meanwhile, in a process of its own, which outlives no job."""
    if job.tracking is None:
        yield
        return
    command = [sys.executable, "-m", "bench", "sync", Path(job.suite).stem, "--root", job.root, "--tracking", job.tracking,
               "--watch", "15", "--quiet"]
    process = subprocess.Popen(command, cwd=TREE, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()  # asks for a last pass
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
