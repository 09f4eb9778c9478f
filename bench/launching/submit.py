"""Jobs through submitit. Ours are those that we wrote down in runs/SUITE/submitted.json.

local: workers that take runs until none is left. slurm: pilots, then the comparisons that depend on them, then the report,
as job arrays; each element owns its runs, and first finishes what pilots are open.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from bench.launching import cluster_profile as cluster
from bench.runs import lock
from bench.launching import slurm as scheduler
from bench.launching import snapshot
from bench.launching import worker
from bench.launching.cluster_profile import Profile
from bench.errors import BadInput
from bench.launching.job import Report, Work
from bench.planning.plan import Run, plan, publish, select
from bench.runs.record import state, write_json
from bench.launching.runner import default_workers, preflight
from bench.planning.suite import Suite

if TYPE_CHECKING:
    import submitit

PYTHON = shlex.join([sys.executable, "-S", "bench/launching/hold.py", sys.executable])  # in the snapshot, where a job starts
STARTUP = 20  # seconds that a job takes to import torch and open its data, on a busy disk, before it trains
LOCAL_TIME = 365 * 24 * 60  # minutes; submitit ends a local job after three requeues at its time
REQUEUES = 1000  # submitit counts a preemption near the end of the time as a timeout; our own record says what goes forward


def submit(suite: Suite, o: argparse.Namespace) -> int:
    """Submit jobs for what is missing and nobody has; returns 0. Safe to call again, and twice at the same moment."""
    everything = plan(suite)
    wanted = worker.needed(everything, select(everything, o.only))
    _check_tracking(o)
    folder = Path(o.root).resolve() / suite.name
    if o.cluster == "local":
        with nullcontext() if o.dry_run else _alone(folder):
            return _submit_local(suite, everything, wanted, o)
    chosen = cluster.profile(o)
    if not scheduler.present():
        raise BadInput("--cluster: 'slurm' needs sbatch, which is not on this machine; choose local")
    scheduler.check_partition(chosen.partition, chosen.time)
    _check_path(folder)
    with nullcontext() if o.dry_run else _alone(folder):
        return _submit_slurm(suite, everything, wanted, chosen, folder, o)


def _check_tracking(o: argparse.Namespace) -> None:
    if o.tracking and not o.tracking.startswith(("http://", "https://")):
        raise BadInput(f"--tracking: {o.tracking!r}: jobs open no database; give the http address of a tracking server, or run "
                       "sync beside them")


def _check_path(folder: Path) -> None:
    """BadInput for letters that mean something else in the names of a job's log files."""
    for letter in "%\\\n\r":
        if letter in str(folder):
            raise BadInput(f"--root: {str(folder)!r}: SLURM cannot write into a folder with {letter!r} in its name; choose another")


# SLURM ----------------------------------------------------------------------------------------------------------------


def _submit_slurm(suite: Suite, everything: list[Run], wanted: list[Run], chosen: Profile, folder: Path,
                  o: argparse.Namespace) -> int:
    held = {run for runs in scheduler.queued(folder).values() for run in runs}
    strays = scheduler.strays(folder)
    left = _missing(wanted, o, held)
    parallel = suite.training.threads * suite.training.processes
    settings = cluster.parameters(chosen, scheduler.PREFIX + suite.name, parallel)
    if suite.training.device == "cuda" and not cluster.asks_for_gpus(settings):
        raise BadInput(f"--gpus-per-node: {suite.name} trains on cuda, and its jobs would get no GPU; give it, or --set gres=...")
    _check_interval(left, chosen.time, chosen.signal_delay)
    executor = _executor(settings, folder)
    arrays = _arrays(left, chosen)
    jobs = sum(len(array) for _, array in arrays)
    print(f"{suite.name}: {len(left)} of {len(wanted)} runs to submit, {jobs} jobs in {len(arrays)} arrays on slurm"
          + (f"; {len(held)} runs are in the queue already" if held else ""))
    if o.dry_run:
        _describe(arrays, executor)
        return 0
    if strays:  # what they have trained stays, and is resumed
        print(f"ended {len(strays)} jobs of a submission that was cut off before it had written them down")
        _scancel(strays)
    if not left and (not held or _waiting(folder, "report")):
        return 0
    with _no_outer_job():
        scheduler.check_shared({"--root": Path(o.root), "--data": Path(o.data)},
                               [f"--{key}={value}" for key in ("partition", "account", "qos") if (value := getattr(chosen, key))])
    _prepare(suite, everything, wanted, o)
    code = snapshot.take(suite, o.root)
    with chdir(code):  # a job starts where it was submitted, and imports what lies there
        _submit_arrays(suite, arrays, settings, folder, code, Path(o.data), o.tracking)
    print(f"code {code.name}; {_follow(suite.name, o.root)} --watch 10")
    return 0


def _follow(name: str, root: Path) -> str:
    return f"follow them with: python -m bench status {shlex.quote(name)} --root {shlex.quote(str(root))}"


def _missing(wanted: list[Run], o: argparse.Namespace, held: set[str]) -> list[Run]:
    """Runs to submit: not done, in no job of ours; failed ones only if that is asked for."""
    standing = {run.id: state(run.folder(o.root)) for run in wanted}
    failed = [run for run in wanted if standing[run.id] == "failed"]
    if failed and o.retry != "failed":
        print(f"{len(failed)} runs failed and are left out; --retry failed submits them again")
    skip = ("done",) if o.retry == "failed" else ("done", "failed")
    return [run for run in wanted if standing[run.id] not in skip and run.id not in held]


def _check_interval(left: list[Run], minutes: int, warning: int) -> None:
    """BadInput if a job may end before its first checkpoint: it would start over for ever."""
    from bench.planning import costs

    for run in {run.cell: run for run in left}.values():
        interval = costs.of(run).seconds / run.checkpoints
        if interval > minutes * 60 - warning - STARTUP:
            need = math.ceil((interval + warning + STARTUP) / 60)
            raise BadInput(f"--time: {minutes} minutes less {warning} s of warning and {STARTUP} s of starting is shorter than a checkpoint interval of "
                           f"{run.cell} (about {interval:,.0f} s, see plan); at least {need}, or more checkpoints")


def _arrays(left: list[Run], chosen: Profile) -> list[tuple[str, list[list[Run]]]]:
    """(kind, elements with their runs): pilots before comparisons, no array longer than the site takes."""
    most = min(chosen.largest_array, scheduler.largest_array() or chosen.largest_array)
    found = []
    for kind, runs in (("pilots", [run for run in left if run.role == "pilot"]),
                       ("comparisons", [run for run in left if run.role != "pilot"])):
        size = chosen.runs_per_job
        elements = [runs[k:k + size] for k in range(0, len(runs), size)]
        found += [(kind, elements[k:k + most]) for k in range(0, len(elements), most)]
    return found


def _submit_arrays(suite: Suite, arrays: list[tuple[str, list[list[Run]]]], settings: dict[str, Any], folder: Path, code: Path,
                   data: Path, tracking: str | None) -> None:
    """Every array as soon as the ids are there that it depends on; each written down at once."""
    # What waits for pilots also waits for those that an earlier call submitted.
    earlier = {kind: _waiting(folder, kind) for kind in ("pilots", "comparisons")}
    path, where = str(code / "bench" / "suites" / f"{suite.name}.yaml"), (str(folder.parent), str(data.resolve()))
    for kind, elements in arrays:
        works = [Work(path, *where, ",".join(f"run={run.id}" for run in runs), tracking) for runs in elements]
        after = earlier["pilots"] if kind == "comparisons" else []
        with _forgotten([run for runs in elements for run in runs], folder.parent):
            jobs = _sbatch(works, settings, folder, after)
        ids = [{"id": job.job_id, "runs": [run.id for run in runs]} for job, runs in zip(jobs, elements, strict=True)]
        _remember(folder, {"cluster": "slurm", "kind": kind, "code": code.name, "jobs": ids})
        array = jobs[0].job_id.partition("_")[0]
        earlier[kind].append(array)
        print(f"  {kind}: job {array}, {len(jobs)} elements" + (f", after {', '.join(after)}" if after else ""))
    light = {key: value for key, value in settings.items() if key != "gpus_per_node"} | {"cpus_per_task": 1}
    ids = earlier["pilots"] + earlier["comparisons"]
    report, = _sbatch([Report(suite.name, str(folder.parent))], light, folder, ids)
    _remember(folder, {"cluster": "slurm", "kind": "report", "code": code.name, "jobs": [{"id": report.job_id, "runs": []}]})
    print(f"  report: job {report.job_id}, after all of them")


@contextmanager
def _forgotten(runs: list[Run], root: Path) -> Iterator[None]:
    """Before their jobs start the failures of runs are forgotten; they are put back if no job came of it."""
    paths = [run.folder(root) / "error.json" for run in runs]
    failures = {path: path.read_text() for path in paths if path.is_file()}
    worker.forget_failures(runs, root)
    try:
        yield
    except Exception:
        for path, text in failures.items():
            path.write_text(text)
        raise


def _waiting(folder: Path, kind: str) -> list[str]:
    """Arrays of a kind that we submitted before and that are still in the queue."""
    live = scheduler.queued(folder)
    ids = [job["id"] for batch in scheduler.submitted(folder) if batch.get("kind") == kind for job in batch["jobs"]]
    return sorted({job.partition("_")[0] for job in ids if job in live})


def _executor(settings: dict[str, Any], folder: Path, after: Sequence[str] = ()) -> submitit.AutoExecutor:
    """`afterany`: `afterok` on a failed pilot would wait for ever; the job itself looks at the targets."""
    import submitit

    executor = submitit.AutoExecutor(folder=folder / "jobs" / "%j", cluster="slurm", slurm_max_num_timeout=REQUEUES, slurm_python=PYTHON)
    depends = {"slurm_dependency": "afterany:" + ":".join(after)} if after else {}
    executor.update_parameters(**settings, **depends)
    return executor


def _sbatch(works: list[Any], settings: dict[str, Any], folder: Path, after: list[str]) -> list[submitit.Job]:
    """One array."""
    import submitit

    executor = _executor(settings, folder, after)
    try:
        with _no_outer_job(), redirect_stderr(io.StringIO()), executor.batch():  # what sbatch says is in the error
            jobs = [executor.submit(work) for work in works]
    except submitit.core.utils.FailedJobError as error:
        raise BadInput(f"sbatch refused the job: {' '.join(str(error).split())}") from None
    return jobs


def _describe(arrays: list[tuple[str, list[list[Run]]]], executor: submitit.AutoExecutor) -> None:
    """The arrays and their sbatch lines, as submitit writes them."""
    slurm = executor._executor
    for kind, elements in arrays:
        slurm.parameters |= {"map_count": len(elements) if len(elements) > 1 else None}
        text = slurm._make_submission_file_text("", "")
        print(f"{kind}: {len(elements)} jobs, {sum(map(len, elements))} runs" + ("; after the pilots" if kind == "comparisons" else ""))
        print(*(f"  {line}" for line in text.splitlines() if line.startswith("#SBATCH")), sep="\n")
        print(*(f"  {index}: {' '.join(run.id for run in runs)}" for index, runs in enumerate(elements)), sep="\n")
    print("report: 1 job, after all of them")


@contextmanager
def _no_outer_job() -> Iterator[None]:
    """Submitting from inside a job would inherit its SLURM_ variables; where the cluster is must stay."""
    import submitit

    kept = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One submission of a suite at a time: the second sees what the first put into the queue."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".submitting").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


# This machine ---------------------------------------------------------------------------------------------------------


def _submit_local(suite: Suite, everything: list[Run], wanted: list[Run], o: argparse.Namespace) -> int:
    """Worker processes that outlive this one."""
    left = _missing(wanted, o, set())
    jobs = min(o.jobs or default_workers(suite), len(left))
    print(f"{suite.name}: {len(left)} of {len(wanted)} runs missing, {jobs} jobs on local")
    if o.dry_run or not left:
        for run in left:
            print(f"  {run.id}")
        return 0
    _prepare(suite, everything, wanted, o)
    code, folder = snapshot.take(suite, o.root), Path(o.root).resolve() / suite.name
    each = suite.training.processes if suite.training.device == "cuda" else 0
    works = [Work(str(code / "bench" / "suites" / f"{suite.name}.yaml"), str(folder.parent), str(Path(o.data).resolve()), o.only,
                  o.tracking, ",".join(map(str, range(slot * each, (slot + 1) * each))) or None) for slot in range(jobs)]
    with chdir(code), _forgotten(left, folder.parent):
        started = _start(works, o, folder, suite.name)
    _remember(folder, {"cluster": "local", "kind": "workers", "code": code.name, "jobs": started})
    print(*(f"  job {job['id']}" for job in started), _follow(suite.name, o.root), sep="\n")
    return 0


def _prepare(suite: Suite, everything: list[Run], wanted: list[Run], o: argparse.Namespace) -> None:
    for name in dict.fromkeys(cell.dataset for cell in suite.cells):
        datasets.prepare(name, o.data)
    preflight(wanted, o.root)
    publish(suite, everything, o.root)


def _start(works: list[Work], o: argparse.Namespace, folder: Path, name: str) -> list[dict]:
    import submitit

    executor = submitit.AutoExecutor(folder=folder / "jobs", cluster="local")
    executor.update_parameters(timeout_min=o.time or LOCAL_TIME, name=name)
    if o.gpus_per_node:
        executor.update_parameters(gpus_per_node=o.gpus_per_node)
    with _own_streams(), executor.batch():
        submitted = [executor.submit(work) for work in works]
    return [{"id": job.job_id, "started": lock.started(int(job.job_id)), "runs": []} for job in submitted]


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


def cancel(name: str, root: Path, dry_run: bool) -> int:
    """End the jobs written down for this suite, and only those."""
    folder = Path(root) / name
    if not (folder / "submitted.json").is_file() and not scheduler.strays(folder):
        raise BadInput(f"suite: {name!r} has no submitted jobs in {root}")
    with nullcontext() if dry_run else _alone(folder):  # not in the midst of a submission
        return _cancel(name, folder, dry_run)


def _cancel(name: str, folder: Path, dry_run: bool) -> int:
    live = [*scheduler.queued(folder), *scheduler.strays(folder)]  # by name and number: an id that was handed out again is not ours
    if live and not dry_run:
        _scancel(live)
    ended = len(live)
    for batch in scheduler.submitted(folder):
        if batch["cluster"] == "local":
            ended += sum(_end(job, dry_run) for job in batch["jobs"])
    print(f"{name}: {ended} jobs {'would be ended' if dry_run else 'ended'}")
    return 0


def _scancel(jobs: Iterable[str]) -> None:
    """BadInput if SLURM does not do it; jobs that end by themselves at this moment are no fault."""
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
    faults = [line for line in done.stderr.splitlines() if "already completing" not in line and "Invalid job id" not in line]
    if done.returncode and faults:
        raise BadInput(f"scancel failed, jobs may still run: {faults[0]}")


def _end(job: dict, dry_run: bool) -> bool:
    """End one local job if it is still that job; a process id that was handed out again is left alone."""
    pid = int(job["id"])
    if job["started"] is None or lock.started(pid) != job["started"]:
        return False
    if not dry_run:
        for one in (pid, *_below(pid)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)  # the trainer itself, and its ranks: the run resumes from the last checkpoint
    return True


def _below(pid: int) -> list[int]:
    """Process ids of the descendants, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def _remember(folder: Path, batch: dict) -> None:
    write_json(folder / "submitted.json", [*scheduler.submitted(folder), batch])
