"""Jobs through submitit. Ours are those of the batches in runs/SUITE/submitted.json, by the mark in their comment.

local: coordinators of one worker each, in processes that outlive this one. slurm: pilots, then the comparisons that
depend on them, look by look if the suite gives looks, then the report, as job arrays; each element owns its runs, first
finishes what they wait for (pilots, runs of the looks before), and ends at once where they are not needed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext, redirect_stderr, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import submitit

from bench.diffusion.loader import THREADS
from bench.errors import BadInput
from bench.launching import cluster_profile, local, slurm
from bench.launching.job import BLOCKED, Work, write_report
from bench.launching.looks import Looks
from bench.launching.sweep_folder import SweepFolder
from bench.launching.time_limit import words
from bench.planning import suite_file
from bench.planning.plan import plan, select, with_pilots
from bench.planning.suite import SuiteFile
from bench.runs import source_code
from bench.runs.run_spec import Run
from reports.records.files import write_json
from reports.records.lease import Lease
from reports.records.run_folder import State

LOCAL_TIME = 365 * 24 * 60  # minutes; submitit ends a local job after three requeues at its time
# Submitit counts a preemption near the end of the time as a timeout; our own record says what goes forward.
REQUEUES = 1000
FORBIDDEN = set("%\\\n\r")  # letters that mean something else in the names of a job's log files
# Options that say something to one cluster alone, with what stands in them if nobody gives them.
FOR_SLURM = ("partition", "account", "qos", "nodes", "gpus_per_node", "array_parallelism", "runs_per_job", "set")
ONLY: dict[str, dict[str, Any]] = {"slurm": dict.fromkeys(FOR_SLURM), "local": {"jobs": None}}
ONLY["slurm"]["profile"] = "slurm"
PLACE = ("partition", "account", "qos")  # what decides whether a job may start
SUITES = Path("bench", "suites")  # in the copy of the code
Arrays = list[tuple[str, list[list[Run]]]]  # of each its kind, and its elements with their runs


def submit(suite: SuiteFile, o: argparse.Namespace) -> int:
    """Submit jobs for what is missing and nobody has; returns 0. Safe to call again, and twice at the same moment."""
    if o.tracking and not o.tracking.startswith(("http://", "https://")):
        told = "jobs open no database; give the http address of a tracking server, or run sync beside them"
        raise BadInput(f"--tracking: {o.tracking!r}: {told}")
    for cluster, defaults in ONLY.items():
        given = [f"--{key.replace('_', '-')}" for key, default in defaults.items() if getattr(o, key) != default]
        if given and cluster != o.cluster:
            raise BadInput(f"{', '.join(given)}: for --cluster {cluster} alone, and this is {o.cluster}; leave it out")
    submission: Slurm | Local = Slurm(suite, o) if o.cluster == "slurm" else Local(suite, o)
    with _alone(submission.sweep, o.dry_run):
        return submission.submit()


def _alone(sweep: SweepFolder, dry_run: bool) -> AbstractContextManager[object]:
    """One submission of a suite at a time: the second sees what the first put into the queue."""
    return nullcontext() if dry_run else Lease(sweep.path / ".submitting", wait=600.0)


@contextmanager
def _no_outer_job() -> Iterator[None]:
    """Submitting from inside a job would inherit its SLURM_ variables; where the cluster is must stay."""
    kept = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(kept)
        yield


class Submission:
    """What both clusters share: the runs that are wanted, and where jobs find code, runs and data."""

    def __init__(self, suite: SuiteFile, o: argparse.Namespace) -> None:
        self.own, self.o = suite, o
        self.suite = local.widened(suite, o.root, o.arm)
        self.everything = plan(self.suite)
        self.wanted = with_pilots(self.everything, select(self.everything, o.only))
        self.sweep = SweepFolder(Path(o.root).resolve(), suite.name)
        self.sweep.check(self.suite, self.everything)
        self.where = f"{shlex.quote(suite.name)} --root {shlex.quote(str(o.root))}"

    def missing(self, held: set[str]) -> list[Run]:
        """Runs to submit: not done, not known to be unneeded, in no job of ours; failed ones only if asked for."""
        looks = Looks(self.everything, self.sweep.path.parent)
        looks.refresh()
        states = {run.id: looks.state(run) for run in self.wanted}
        over = {name for name, state in states.items() if state.done or state is State.UNNEEDED}
        left = [run for run in self.wanted if run.id not in over | held]
        kept = [run for run in left if self.o.retry == "failed" or states[run.id] is not State.FAILED]
        if failed := len(left) - len(kept):
            print(f"{failed} runs failed and are left out; --retry failed submits them again")
        return kept

    def prepare(self) -> Path:
        """Prepare data and folders; copy code and suite: jobs start from them, even days later. Returns that folder."""
        local.prepare(self.own, self.suite, self.wanted, self.o.root, self.o.data)
        content = suite_file.read(self.suite.path) | {"arms": self.suite.arms}
        text = json.dumps(content, indent=1, ensure_ascii=False)  # YAML, too
        file = f"{self.suite.name}.yaml"
        name = hashlib.blake2b((source_code.digest() + text).encode(), digest_size=6).hexdigest()
        folder = self.sweep.path / "code" / name
        if not folder.is_dir():
            partial = folder.with_name(f".{name}")  # renamed when it is whole; one submission at a time comes here
            shutil.rmtree(partial, ignore_errors=True)
            (partial / SUITES).mkdir(parents=True)
            (partial / SUITES / file).write_text(text, encoding="utf-8")
            for path in source_code.files():
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source_code.TREE / path, partial / path)
            write_json(partial / source_code.GIT, source_code.git_state())
            partial.rename(folder)
        if source_code.digest(folder) != source_code.digest():
            raise BadInput(f"{folder}: is not the code that it is named after; move it away to submit again")
        self.places = (str(folder / SUITES / file), str(self.sweep.path.parent), str(self.o.data.resolve()))
        return folder


class Slurm(Submission):
    """Job arrays."""

    def __init__(self, suite: SuiteFile, o: argparse.Namespace) -> None:
        super().__init__(suite, o)
        self.profile = cluster_profile.profile(o)
        if not all(map(shutil.which, ("sbatch", "srun"))):  # submitit wants both
            raise BadInput("--cluster: 'slurm' needs sbatch, which is not on this machine; choose local")
        if odd := FORBIDDEN & set(str(self.sweep.path)):
            told = f"SLURM cannot write into a folder with {min(odd)!r} in its name; choose another"
            raise BadInput(f"--root: {str(self.sweep.path)!r}: {told}")
        cells = [suite.of(cell) for cell in suite.cells]
        nodes, gpus = self.profile.nodes, self.profile.gpus_per_node
        for processes in {one.processes for one in cells}:
            if processes % nodes:
                told = f"{nodes} nodes cannot share the processes of a run, of which {suite.name} has {processes}"
                raise BadInput(f"--nodes: {told}; choose a divisor, or change `processes` in the suite")
            if suite.device == "cuda" and gpus and processes > nodes * gpus:
                told = f"{gpus} on each of {nodes} nodes are less than one for each of a run's {processes} processes"
                raise BadInput(f"--gpus-per-node: {told}; give {processes // nodes}")
        # Of every rank those that compute and those that read for it.
        cores = max(one.processes // nodes * (one.threads + THREADS[one.device]) for one in cells)
        self.settings = cluster_profile.parameters(self.profile, slurm.PREFIX + suite.name, cores)
        self.exported = cluster_profile.exported(self.settings)
        everything = self.settings | {name.lower(): value for name, value in self.exported.items()}
        if suite.device == "cuda" and not cluster_profile.asks_for_gpus(everything):
            told = f"{suite.name} trains on cuda, and its jobs would get no GPU; give it, or --set gres=..."
            raise BadInput(f"--gpus-per-node: {told}")

    @_no_outer_job()
    def submit(self) -> int:
        """Submit arrays of what is missing, and the report after them."""
        o = self.o
        os.environ.update(self.exported)
        held = {run for job in slurm.queued(self.sweep) for run in job.runs}
        left = self.missing(held)
        executor, arrays = self.executor(), self.arrays(left)
        said = {key: self.settings.get(f"slurm_{key}") or self.exported.get(f"SBATCH_{key.upper()}") for key in PLACE}
        options = [f"--{key}={value}" for key, value in said.items() if value]
        options += [f"--nodes={self.profile.nodes}"] if self.profile.nodes > 1 else []
        given = o.time or any(word.startswith(("time=", "timeout_min=")) for word in o.set or ())
        source = "" if given else f" (the default of profile {o.profile!r})"
        slurm.check_accepted(options, self.settings["timeout_min"], source)
        jobs = sum(len(elements) for _, elements in arrays)
        queued = f"; {len(held)} runs are in the queue already" if held else ""
        told = f"{len(left)} of {len(self.wanted)} runs to submit, {jobs} jobs in {len(arrays)} arrays on slurm"
        print(f"{self.suite.name}: {told}{queued}; time limit of a job: {words(self.settings['timeout_min'])}")
        if self.o.dry_run:
            _describe(arrays, executor, self.kinds)
        elif left or (held and not self.waiting("report")):
            slurm.check_shared({"--root": Path(self.o.root), "--data": Path(self.o.data)}, options)
            code = self.prepare()
            with chdir(code):  # a job starts where it was submitted, and imports what lies there
                self.submit_arrays(arrays)
            print(f"code {code.name}; follow them with: python -m bench status {self.where} --watch 10")
        return 0

    def arrays(self, left: list[Run]) -> Arrays:
        """Pilots before comparisons, a look before the next, no array longer than the site takes."""
        limit, size = self.profile.largest_array, self.profile.runs_per_job
        most = min(limit, slurm.largest_array() or limit)
        found = []
        for kind in self.kinds:
            runs = [run for run in left if self.kind(run) == kind]
            elements = [runs[k : k + size] for k in range(0, len(runs), size)]
            found += [(kind, elements[k : k + most]) for k in range(0, len(elements), most)]
        return found

    def kind(self, run: Run) -> str:
        """What the array of a run is called."""
        if run.role == "pilot":
            return "pilots"
        return f"look {run.look + 1}" if self.suite.looks else "comparisons"

    @property
    def kinds(self) -> list[str]:
        """All of them, each after those that it depends on."""
        return list(dict.fromkeys(map(self.kind, self.everything)))

    def submit_arrays(self, arrays: Arrays) -> None:
        """Every array as soon as the ids are there that it depends on."""
        # What waits for pilots or a look also waits for those that an earlier call submitted.
        earlier = {kind: self.waiting(kind) for kind in self.kinds}
        patience = 0.8 * self.profile.signal_delay
        for kind, elements in arrays:
            only = [",".join(f"run={run.id}" for run in runs) for runs in elements]
            works = [Work(*self.places, text, self.o.tracking, patience) for text in only]
            with _forgotten([run for runs in elements for run in runs], self.sweep):
                before = self.kinds[: self.kinds.index(kind)]
                array = self.sbatch(kind, works, elements, [job for one in before for job in earlier[one]])
            earlier[kind].append(array)
        report = partial(write_report, self.suite.name, str(self.sweep.path.parent))
        self.sbatch("report", [report], [[]], [job for those in earlier.values() for job in those])

    def sbatch(self, kind: str, works: list[Any], elements: list[list[Run]], after: list[str]) -> str:
        """Submit one array; returns its job id. No job is ever lost: its mark is written down first."""
        mark, runs = secrets.token_hex(6), [[run.id for run in element] for element in elements]
        batch = {"batch": mark, "cluster": "slurm", "kind": kind, "code": Path.cwd().name, "elements": runs}
        executor = self.executor(kind, after, mark)
        self.sweep.remember(batch | {"job": None})
        try:
            with redirect_stderr(io.StringIO()):  # what sbatch says is in the error
                jobs = executor.submit_array(works)
        except submitit.core.utils.FailedJobError as error:
            self.sweep.forget(mark)
            raise BadInput(f"sbatch refused the job: {' '.join(str(error).split())}") from None
        array = str(jobs[0].job_id).partition("_")[0]
        self.sweep.remember(batch | {"job": array})
        print(f"  {kind}: job {array}, {len(works)} elements" + (f", after {', '.join(after)}" if after else ""))
        return array

    def executor(self, kind: str = "", after: Sequence[str] = (), mark: str = "") -> submitit.AutoExecutor:
        """`afterany`: `afterok` on a failed pilot would wait for ever; the job itself looks at the target bands."""
        settings = dict(self.settings)
        if kind == "report":
            settings |= {"nodes": 1, "gpus_per_node": None, "cpus_per_task": 1}
        python = shlex.join([sys.executable, "-S", "-c", BLOCKED, sys.executable])
        options = {"slurm_max_num_timeout": REQUEUES, "slurm_python": python}
        executor = submitit.AutoExecutor(folder=self.sweep.path / "jobs" / "%j", cluster="slurm", **options)
        if mark:
            settings["slurm_comment"] = f"{mark} {settings.get('slurm_comment', '')}".strip()
        if after:
            settings["slurm_dependency"] = "afterany:" + ":".join(after)
        try:
            executor.update_parameters(**settings)
        except AssertionError as error:  # submitit's way to refuse a parameter
            raise BadInput(f"--set: {str(error).splitlines()[0]}") from None
        return executor

    def waiting(self, kind: str) -> list[str]:
        """Arrays of a kind that we submitted before and that are still in the queue."""
        return sorted({job.array for job in slurm.queued(self.sweep) if job.kind == kind})


class Local(Submission):
    """Coordinators of one worker each, in processes that outlive this one."""

    def submit(self) -> int:
        """Start as many as fit or are asked for."""
        left, o = self.missing(set()), self.o
        cuda = self.suite.device == "cuda"
        devices = local.devices(self.suite, o.jobs) if cuda else [None] * (o.jobs or local.default_workers(self.suite))
        slots = devices[: len(left)]
        limit = f"; time limit of a job: {words(o.time)}" if o.time else ""
        print(f"{self.suite.name}: {len(left)} of {len(self.wanted)} runs missing, {len(slots)} jobs on local{limit}")
        if o.dry_run or not left:
            print(*(f"  {run.id}\n" for run in left), sep="", end="")
            return 0
        code = self.prepare()
        executor = submitit.AutoExecutor(folder=self.sweep.path / "jobs", cluster="local")
        executor.update_parameters(timeout_min=o.time or LOCAL_TIME, name=self.suite.name)
        works = [Work(*self.places, o.only, o.tracking, devices=one) for one in slots]
        with chdir(code), _forgotten(left, self.sweep), _own_streams():
            ids = [job.job_id for job in executor.submit_array(works)]
        jobs = [{"id": job, "started": psutil.Process(int(job)).create_time()} for job in ids]
        batch = {"batch": secrets.token_hex(6), "cluster": "local", "kind": "workers", "code": code.name}
        self.sweep.remember(batch | {"jobs": jobs})
        print(*(f"  job {job}" for job in ids), sep="\n")
        print(f"follow them with: python -m bench status {self.where}")
        again = ["run", o.suite, f"--root={o.root}", f"--data={o.data}", *(f"--arm={arm}" for arm in o.arm or ())]
        print(f"then: python -m bench {shlex.join(again) if o.arm else f'report {self.where}'}")
        return 0


@contextmanager
def _forgotten(runs: list[Run], sweep: SweepFolder) -> Iterator[None]:
    """Before their jobs start the failures of runs are forgotten; they are put back if no job came of it."""
    errors = [run.folder(sweep.path.parent).error for run in runs]
    failures = {error: error.read_text() for error in errors if error.is_file()}
    for error in failures:
        error.unlink()
    try:
        yield
    except Exception:
        for error, text in failures.items():
            error.write_text(text)
        raise


def _describe(arrays: Arrays, executor: submitit.AutoExecutor, kinds: list[str]) -> None:
    """The arrays and their sbatch lines, as submitit writes them."""
    writer: Any = executor._executor
    for kind, elements in arrays:
        writer.parameters |= {"map_count": len(elements) if len(elements) > 1 else None}
        text = writer._make_submission_file_text("", "")
        runs, before = sum(map(len, elements)), kinds[: kinds.index(kind)][-1:]
        print(f"{kind}: {len(elements)} jobs, {runs} runs", *(f"after {one}" for one in before), sep="; ")
        print(*(f"  {line}" for line in text.splitlines() if line.startswith("#SBATCH")), sep="\n")
        print(*(f"  {k}: {' '.join(run.id for run in element)}" for k, element in enumerate(elements)), sep="\n")
    print("report: 1 job, after all of them")


@contextmanager
def _own_streams() -> Iterator[None]:
    """What is started here inherits no stream of ours: it would hold a pipe open that somebody reads to its end."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with open(os.devnull, "wb") as null:
        for number in kept:
            os.dup2(null.fileno(), number)
    try:
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def cancel(name: str, root: Path, dry_run: bool) -> int:
    """End the jobs written down for this suite, and only those."""
    sweep = SweepFolder(root, name)
    if not sweep.batches():
        raise BadInput(f"suite: {name!r} has no submitted jobs in {root}")
    with _alone(sweep, dry_run):  # not in the midst of a submission
        jobs = [job.id for job in slurm.queued(sweep)]
        if jobs and not dry_run:
            slurm.cancel(jobs)
        ended = len(jobs) + sum(_end_local(job, dry_run) for batch in sweep.batches("local") for job in batch["jobs"])
    print(f"{name}: {ended} jobs {'would be ended' if dry_run else 'ended'}")
    return 0


def _end_local(job: dict[str, Any], dry_run: bool) -> bool:
    """End a local job and all its processes, if it is still that job: process ids are handed out again."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(job["id"]))
        if process.create_time() == job["started"] and process.status() != psutil.STATUS_ZOMBIE:
            for one in [] if dry_run else [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()  # runs go on from their last checkpoints
            return True
    return False
