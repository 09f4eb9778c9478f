"""A sweep on the test cluster, and one long run that things happen to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from cluster import Cluster, parent, signalled, stopped, wait
from tiny_suite import TINY

from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Run
from reports.records.lease import process_id
from reports.records.run_folder import RunFolder
from tests.tools.chaos import outcome

HERE = Path(__file__).parents[2]
BUDGET, CHECKPOINTS = 40960, 16
LONG = {"budget": BUDGET, "cells": [{"dataset": "digits", "backbone": "uvit-xs"}]}
ONE = ("--only", "role=pilot,seed=100")


class Sweep:
    """A suite file, a folder of runs on the cluster, and the verbs on them."""

    def __init__(self, cluster: Cluster, folder: Path, data: Path, tree: Path = HERE) -> None:
        self.cluster, self.folder, self.root, self.data, self.tree = cluster, folder, folder / "runs", data, tree
        self.suite = ""

    def write(self, name: str, **changes: object) -> None:
        """A variant of the tiny suite."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}))
        self.suite = str(path)

    @property
    def name(self) -> str:
        """Of the suite."""
        return Path(self.suite).stem

    @property
    def path(self) -> Path:
        """The folder of the sweep."""
        return self.root / self.name

    def runs(self) -> list[Run]:
        """The plan."""
        return plan(suite_file.load(self.suite))

    def folders(self) -> list[RunFolder]:
        """Of the runs."""
        return [run.folder(self.root) for run in self.runs()]

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        """`python -m bench` on the cluster, not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *words],
            cwd=self.tree,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.cluster.environment | {"OMP_NUM_THREADS": "1"} | environment,
        )

    def bench(self, verb: str, *words: str, code: int = 0, **environment: str) -> str:
        """A verb on the suite; checks the exit code and returns what it printed."""
        process = self.start(
            verb, self.suite, "--root", str(self.root), "--data", str(self.data), *words, **environment
        )
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, out + err
        assert code != 2 or (err.startswith("error: ") and err.count("\n") == 1), err
        return out + err

    def submit(self, *words: str, **more: object) -> str:
        """Everything that is missing."""
        limit = () if "--time" in words or "--profile" in words else ("--time", "10")
        return self.bench("submit", "--cluster", "slurm", *words, *limit, **more)

    def batches(self) -> list[dict]:
        """What was submitted."""
        path = self.path / "submitted.json"
        return json.loads(path.read_text()) if path.is_file() else []

    def ids(self) -> list[str]:
        """Job ids, in the order of submission; arrays without their elements."""
        return [batch["job"] for batch in self.batches()]

    def wait(self, seconds: float = 300.0) -> None:
        """Until nothing of the suite is in the queue."""
        wait("the end of the jobs", self._is_over, seconds)

    def _is_over(self) -> bool:
        queued = self.cluster.ask("squeue", "-h", "-n", f"skipbench-{self.name}")
        return queued is not None and not queued.strip()

    def log(self) -> str:
        """What the jobs said, for a failed assertion."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.path.glob("jobs/*/*.err")))


class LongRun:
    """One run of about half a minute, submitted alone."""

    def __init__(self, sweep: Sweep, expected: tuple[str, list[dict]], **changes: object) -> None:
        self.sweep, self.expected = sweep, expected
        sweep.write("long", **LONG | changes)
        self.run = sweep.runs()[0]
        self.folder = self.run.folder(sweep.root)

    def submit(self, *words: str) -> str:
        """The run as a job of its own."""
        return self.sweep.submit(*ONE, "--set", "signal_delay_s=5", *words)

    def wait_checkpoints(self, count: int = 2, seconds: float = 120.0) -> None:
        """Until the job has saved this often."""
        wait("checkpoints", lambda: len(self.events("checkpoint")) >= count, seconds)

    def events(self, kind: str) -> list[dict]:
        """Of the log so far; a torn last line is left out."""
        path = self.folder.events
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        found = [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]
        return [event for event in found if event["event"] == kind]

    def owner(self) -> int:
        """Process id of the trainer."""
        found = process_id(self.folder.lock)
        assert found is not None
        return found

    def job_process(self) -> int:
        """The process that submitit runs in: it started the forkserver, which forked the trainer."""
        return parent(parent(self.owner()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the trainer until a signal of SLURM has come for it: on no machine is the run over before that."""
        owner = self.owner()
        os.kill(owner, signal.SIGSTOP)
        try:
            wait("the stop", lambda: stopped(owner), 10)
            yield
            wait("a warning", lambda: not stopped(owner) or signalled(owner), 120)
        finally:
            with suppress(ProcessLookupError):  # SLURM itself wakes what it preempts
                os.kill(owner, signal.SIGCONT)

    def node(self) -> str:
        """Where the job runs."""
        job = self.sweep.ids()[0]
        return (self.sweep.cluster.ask("squeue", "-h", "-j", job, "-o", "%N") or "").strip()

    def wait_done(self, seconds: float = 240.0) -> None:
        """Until the run's own record says so."""
        wait("the end of the run", self.folder.is_done, seconds)

    def check(self, resumes: int = 1) -> list[str]:
        """It was resumed and ends with the bits of the undisturbed run; returns the notes of its resumptions."""
        self.wait_done()
        assert outcome(self.run, self.sweep.root) == self.expected
        notes = [event["note"] for event in self.events("resume")]
        assert len(notes) == resumes, notes
        return notes
