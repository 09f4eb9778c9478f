"""What SLURM says: its limits, its partitions, and the jobs of a suite. Asks its own commands; works without sacct."""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput
from bench.launching import time_limit
from bench.launching.sweep_folder import SweepFolder

PREFIX = "skipbench-"  # of a job's name; the suite follows
MARK = "skipbench|"  # begins every line of an answer that is ours: sites add banners of their own
FILTERS = ("SQUEUE_", "SINFO_", "SACCT_")  # variables that leave jobs or columns out of an answer
WAIT = 20.0  # seconds that a question may take
# What a node does to say which of the files that it is given it sees.
LOOK = f'for file; do test -f "$file" && echo "{MARK}seen" || echo "{MARK}unseen"; done'


@dataclass(frozen=True)
class Job:
    """A job of ours. id: ARRAY_ELEMENT, or ARRAY. batch, kind: of its submission. state: what the scheduler says."""

    id: str
    array: str
    batch: str
    kind: str
    state: str
    runs: list[str]


def ask(*command: str, wait: float = WAIT) -> str | None:
    """What a command prints, None if it is not there, fails or does not answer."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(FILTERS)}
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=wait, env=own)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _ours(said: str | None) -> list[str]:
    """The lines of an answer that begin with our mark, without it."""
    lines = (said or "").splitlines()
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]


def queue(sweep: SweepFolder) -> list[Job] | None:
    """Jobs of our batches that are pending or running, by the mark in their comment; None without an answer."""
    batches, found = {batch["batch"]: batch for batch in sweep.batches("slurm")}, []
    text = ask("squeue", "-h", "-r", "--me", "-o", f"{MARK}%F|%K|%T|%r|%k|%j") if batches else ""
    for line in _ours(text):
        if line.endswith(f"|{PREFIX}{sweep.path.name}"):
            array, element, state, reason, comment = line.split("|", 4)
            told = f"{state} ({reason})" if state == "PENDING" and reason not in ("None", "") else state
            job, index = (array, 0) if element == "N/A" else (f"{array}_{element}", int(element))
            if batch := batches.get(mark := re.split("[ |]", comment)[0]):
                found.append(Job(job, array, mark, batch["kind"], told, batch["elements"][index]))
    return None if text is None else found


def queued(sweep: SweepFolder) -> list[Job]:
    """The same; BadInput without an answer: to take it for an empty queue would submit everything again."""
    if (jobs := queue(sweep)) is None:
        count = len(sweep.batches("slurm"))
        raise BadInput(f"{sweep.submitted}: names {count} batches on slurm, but squeue gives no answer; try again")
    return jobs


def of_runs(sweep: SweepFolder) -> dict[str, tuple[str, str]]:
    """Run to (job, what the scheduler says of it), the latest job of each; unknown states are an empty string."""
    live = queue(sweep) or []
    jobs: dict[str, str] = {}  # by run
    arrays = {job.batch: job.array for job in live}
    for batch in sweep.batches("slurm"):
        if array := batch["job"] or arrays.get(batch["batch"]):
            several = len(batch["elements"]) > 1
            for index, runs in enumerate(batch["elements"]):
                jobs |= dict.fromkeys(runs, f"{array}_{index}" if several else array)
    jobs |= {run: job.id for job in live for run in job.runs}
    states = {job.id: job.state for job in live}
    if ended := sorted({job.partition("_")[0] for job in jobs.values() if job not in states}):
        said = ask("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(ended)) or ""  # not on every site
        states = {job: state for job, _, state in (line.partition("|") for line in said.splitlines())} | states
    return {run: (job, states.get(job, "")) for run, job in jobs.items()}


def largest_array() -> int | None:
    """The site's MaxArraySize: one more than the largest index."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found[1]) if found else None


def check_accepted(options: list[str], minutes: int, source: str = "") -> None:
    """BadInput if sbatch would refuse a job of these options (partition, account, ...), or one of so many minutes.

    source: where the minutes come from, if nobody gave them. By default a site takes a job that is longer than its
    partition allows, and lets it wait for ever.
    """
    command = ["sbatch", "--test-only", *options, f"--time={minutes}", "--wrap=true"]
    nobody = BadInput("--cluster: 'slurm': no SLURM controller answers sbatch here; run this on a login node")
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=WAIT)
    except subprocess.TimeoutExpired:
        raise nobody from None
    asked = time_limit.words(minutes) + source
    if done.returncode:
        if (listed := ask("sinfo", "-a", "-h", "-o", f"{MARK}%R up to %l")) is None and not largest_array():
            raise nobody
        said, given = " ".join(done.stderr.split()).replace("sbatch: error: ", ""), " ".join(command[2:-1])
        known, time = ", ".join(_ours(listed)) or "unknown", f"; --time is {asked}" if source else ""
        raise BadInput(f"{given}: sbatch would refuse it: {said}{time}; partitions: {known}")
    if found := re.search(r"in partition (\S+)", done.stderr):
        name = next((word.partition("=")[2] for word in options if word.startswith("--partition=")), found[1])
        limits = [_limit(text) for text in _ours(ask("sinfo", "-h", "-p", name, "-o", f"{MARK}%l"))]
        if limits and minutes > max(limits):
            most = time_limit.words(int(max(limits)))
            raise BadInput(f"--time: {asked} is more than the {most} that partition {name} allows")


def _limit(text: str) -> float:
    """Minutes of a partition's limit; infinite for other words."""
    with suppress(ValueError):
        return time_limit.minutes(text)
    return math.inf


def _marker(folder: Path, stack: ExitStack) -> str:
    """A file that is written into a folder; where that may only be read, something that lies in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(tempfile.NamedTemporaryFile(dir=folder.resolve(), prefix=".shared.")).name
    except OSError:
        if not (there := sorted(folder.resolve().glob("*"))):
            raise
        return str(there[0])


def check_shared(folders: dict[str, Path], options: list[str]) -> None:
    """BadInput if a node that is free at once does not see what is written into the folders, named by their options."""
    with ExitStack() as stack:
        markers = []
        for folder in folders.values():
            markers.append(_marker(folder, stack))
        command = ["srun", *options, "--immediate=10", "--nodes=1", "--ntasks=1", "--time=1", "--chdir=/", "--quiet"]
        words = _ours(ask(*command, f"--job-name={PREFIX}check", "sh", "-c", LOOK, "sh", *markers, wait=40))
    if len(words) != len(markers):
        names = " and ".join(map(str, folders.values()))
        print(f"no node was free at once to see whether it shares {names}; jobs that cannot see them will fail at once")
        return
    for (option, folder), word in zip(folders.items(), words, strict=True):
        if word == "unseen":
            why = "is not shared: a node of the cluster does not see what is written there"
            raise BadInput(f"{option}: {str(folder)!r} {why}; choose a folder on a file system of all nodes")


def cancel(jobs: Iterable[str]) -> None:
    """End jobs. BadInput if SLURM does not do it; jobs that end by themselves at this moment are no fault."""
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
    faults = [line for line in done.stderr.splitlines() if not re.search("already completing|Invalid job id", line)]
    if done.returncode and faults:
        raise BadInput(f"scancel failed, jobs may still run: {faults[0]}")
