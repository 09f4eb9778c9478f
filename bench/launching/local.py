"""Training a suite on this machine: a coordinator with a progress display, MLflow kept in step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import datasets
from bench.errors import BadInput
from bench.launching.coordinator import Coordinator
from bench.launching.process import held_back
from bench.launching.progress import Progress
from bench.launching.sweep_folder import SweepFolder
from bench.planning.plan import plan, select, with_pilots
from bench.planning.suite import Suite
from bench.runs.run_spec import Run
from bench.runs.source_code import TREE
from datasets.parallel import cores
from reports.records.event_log import read_events
from reports.records.run_folder import State


def run(suite: Suite, root: Path, data: Path, only: str | None, workers: int | None, sync_every: float) -> int:
    """Train what is missing; returns 0, 1 if a run failed, 2 after bad input. The same call resumes."""
    everything = plan(suite)
    wanted = with_pilots(everything, select(everything, only))
    slots = devices(suite, workers) if suite.training.device == "cuda" else None
    prepare(suite, everything, wanted, root, data)
    for one in wanted:
        one.folder(root).forget_failure()
    left = [one for one in wanted if not one.folder(root).is_done()]
    done = len(wanted) - len(left)
    print(
        f"{suite.name}: {len(wanted)} runs, {done} done, {len(left)} to train; folder {Path(root) / suite.name}",
        flush=True,
    )
    code = 0
    if left:
        count = len(slots) if slots else workers or default_workers(suite)
        coordinator = Coordinator(everything, root, data, count, slots)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
                signal.signal(number, _leave)  # as Ctrl-C does: what is at work saves
        try:
            with synced(suite.name, Path(root).resolve(), sync_every), Progress(wanted, root) as progress:
                code = coordinator.train(wanted, progress.show)
                progress.show()
        except KeyboardInterrupt:
            print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
            raise
    _tell(wanted, root)
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def prepare(suite: Suite, everything: list[Run], wanted: list[Run], root: Path, data: Path) -> None:
    """Before anything starts: the data is there, no folder belongs to another configuration, no log is broken."""
    for name in dict.fromkeys(cell.dataset for cell in suite.cells):
        datasets.prepare(name, data)
    for one in wanted:
        folder = one.folder(root)
        if folder.config.is_file():
            folder.ensure_config(one.config)
        if folder.events.is_file() and not folder.is_done():
            read_events(folder.path, live=True)
    SweepFolder(root, suite.name).publish(suite, everything)


def default_workers(suite: Suite) -> int:
    """As many as fit into the usable cores."""
    return max(1, cores() // (suite.training.threads * suite.training.processes))


def devices(suite: Suite, workers: int | None) -> list[str]:
    """The GPUs of each worker, of those that CUDA_VISIBLE_DEVICES leaves to us. BadInput if there are too few."""
    import torch

    each, given = suite.training.processes, os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",") if given is not None else [str(index) for index in range(torch.cuda.device_count())]
    visible = [name for name in visible if name] if torch.cuda.is_available() else []
    if len(visible) < each * (workers or 1):
        raise BadInput(
            f"--workers: {suite.name} trains on cuda, {workers or 1} runs at a time with {each} GPUs each; "
            f"{len(visible)} are visible here"
        )
    return [",".join(visible[slot * each : (slot + 1) * each]) for slot in range(workers or len(visible) // each)]


@contextmanager
def synced(suite: str, root: Path, every: float, tracking: str | None = None) -> Iterator[None]:
    """Keep MLflow in step meanwhile, if `every` is not 0: one writer, in a process of its own.

    SIGTERM asks it for a last pass.
    """
    if not every:
        yield
        return
    command = [sys.executable, "-m", "bench", "sync", suite, "--root", str(root), "--watch", str(every), "--quiet"]
    command += ["--tracking", tracking] if tracking else []
    with held_back(signal.SIGTERM):  # until it can take it
        process = subprocess.Popen(command, cwd=TREE, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
        if process.returncode:
            told = "run it again with: python -m bench sync"
            print(f"sync ended with code {process.returncode}; {told}", file=sys.stderr)


def _tell(wanted: list[Run], root: Path) -> None:
    """Say what did not get done."""
    states = {run.id: run.folder(root).state() for run in wanted}
    print(f"{sum(state.done for state in states.values())} of {len(states)} runs done", flush=True)
    for name, state in states.items():
        if not state.done:
            why = "failed, see its error.json" if state is State.FAILED else "not done"
            print(f"  {name}: {why}", file=sys.stderr)
