"""What SLURM says: its limits, its partitions, and the jobs of a suite. Asks its own commands; works without sacct."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput
from bench.launching.sweep_folder import SweepFolder

PREFIX = "skipbench-"  # of a job's name; the suite follows
MARK = "skipbench|"  # begins every line of an answer that is ours: sites add banners of their own
WAIT = 20.0  # seconds that a question may take


@dataclass(frozen=True)
class Job:
    """A job of ours. id: ARRAY_ELEMENT or plain. state: what the scheduler says. batch: the mark of its submission."""

    id: str
    state: str
    batch: str

    @property
    def array(self) -> str:
        """The array that the job is an element of, or its own id."""
        return self.id.partition("_")[0]

    @property
    def element(self) -> int:
        """Its place in the array."""
        return int(self.id.partition("_")[2] or 0)


def present() -> bool:
    """Whether this machine can submit."""
    return all(map(shutil.which, ("sbatch", "srun")))  # submitit wants both


def ask(*command: str, wait: float = WAIT) -> str | None:
    """What a command prints, None if it is not there, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=wait)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _ours(said: str | None) -> list[str]:
    """The lines of an answer that begin with our mark, without it."""
    lines = (said or "").splitlines()
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]


def queue(suite: str) -> list[Job] | None:
    """Jobs of a suite that are pending or running, by name and by the mark in their comment; None without an answer."""
    text = ask("squeue", "-h", "-r", "--me", "-o", f"{MARK}%F|%K|%T|%r|%k|%j")
    if text is None:
        return None
    found = []
    for line in _ours(text):
        if line.endswith(f"|{PREFIX}{suite}"):
            array, element, state, reason, rest = line.split("|", 4)
            told = f"{state} ({reason})" if state == "PENDING" and reason not in ("None", "") else state
            found.append(
                Job(array if element == "N/A" else f"{array}_{element}", told, rest.partition(" ")[0].partition("|")[0])
            )
    return found


def history(ids: Iterable[str]) -> dict[str, str]:
    """Job id to state from accounting; empty where the site has none."""
    arrays = sorted({job.partition("_")[0] for job in ids})
    text = ask("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(arrays)) if arrays else None
    return {job: state for job, bar, state in (line.partition("|") for line in (text or "").splitlines()) if bar}


def queued(sweep: SweepFolder) -> dict[str, list[str]]:
    """Job id to its runs, for the jobs of our submissions that are still pending or running.

    BadInput where the queue cannot be seen: to take it for empty would submit everything again, or cancel nothing.
    """
    batches = {batch["batch"]: batch for batch in sweep.batches() if batch["cluster"] == "slurm"}
    jobs = queue(sweep.path.name) if batches else []
    if jobs is None:
        path = sweep.path / "submitted.json"
        raise BadInput(f"{path}: names {len(batches)} batches on slurm, but squeue gives no answer; try again")
    return {job.id: _runs(batches[job.batch], job) for job in jobs if job.batch in batches}


def _runs(batch: dict[str, list[list[str]]], job: Job) -> list[str]:
    elements = batch["elements"]
    return elements[job.element] if job.element < len(elements) else []


def of_runs(sweep: SweepFolder) -> dict[str, tuple[str, str]]:
    """Run to (job, what the scheduler says of it), the latest job of each; unknown states are an empty string."""
    live = {job.id: job for job in queue(sweep.path.name) or []}
    ids: dict[str, str] = {}  # run to job
    for batch in sweep.batches():
        if batch["cluster"] == "slurm":
            jobs = [job for job in live.values() if job.batch == batch["batch"]]
            arrays = {job.array for job in jobs} | {batch["job"]} - {None}
            for array in arrays:
                several = len(batch["elements"]) > 1
                ids |= {
                    run: f"{array}_{k}" if several else array
                    for k, runs in enumerate(batch["elements"])
                    for run in runs
                }
    ended = history({job for job in ids.values() if job not in live}) if ids else {}
    return {run: (job, live[job].state if job in live else ended.get(job, "")) for run, job in ids.items()}


def largest_array() -> int | None:
    """The site's MaxArraySize: one more than the largest index."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found[1]) if found else None


def check_accepted(options: list[str], minutes: int) -> None:
    """BadInput if sbatch would refuse a job of these options (partition, account, ...), or one of so many minutes.

    By default a site takes a job that is longer than its partition allows, and lets it wait for ever.
    """
    command = ["sbatch", "--test-only", *options, f"--time={minutes}", "--wrap=true"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=WAIT)
    except subprocess.TimeoutExpired:
        raise BadInput("--cluster: 'slurm' has sbatch here, but its controller gives no answer") from None
    if done.returncode:
        said, asked = " ".join(done.stderr.split()).replace("sbatch: error: ", ""), " ".join(command[2:-1])
        known = ", ".join(_ours(ask("sinfo", "-a", "-h", "-o", f"{MARK}%R up to %l"))) or "unknown"
        raise BadInput(f"{asked}: sbatch would refuse it: {said}; partitions: {known}")
    if found := re.search(r"in partition (\S+)", done.stderr):
        name = next((word.partition("=")[2] for word in options if word.startswith("--partition=")), found[1])
        limits = [_minutes(text) for text in _ours(ask("sinfo", "-h", "-p", name, "-o", f"{MARK}%l"))]
        if limits and minutes > max(limits):
            raise BadInput(f"--time: {minutes} minutes is more than the {max(limits)} that partition {name} allows")


def _minutes(text: str) -> float:
    """Of SLURM's [DAYS-][[HOURS:]MINUTES:]SECONDS; infinite for other words."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return math.inf
    hours, minutes, _ = map(int, ["0", "0", *parts][-3:])
    return (int(days or 0) * 24 + hours) * 60 + minutes


def check_shared(folders: dict[str, Path], options: list[str]) -> None:
    """BadInput if a node does not see what is written into a folder here. Asked of a node that is free at once.

    folders: what gives each of them (`--root`) to the folder.
    """
    with ExitStack() as stack:
        markers = []
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            found = folder.resolve()
            markers.append(stack.enter_context(tempfile.NamedTemporaryFile(dir=found, prefix=".shared.")).name)
        script = f'for file; do test -f "$file" && echo "{MARK}seen" || echo "{MARK}unseen"; done'
        command = ["srun", *options, "--immediate=10", "--nodes=1", "--ntasks=1", "--time=1", "--chdir=/", "--quiet"]
        said = ask(*command, f"--job-name={PREFIX}check", "sh", "-c", script, "sh", *markers, wait=40)
        words = _ours(said)
    if len(words) != len(markers):
        print(
            f"no node was free at once to see whether it shares {' and '.join(map(str, folders.values()))}; "
            "jobs that cannot see them will fail at once"
        )
        return
    for (option, folder), word in zip(folders.items(), words, strict=True):
        if word == "unseen":
            raise BadInput(
                f"{option}: {str(folder)!r} is not shared: a node of the cluster does not see what is written there; "
                "choose a folder on a file system of all nodes"
            )


def cancel(jobs: Iterable[str]) -> None:
    """End jobs. BadInput if SLURM does not do it; jobs that end by themselves at this moment are no fault."""
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
    faults = [
        line for line in done.stderr.splitlines() if "already completing" not in line and "Invalid job id" not in line
    ]
    if done.returncode and faults:
        raise BadInput(f"scancel failed, jobs may still run: {faults[0]}")
