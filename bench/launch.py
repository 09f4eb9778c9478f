"""Jobs through submitit: each is a worker that takes runs of the suite until none is left. Ours are the ones we wrote down."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from bench import lock, worker
from bench.errors import BadInput
from bench.plan import plan, publish, select
from bench.record import state, write_json
from bench.runner import default_workers, preflight
from bench.suite import Suite


def submit(suite: Suite, o: argparse.Namespace) -> int:
    """Submit jobs for what is missing and write their ids into runs/SUITE/submitted.json."""
    everything = plan(suite)
    wanted = worker.needed(everything, select(everything, o.only))
    left = [run for run in wanted if state(run.folder(o.root)) != "done"]
    jobs = min(o.jobs or default_workers(suite), len(left))
    if o.cluster == "slurm" and not shutil.which("sbatch"):
        raise BadInput("--cluster: 'slurm' needs sbatch, which is not on this machine; choose local")
    print(f"{suite.name}: {len(left)} of {len(wanted)} runs missing, {jobs} jobs on {o.cluster}")
    if o.dry_run or not left:
        for run in left:
            print(f"  {run.id}")
        return 0
    for cell in suite.cells:
        datasets.prepare(cell.dataset, o.data)
    preflight(wanted, o.root)
    publish(suite, everything, o.root)
    worker.forget_failures(wanted, o.root)
    started = _start(suite, o, jobs)
    _remember(Path(o.root) / suite.name, o.cluster, started)
    print(*(f"  job {job['id']}" for job in started), f"follow them with: python -m bench status {suite.name} --root {o.root}", sep="\n")
    return 0


def _start(suite: Suite, o: argparse.Namespace, jobs: int) -> list[dict]:
    import submitit

    folder = Path(o.root) / suite.name / "jobs"
    executor = submitit.AutoExecutor(folder=folder, cluster=o.cluster)
    slurm = {"slurm_partition": o.partition, "slurm_account": o.account} if o.cluster == "slurm" else {}
    executor.update_parameters(timeout_min=o.time, name=suite.name, **{key: value for key, value in slurm.items() if value})
    if o.gpus_per_node:
        executor.update_parameters(gpus_per_node=o.gpus_per_node)
    where = [str(Path(path).resolve()) for path in (suite.path, o.root, o.data)]
    with _own_streams(), executor.batch():
        submitted = [executor.submit(_job, *where, o.only) for _ in range(jobs)]
    return [{"id": job.job_id, "started": lock.started(int(job.job_id)) if o.cluster == "local" else None} for job in submitted]


@contextmanager
def _own_streams() -> Iterator[None]:
    """What is started here inherits no stream of ours: a local job would hold a pipe open that somebody reads to its end."""
    kept, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)


def _job(suite: str, root: str, data: str, only: str | None) -> int:
    """What a job runs."""
    return worker.work(suite, Path(root), Path(data), only)


def cancel(name: str, root: Path, dry_run: bool) -> int:
    """End the jobs written down for this suite, and only those."""
    path = Path(root) / name / "submitted.json"
    if not path.is_file():
        raise BadInput(f"suite: {name!r} has no submitted jobs in {root}")
    ended = 0
    for batch in json.loads(path.read_text()):
        for job in batch["jobs"]:
            ended += _end(batch["cluster"], job, dry_run)
    print(f"{name}: {ended} jobs {'would be ended' if dry_run else 'ended'}")
    return 0


def _end(cluster: str, job: dict, dry_run: bool) -> bool:
    """End one job if it is still that job; a process id that was handed out again is left alone."""
    if cluster == "slurm":
        return dry_run or subprocess.run(["scancel", job["id"]]).returncode == 0
    pid = int(job["id"])
    if job["started"] is None or lock.started(pid) != job["started"]:
        return False
    if not dry_run:
        for child in _children(pid):
            os.kill(child, signal.SIGKILL)  # the trainer itself: its run resumes from the last checkpoint
        os.kill(pid, signal.SIGKILL)
    return True


def _children(pid: int) -> list[int]:
    """Process ids of the children, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _remember(folder: Path, cluster: str, jobs: list[dict]) -> None:
    path = folder / "submitted.json"
    before = json.loads(path.read_text()) if path.is_file() else []
    write_json(path, [*before, {"cluster": cluster, "jobs": jobs}])
