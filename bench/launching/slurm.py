"""What SLURM says: its limits, its partitions, and the jobs of a suite. Asks its own commands; works without sacct."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.errors import BadInput, unknown

PREFIX = "skipbench-"  # of a job's name; the suite follows
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
WAIT = 20  # seconds that a question may take


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


def submitted(folder: Path) -> list[dict]:
    """The batches written down in the folder of a suite: cluster, kind, code, jobs with their runs."""
    path = folder / "submitted.json"
    return json.loads(path.read_text()) if path.is_file() else []


def queue(suite: str) -> dict[str, str] | None:
    """Job id (ARRAY_ELEMENT or plain) to state, for the jobs of a suite that are pending or running; None without an answer."""
    text = ask("squeue", "-h", "-r", "--me", "-o", "%F|%K|%T|%r|%j")
    if text is None:
        return None
    found = {}
    for line in text.splitlines():
        array, element, state, reason, name = line.split("|", 4)
        if name == PREFIX + suite:
            told = f"{state} ({reason})" if state == "PENDING" and reason not in ("None", "") else state
            found[array if element == "N/A" else f"{array}_{element}"] = told
    return found


def history(ids: Iterable[str]) -> dict[str, str]:
    """Job id to state from accounting; empty where the site has none."""
    arrays = sorted({job.partition("_")[0] for job in ids})
    text = ask("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(arrays)) if arrays else None
    return dict(line.split("|", 1) for line in (text or "").splitlines() if "|" in line)


def of_runs(folder: Path) -> dict[str, tuple[str, str]]:
    """Run to (job, what the scheduler says of it), the latest job of each; unknown states are an empty string."""
    jobs = {run: job["id"] for batch in submitted(folder) if batch["cluster"] == "slurm"
            for job in batch["jobs"] for run in job["runs"]}
    if not jobs:
        return {}
    states = queue(folder.name) or {}
    if ended := [job for job in jobs.values() if job not in states]:
        states = history(ended) | states
    return {run: (job, states.get(job, "")) for run, job in jobs.items()}


def queued(folder: Path) -> dict[str, list[str]]:
    """Job id to its runs, for the jobs that we submitted and that are still pending or running.

    BadInput where the queue cannot be seen: to take it for empty would submit everything again, or cancel nothing.
    """
    ours = {job["id"]: job["runs"] for batch in submitted(folder) if batch["cluster"] == "slurm" for job in batch["jobs"]}
    states = queue(folder.name) if ours else {}
    if states is None:
        raise BadInput(f"{folder / 'submitted.json'}: names {len(ours)} jobs on slurm, but squeue gives no answer; try again")
    return {job: runs for job, runs in ours.items() if job in states}


def strays(folder: Path) -> list[str]:
    """Ids of our jobs in the queue that nobody wrote down: the submission was ended between sbatch's answer and its record.

    Ours by the suite's name and by where they were submitted from, a snapshot in the suite's folder.
    """
    if not (folder / "code").is_dir():
        return []
    known = {job["id"] for batch in submitted(folder) for job in batch["jobs"]}
    mark, found = f"{PREFIX}{folder.name}|{folder.resolve() / 'code'}/", []
    for line in (ask("squeue", "-h", "-r", "--me", "-o", "%F|%K|%j|%Z") or "").splitlines():
        array, element, rest = (line.split("|", 2) + ["", ""])[:3]
        job = array if element == "N/A" else f"{array}_{element}"
        found += [job] if rest.startswith(mark) and job not in known else []
    return found


def largest_array() -> int | None:
    """The site's MaxArraySize: one more than the largest index."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found[1]) if found else None


def check_partition(name: str | None, minutes: int) -> None:
    """BadInput for a partition that does not exist, or whose limit is below the time asked for."""
    text = ask("sinfo", "-a", "-h", "-o", "%P|%l")  # a star marks the default
    if text is None:
        raise BadInput("--cluster: 'slurm' has sbatch here, but sinfo gets no answer from its controller")
    found = dict(line.split("|") for line in text.split())
    limits = {key.rstrip("*"): value for key, value in found.items()}
    names = name.split(",") if name else [key.rstrip("*") for key in found if key.endswith("*")]
    for one in names:  # of several, the job starts where it can first
        if one not in limits:
            raise unknown("--partition", one, sorted(limits))
    longest = max((_minutes(limits[one]) for one in names), default=math.inf)
    if minutes > longest:  # such a job would wait for ever
        raise BadInput(f"--time: {minutes} minutes is more than the {longest} that partition {','.join(names)} allows")


def _minutes(text: str) -> float:
    """Minutes of SLURM's [days-]hours:minutes:seconds; inf for infinite."""
    if ":" not in text:  # infinite, or whatever a site says instead of a time
        return math.inf
    days, _, clock = text.rpartition("-")
    hours, minutes, _ = ([0, 0, 0, *map(int, clock.split(":"))])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes


def check_shared(folders: dict[str, Path], options: list[str]) -> None:
    """BadInput if a node does not see what is written into a folder here. Asked of a node that is free at once.

    folders: what gives each of them (`--root`) to the folder.
    """
    with ExitStack() as stack:
        markers = []
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            markers.append(stack.enter_context(tempfile.NamedTemporaryFile(dir=folder.resolve(), prefix=".shared.")).name)
        command = ["srun", *options, "--immediate=10", "--nodes=1", "--ntasks=1", "--time=1", "--job-name=skipbench-check",
                   "--chdir=/", "--quiet", "sh", "-c", 'for file; do test -f "$file" && echo seen || echo unseen; done', "sh", *markers]
        said = (ask(*command, wait=40) or "").split()
    if len(said) != len(markers):
        print(f"no node was free at once to see whether it shares {' and '.join(map(str, folders.values()))}; "
              "jobs that cannot see them will fail at once")
        return
    for (option, folder), word in zip(folders.items(), said, strict=True):
        if word == "unseen":
            raise BadInput(f"{option}: {str(folder)!r} is not shared: a node of the cluster does not see what is written there; "
                           "choose a folder on a file system of all nodes")
