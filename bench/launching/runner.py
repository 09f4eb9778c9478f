"""The local runner: long-lived workers in processes of their own, a live progress display, MLflow kept in step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from multiprocessing.process import BaseProcess
from pathlib import Path

import bench
import datasets
from bench.launching import forked
from bench.launching import worker
from bench.errors import is_bad_input
from bench.runs.event_log import tail
from bench.planning.plan import Run, claim, plan, publish, select
from bench.runs.record import state
from bench.planning.suite import Suite
from datasets.parallel import cores
from reports.records import reading

REVIVALS = 3  # dead workers replaced, per worker, before the runner gives up


def run(suite: Suite, root: Path, data: Path, only: str | None, workers: int | None, sync_every: float | None) -> int:
    """Run what is missing of `suite`; returns 0, or 1 if a run failed. The same call goes on after any interruption."""
    everything = plan(suite)
    wanted = worker.needed(everything, select(everything, only))
    for name in dict.fromkeys(cell.dataset for cell in suite.cells):
        datasets.prepare(name, data)
    preflight(wanted, root)
    publish(suite, everything, root)
    worker.forget_failures(wanted, root)
    left = [run for run in wanted if state(run.folder(root)) != "done"]
    print(f"{suite.name}: {len(wanted)} runs, {len(wanted) - len(left)} done, {len(left)} to train; folder {Path(root) / suite.name}",
          flush=True)
    if left:
        codes = _train(suite, root, data, only, wanted, workers or default_workers(suite), sync_every)
        return max(_verdict(wanted, root), 2 if 2 in codes else 0)
    return _verdict(wanted, root)


def preflight(wanted: list[Run], root: Path) -> None:
    """Before anything starts: a folder of another configuration or a broken log is bad input, in one line."""
    for run in wanted:
        folder = run.folder(root)
        if (folder / "config.json").is_file():
            claim(folder, run)
        if state(folder) == "begun":
            reading.read_events(folder)


def default_workers(suite: Suite) -> int:
    """As many as fit: the GPUs over the processes of a run, or the usable cores over the threads of all its processes."""
    processes = suite.training.processes
    if suite.training.device == "cuda":
        import torch

        return max(1, torch.cuda.device_count() // processes)
    return max(1, cores() // (suite.training.threads * processes))


def _train(suite: Suite, root: Path, data: Path, only: str | None, wanted: list[Run], workers: int, sync_every: float | None) -> list[int | None]:
    pool = projection = None
    try:
        pool = Pool(suite, root, data, only, workers)
        projection = _start_sync(suite.name, root, sync_every) if sync_every else None
        with Progress(wanted, root) as progress:
            while pool.alive():
                progress.show()
                time.sleep(0.5)
            progress.show()
        return pool.codes()
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        raise
    except forked.Gone as gone:
        print(gone, file=sys.stderr)
        return [1]
    finally:
        if pool:
            pool.end()
        if projection:
            _end_sync(projection)


class Pool:
    """Worker processes; one that dies (killed, out of memory) is replaced, and its run resumes."""

    def __init__(self, suite: Suite, root: Path, data: Path, only: str | None, workers: int) -> None:
        self.arguments = (suite.path, root, data, only)
        self.gpus = suite.training.processes if suite.training.device == "cuda" else 0  # of each worker
        self.context = multiprocessing.get_context("forkserver")
        self.revivals = REVIVALS * workers
        self.processes = [self._start(slot) for slot in range(workers)]

    def _start(self, slot: int) -> BaseProcess:
        process = self.context.Process(target=_enter, args=(range(slot * self.gpus, (slot + 1) * self.gpus), *self.arguments), daemon=True)
        try:
            process.start()
        except (EOFError, ConnectionError):
            raise forked.Gone from None
        return process

    def alive(self) -> bool:
        """Whether a worker is at work; replaces those that died by a signal. Gone, if what they are forked from did."""
        if forked.ORPHANED in self.codes():
            raise forked.Gone
        for slot, process in enumerate(self.processes):
            if process.exitcode is not None and process.exitcode < 0 and self.revivals:
                print(f"worker {process.pid} died of signal {-process.exitcode}; another takes its place", file=sys.stderr)
                self.revivals -= 1
                self.processes[slot] = self._start(slot)
        return any(process.exitcode is None for process in self.processes)

    def codes(self) -> list[int | None]:
        """Exit codes of the workers."""
        return [process.exitcode for process in self.processes]

    def end(self) -> None:
        """End the workers that still run."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _enter(gpus: range, path: str, root: Path, data: Path, only: str | None) -> None:
    """A worker process: leaves Ctrl-C to the runner, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bench.STARTED = time.time()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    try:
        code = worker.work(path, root, data, only, multiprocessing.parent_process())
    except ValueError as error:
        if not is_bad_input(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _verdict(wanted: list[Run], root: Path) -> int:
    """Say what did not get done; 0 if all did."""
    states = {run.id: state(run.folder(root)) for run in wanted}
    missing = [run for run, standing in states.items() if standing != "done"]
    print(f"{len(states) - len(missing)} of {len(states)} runs done", flush=True)
    for run in missing:
        print(f"  {run}: {'failed, see its error.json' if states[run] == 'failed' else 'not done'}", file=sys.stderr)
    return int(bool(missing))


def _start_sync(suite: str, root: Path, every: float) -> subprocess.Popen:
    """MLflow has one writer: a process of its own, which also keeps the trainers free of MLflow."""
    command = [sys.executable, "-m", "bench", "sync", suite, "--root", str(root), "--watch", str(every), "--quiet"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _end_sync(process: subprocess.Popen) -> None:
    """SIGTERM means: once more, then end."""
    process.terminate()
    process.wait()
    if process.returncode:
        print(f"sync ended with code {process.returncode}; run it again with: python -m bench sync", file=sys.stderr)


class Progress:
    """Runs done, images per second, time left: a bar on a terminal, a line now and then elsewhere."""

    EVERY = 15.0  # seconds between lines where there is no terminal

    def __init__(self, runs: list[Run], root: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.runs, self.root = runs, root
        self.total = sum(run.spec["budget"] for run in runs)
        self.history: deque[tuple[float, int]] = deque(maxlen=120)
        self.console = Console()
        self.printed = -self.EVERY
        self.bar = Bar(BarColumn(40), TextColumn("{task.percentage:3.0f} %  {task.description}"), TimeElapsedColumn(),
                       console=self.console, transient=False, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("starting", total=self.total)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self) -> None:
        """Look at the run folders and draw."""
        seen = [images_of(run, self.root) for run in self.runs]
        done = sum(run.spec["budget"] for run, (images, finished) in zip(self.runs, seen, strict=True) if finished)
        images = done + sum(images for images, finished in seen if not finished)
        text = self._describe(sum(finished for _, finished in seen), images)
        self.bar.update(self.task, completed=images, description=text)
        if not self.console.is_terminal and time.monotonic() - self.printed >= self.EVERY:
            self.printed = time.monotonic()
            print(f"{images / self.total:4.0%}  {text}", flush=True)

    def _describe(self, runs: int, images: int) -> str:
        now = time.monotonic()
        self.history.append((now, images))
        (then, before), rate = self.history[0], 0.0
        if now - then > 1:
            rate = (images - before) / (now - then)
        left = f"{_clock((self.total - images) / rate)} left" if rate > 0 else "time left unknown"
        return f"{runs}/{len(self.runs)} runs, {rate:,.0f} images/s, {left}"


def images_of(run: Run, root: Path) -> tuple[int, bool]:
    """Images trained so far, and whether the run is at its end (done or failed)."""
    folder = run.folder(root)
    standing = state(folder)
    if standing in ("done", "failed", "absent"):
        return 0, standing in ("done", "failed")
    last = tail(folder / "events.jsonl")
    return (last or {}).get("images", 0), False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
