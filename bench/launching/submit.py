"""Jobs through submitit. Ours are those of the batches in runs/SUITE/submitted.json, by the mark in their comment.

local: coordinators of one worker each, in processes that outlive this one. slurm: pilots, then the comparisons that
depend on them, then the report, as job arrays; each element owns its runs, and first finishes what pilots are open.
"""

from __future__ import annotations

import argparse
import io
import os
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from typing import Any

import psutil
import submitit

from bench.errors import BadInput
from bench.launching import cluster_profile, local, slurm, snapshot
from bench.launching.job import BLOCKED, Report, Work
from bench.launching.sweep_folder import SweepFolder
from bench.planning.plan import plan, select, with_pilots
from bench.planning.suite import Suite
from bench.runs.run_spec import Run
from reports.records.lease import Lease
from reports.records.run_folder import State

LOCAL_TIME = 365 * 24 * 60  # minutes; submitit ends a local job after three requeues at its time
REQUEUES = (
    1000  # submitit counts a preemption near the end of the time as a timeout; our own record says what goes forward
)
FORBIDDEN = "%\\\n\r"  # letters that mean something else in the names of a job's log files


def submit(suite: Suite, o: argparse.Namespace) -> int:
    """Submit jobs for what is missing and nobody has; returns 0. Safe to call again, and twice at the same moment."""
    if o.tracking and not o.tracking.startswith(("http://", "https://")):
        told = "jobs open no database; give the http address of a tracking server, or run sync beside them"
        raise BadInput(f"--tracking: {o.tracking!r}: {told}")
    submission = Slurm(suite, o) if o.cluster == "slurm" else Local(suite, o)
    with _alone(submission.sweep, o.dry_run):
        return submission.submit()


def _alone(sweep: SweepFolder, dry_run: bool) -> AbstractContextManager[object]:
    """One submission of a suite at a time: the second sees what the first put into the queue."""
    return nullcontext() if dry_run else Lease(sweep.path / ".submitting", wait=600.0)


class Submission:
    """What both clusters share: the runs that are wanted, and where jobs find code, runs and data."""

    def __init__(self, suite: Suite, o: argparse.Namespace) -> None:
        self.suite, self.o = suite, o
        self.everything = plan(suite)
        self.wanted = with_pilots(self.everything, select(self.everything, o.only))
        self.sweep = SweepFolder(Path(o.root).resolve(), suite.name)

    def submit(self) -> int:
        """Submit; returns the exit code."""
        raise NotImplementedError

    def missing(self, held: set[str]) -> list[Run]:
        """Runs to submit: not done, in no job of ours; failed ones only if that is asked for."""
        states = {run.id: run.folder(self.o.root).state() for run in self.wanted}
        failed = [run for run in self.wanted if states[run.id] is State.FAILED]
        if failed and self.o.retry != "failed":
            print(f"{len(failed)} runs failed and are left out; --retry failed submits them again")
        left = [run for run in self.wanted if not states[run.id].done and run.id not in held]
        return left if self.o.retry == "failed" else [run for run in left if run not in failed]

    def prepare(self) -> Path:
        """Prepare data and folders, and freeze the code; returns its folder."""
        local.prepare(self.suite, self.everything, self.wanted, self.o.root, self.o.data)
        code = snapshot.take(self.suite, self.o.root)
        self.where = (
            str(snapshot.suite_in(code, self.suite.name)),
            str(self.sweep.path.parent),
            str(self.o.data.resolve()),
        )
        return code

    def follow(self) -> str:
        """What to do next."""
        name, root = shlex.quote(self.suite.name), shlex.quote(str(self.o.root))
        return f"follow them with: python -m bench status {name} --root {root}"


class Slurm(Submission):
    """Job arrays."""

    def __init__(self, suite: Suite, o: argparse.Namespace) -> None:
        super().__init__(suite, o)
        self.profile = cluster_profile.profile(o)
        if not slurm.present():
            raise BadInput("--cluster: 'slurm' needs sbatch, which is not on this machine; choose local")
        for letter in FORBIDDEN:
            if letter in str(self.sweep.path):
                told = f"SLURM cannot write into a folder with {letter!r} in its name; choose another"
                raise BadInput(f"--root: {str(self.sweep.path)!r}: {told}")
        cores = suite.training.threads * suite.training.processes
        self.settings = cluster_profile.parameters(self.profile, slurm.PREFIX + suite.name, cores)
        if suite.training.device == "cuda" and not cluster_profile.asks_for_gpus(self.settings):
            told = f"{suite.name} trains on cuda, and its jobs would get no GPU; give it, or --set gres=..."
            raise BadInput(f"--gpus-per-node: {told}")

    def submit(self) -> int:
        """Submit arrays of what is missing, and the report after them."""
        held = {run for runs in slurm.queued(self.sweep).values() for run in runs}
        left = self.missing(held)
        executor, arrays = self.executor(self.settings), self.arrays(left)
        keys = ("partition", "account", "qos")
        options = [f"--{key}={value}" for key in keys if (value := self.settings.get(f"slurm_{key}"))]
        with _no_outer_job():
            slurm.check_accepted(options, self.settings["timeout_min"])
        jobs = sum(len(elements) for _, elements in arrays)
        queued = f"; {len(held)} runs are in the queue already" if held else ""
        told = f"{len(left)} of {len(self.wanted)} runs to submit, {jobs} jobs in {len(arrays)} arrays on slurm"
        print(f"{self.suite.name}: {told}{queued}")
        if self.o.dry_run:
            _describe(arrays, executor)
            return 0
        if not left and (not held or self.waiting("report")):
            return 0
        with _no_outer_job():
            slurm.check_shared({"--root": Path(self.o.root), "--data": Path(self.o.data)}, options)
        code = self.prepare()
        with chdir(code):  # a job starts where it was submitted, and imports what lies there
            self.submit_arrays(arrays)
        print(f"code {code.name}; {self.follow()} --watch 10")
        return 0

    def arrays(self, left: list[Run]) -> list[tuple[str, list[list[Run]]]]:
        """(kind, elements with their runs): pilots before comparisons, no array longer than the site takes."""
        limit, size = self.profile.largest_array, self.profile.runs_per_job
        most = min(limit, slurm.largest_array() or limit)
        found = []
        for kind, pilots in (("pilots", True), ("comparisons", False)):
            runs = [run for run in left if (run.role == "pilot") is pilots]
            elements = [runs[k : k + size] for k in range(0, len(runs), size)]
            found += [(kind, elements[k : k + most]) for k in range(0, len(elements), most)]
        return found

    def submit_arrays(self, arrays: list[tuple[str, list[list[Run]]]]) -> None:
        """Every array as soon as the ids are there that it depends on."""
        # What waits for pilots also waits for those that an earlier call submitted.
        earlier = {kind: self.waiting(kind) for kind in ("pilots", "comparisons")}
        patience = 0.8 * self.profile.signal_delay
        for kind, elements in arrays:
            only = [",".join(f"run={run.id}" for run in runs) for runs in elements]
            works = [Work(*self.where, text, self.o.tracking, patience) for text in only]
            after = earlier["pilots"] if kind == "comparisons" else []
            with _forgotten([run for runs in elements for run in runs], self.sweep):
                array = self.sbatch(kind, works, [[run.id for run in runs] for runs in elements], self.settings, after)
            earlier[kind].append(array)
            print(f"  {kind}: job {array}, {len(works)} elements" + (f", after {', '.join(after)}" if after else ""))
        light = {key: value for key, value in self.settings.items() if key != "gpus_per_node"} | {"cpus_per_task": 1}
        work = Report(self.suite.name, str(self.sweep.path.parent))
        report = self.sbatch("report", [work], [[]], light, earlier["pilots"] + earlier["comparisons"])
        print(f"  report: job {report}, after all of them")

    def sbatch(
        self,
        kind: str,
        works: Sequence[Work | Report],
        runs: list[list[str]],
        settings: dict[str, Any],
        after: list[str],
    ) -> str:
        """Submit one array; returns its job id.

        The batch is written down first, and its jobs are known by the mark in their comment, so that none is ever lost.
        """
        mark, code = secrets.token_hex(6), Path.cwd().name
        batch = {"batch": mark, "cluster": "slurm", "kind": kind, "code": code, "elements": runs}
        executor = self.executor(settings, after, mark)
        self.sweep.remember(batch | {"job": None})
        try:
            with _no_outer_job(), redirect_stderr(io.StringIO()), executor.batch():  # what sbatch says is in the error
                jobs: list[submitit.Job[Any]] = [executor.submit(work) for work in works]
        except submitit.core.utils.FailedJobError as error:
            self.sweep.forget(mark)
            raise BadInput(f"sbatch refused the job: {' '.join(str(error).split())}") from None
        array = str(jobs[0].job_id).partition("_")[0]
        self.sweep.remember(batch | {"job": array})
        return array

    def executor(self, settings: dict[str, Any], after: Sequence[str] = (), mark: str = "") -> submitit.AutoExecutor:
        """`afterany`: `afterok` on a failed pilot would wait for ever; the job itself looks at the targets."""
        python = shlex.join([sys.executable, "-S", "-c", BLOCKED, sys.executable])
        options = {"slurm_max_num_timeout": REQUEUES, "slurm_python": python}
        executor = submitit.AutoExecutor(folder=self.sweep.path / "jobs" / "%j", cluster="slurm", **options)
        comment = {"slurm_comment": f"{mark} {settings.get('slurm_comment', '')}".strip()} if mark else {}
        depends = {"slurm_dependency": "afterany:" + ":".join(after)} if after else {}
        try:
            executor.update_parameters(**{**settings, **comment, **depends})
        except (NameError, AssertionError) as error:  # submitit's way to refuse a parameter
            raise BadInput(f"--set: {str(error).splitlines()[0]}") from None
        return executor

    def waiting(self, kind: str) -> list[str]:
        """Arrays of a kind that we submitted before and that are still in the queue."""
        marks = {batch["batch"] for batch in self.sweep.batches() if batch["kind"] == kind}
        return sorted({job.array for job in slurm.queue(self.suite.name) or [] if job.batch in marks}) if marks else []


class Local(Submission):
    """Coordinators of one worker each, in processes that outlive this one."""

    def submit(self) -> int:
        """Start as many as fit or are asked for."""
        left, o = self.missing(set()), self.o
        cuda = self.suite.training.device == "cuda"
        devices = local.devices(self.suite, o.jobs) if cuda else [None] * (o.jobs or local.default_workers(self.suite))
        slots = devices[: len(left)]
        print(f"{self.suite.name}: {len(left)} of {len(self.wanted)} runs missing, {len(slots)} jobs on local")
        if o.dry_run or not left:
            print(*(f"  {run.id}" for run in left), sep="\n", end="\n" if left else "")
            return 0
        code = self.prepare()
        executor = submitit.AutoExecutor(folder=self.sweep.path / "jobs", cluster="local")
        executor.update_parameters(
            timeout_min=o.time or LOCAL_TIME, name=self.suite.name, gpus_per_node=o.gpus_per_node
        )
        with chdir(code), _forgotten(left, self.sweep), _own_streams(), executor.batch():
            works = [Work(*self.where, o.only, o.tracking, devices=one) for one in slots]
            submitted = [executor.submit(work) for work in works]
        jobs = [{"id": job.job_id, "started": psutil.Process(int(job.job_id)).create_time()} for job in submitted]
        batch = {"batch": secrets.token_hex(6), "cluster": "local", "kind": "workers", "code": code.name}
        self.sweep.remember(batch | {"jobs": jobs})
        print(*(f"  job {job['id']}" for job in jobs), self.follow(), sep="\n")
        return 0


@contextmanager
def _forgotten(runs: list[Run], sweep: SweepFolder) -> Iterator[None]:
    """Before their jobs start the failures of runs are forgotten; they are put back if no job came of it."""
    paths = [run.folder(sweep.path.parent).error for run in runs]
    failures = {path: path.read_text() for path in paths if path.is_file()}
    for path in failures:
        path.unlink()
    try:
        yield
    except Exception:
        for path, text in failures.items():
            path.write_text(text)
        raise


def _describe(arrays: list[tuple[str, list[list[Run]]]], executor: submitit.AutoExecutor) -> None:
    """The arrays and their sbatch lines, as submitit writes them."""
    writer: Any = executor._executor
    for kind, elements in arrays:
        writer.parameters |= {"map_count": len(elements) if len(elements) > 1 else None}
        text = writer._make_submission_file_text("", "")
        runs = sum(map(len, elements))
        print(f"{kind}: {len(elements)} jobs, {runs} runs" + ("; after the pilots" if kind == "comparisons" else ""))
        print(*(f"  {line}" for line in text.splitlines() if line.startswith("#SBATCH")), sep="\n")
        print(*(f"  {k}: {' '.join(run.id for run in element)}" for k, element in enumerate(elements)), sep="\n")
    print("report: 1 job, after all of them")


@contextmanager
def _no_outer_job() -> Iterator[None]:
    """Submitting from inside a job would inherit its SLURM_ variables; where the cluster is must stay."""
    kept = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


@contextmanager
def _own_streams() -> Iterator[None]:
    """What is started here inherits no stream of ours: it would hold a pipe open that somebody reads to its end."""
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
    sweep = SweepFolder(root, name)
    if not sweep.batches():
        raise BadInput(f"suite: {name!r} has no submitted jobs in {root}")
    with _alone(sweep, dry_run):  # not in the midst of a submission
        jobs = list(slurm.queued(sweep))
        if jobs and not dry_run:
            slurm.cancel(jobs)
        here = [job for batch in sweep.batches() if batch["cluster"] == "local" for job in batch["jobs"]]
        ended = len(jobs) + sum(_end_local(job, dry_run) for job in here)
    print(f"{name}: {ended} jobs {'would be ended' if dry_run else 'ended'}")
    return 0


def _end_local(job: dict[str, Any], dry_run: bool) -> bool:
    """End a local job and all its processes, if it is still that job: process ids are handed out again."""
    try:
        process = psutil.Process(int(job["id"]))
        if process.create_time() != job["started"] or process.status() == psutil.STATUS_ZOMBIE:
            return False
        everything = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for one in [] if dry_run else everything:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)  # runs go on from their last checkpoints
    return True
