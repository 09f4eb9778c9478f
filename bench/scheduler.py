"""What SLURM says: its limits, its partitions, and the jobs of a suite. Asks its own commands; works without sacct."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.errors import BadInput, unknown

PREFIX = "skipbench-"  # of a job's name; the suite follows
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
WAIT = 20  # seconds that a question may take


def present() -> bool:
    """Whether this machine can submit."""
    return shutil.which("sbatch") is not None


def ask(*command: str, wait: float = WAIT) -> str | None:
    """What a command prints, None if it is not there, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=wait)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def submitted(folder: Path) -> list[dict]:
    """The batches written down in the folder of a suite: cluster, kind, code, jobs with their runs."""
    path = folder / "submitted.json"
    return json.loads(path.read_text()) if path.is_file() else []


def queue(suite: str) -> dict[str, str]:
    """Job id (ARRAY_ELEMENT or plain) to state, for the jobs of a suite that are pending or running."""
    text = ask("squeue", "-h", "-r", "--me", "-n", PREFIX + suite, "-o", "%F|%K|%T|%r") or ""
    found = {}
    for line in text.splitlines():
        array, element, state, reason = line.split("|", 3)
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
    states = queue(folder.name)
    if ended := [job for job in jobs.values() if job not in states]:
        states = history(ended) | states
    return {run: (job, states.get(job, "")) for run, job in jobs.items()}


def queued(folder: Path) -> dict[str, list[str]]:
    """Job id to its runs, for the jobs that we submitted and that are still pending or running."""
    states = queue(folder.name)
    return {job["id"]: job["runs"] for batch in submitted(folder) if batch["cluster"] == "slurm"
            for job in batch["jobs"] if job["id"] in states}


def largest_array() -> int | None:
    """The site's MaxArraySize: one more than the largest index."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found[1]) if found else None


def check_partition(name: str | None, minutes: int) -> None:
    """BadInput for a partition that does not exist, or whose limit is below the time asked for."""
    text = ask("sinfo", "-h", "-o", "%P|%l")  # a star marks the default
    if text is None:
        raise BadInput("--cluster: 'slurm' has sbatch here, but sinfo gets no answer from its controller")
    found = dict(line.split("|") for line in text.split())
    limits = {key.rstrip("*"): value for key, value in found.items()}
    if name is None:
        name = next((key.rstrip("*") for key in found if key.endswith("*")), None)
        if name is None:
            return
    if name not in limits:
        raise unknown("--partition", name, sorted(limits))
    longest = _minutes(limits[name])
    if longest is not None and minutes > longest:  # such a job would wait for ever
        raise BadInput(f"--time: {minutes} minutes is more than the {longest} that partition {name} allows")


def _minutes(text: str) -> int | None:
    """Minutes of SLURM's [days-]hours:minutes:seconds; None for infinite."""
    if text == "infinite":
        return None
    days, _, clock = text.rpartition("-")
    hours, minutes, _ = ([0, 0, 0, *map(int, clock.split(":"))])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes


def check_shared(root: Path, options: list[str]) -> None:
    """BadInput if a node does not see what is written into ROOT here. Asked of a node that is free at once."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=root, prefix=".shared.") as marker:
        command = ["srun", *options, "--immediate=10", "--nodes=1", "--ntasks=1", "--time=1", "--job-name=skipbench-check",
                   "--chdir=/", "--quiet", "sh", "-c", f"test -f '{Path(marker.name).resolve()}' && echo seen || echo unseen"]
        said = (ask(*command, wait=40) or "").split()
    if "unseen" in said:
        raise BadInput(f"--root: {str(root)!r} is not shared: a node of the cluster does not see what is written there; "
                       "choose a folder on a file system of all nodes")
    if "seen" not in said:
        print(f"no node was free at once to see whether it shares {root}; jobs that cannot see it will fail at once")
