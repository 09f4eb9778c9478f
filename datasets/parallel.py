"""Fills a large array item by item, in parallel, so that an interruption costs seconds and memory stays small.

The rows are appended in order to the .npy file itself; NAME.progress says how many are safely there. A second call with
the same items goes on behind them.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datasets.store import naming, write_header, write_whole

CHUNK, BYTES = 64, 2**20  # items per task, as long as their rows are not more than BYTES: 64-pixel images have 0.8 MB
AHEAD = 4  # tasks per worker that may wait: 4 MB of rows, so that many workers need little memory
FLUSH = 2.0  # seconds between safe points
KEPT = "what was prepared so far is kept, the same command goes on"
Task = Callable[[Sequence[Any]], np.ndarray]


def cores(system: Path = Path("/")) -> int:
    """Processors that this process may use: of its affinity mask, and no more than the quota of its control group."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([usable, *_quotas(system)]))


def _quotas(system: Path) -> Iterator[int]:
    """Whole processors of each quota that this process's control group, or one above it, has."""
    with suppress(OSError):
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            _, kinds, name = line.split(":", 2)  # version 2 names no kinds
            group = system / "sys/fs/cgroup" / ("cpu" if kinds else "") / name.lstrip("/")
            for folder in (group, *group.parents) if not kinds or "cpu" in kinds.split(",") else ():
                with suppress(OSError, ValueError):  # "max" is no quota, as -1
                    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if kinds else ("cpu.max",)
                    quota, period = map(int, " ".join((folder / file).read_text() for file in files).split())
                    if quota > 0:
                        yield quota // period


def leave_with_parent() -> None:
    """Let this process, one of multiprocessing's, end when its parent has: it would work on, or wait for ever."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def fill(
    path: Path, items: Sequence[Any], shape: tuple[int, ...], dtype: type, task: Task, workers: int, about: str
) -> None:
    """Write `path` (.npy) with one row of `shape` per item; task(items) makes the rows of some of them.

    workers: processes; 0 calls the task in this one (for what a GPU does). Errors of the task are raised here.
    """
    from tqdm import tqdm

    row = int(np.prod(shape)) * np.dtype(dtype).itemsize
    mark = path.with_suffix(".progress")
    done = _done(path, mark, (len(items), *shape), dtype)
    with naming(path), path.open("r+b" if done else "wb") as out:
        write_header(out, (len(items), *shape), dtype)
        start = out.tell()
        out.truncate(start + done * row)
        out.seek(0, os.SEEK_END)
        saved = time.monotonic()
        with tqdm(total=len(items), initial=done, desc=about, unit="", disable=None, file=sys.stderr) as bar:
            for rows in _rows(items[done:], task, workers, min(CHUNK, max(1, BYTES // row))):
                if rows.shape[1:] != tuple(shape) or rows.dtype != dtype:
                    raise RuntimeError(f"{path.name}: rows {rows.dtype} {rows.shape[1:]}, expected {dtype} {shape}")
                out.write(np.ascontiguousarray(rows).data)
                done += len(rows)
                bar.update(len(rows))
                if time.monotonic() - saved > FLUSH:
                    _save(out, mark, done)
                    saved = time.monotonic()
        _save(out, mark, done)


def _done(path: Path, mark: Path, shape: tuple[int, ...], dtype: type) -> int:
    """How many rows are safely there: what the mark says if the file has them, else 0. Either may have lost bytes."""
    try:
        done, size = json.loads(mark.read_text()), path.stat().st_size
    except (OSError, ValueError):
        return 0
    header = io.BytesIO()
    write_header(header, shape, dtype)
    row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    return done if type(done) is int and 0 <= done <= shape[0] and size >= header.tell() + done * row else 0


def _save(out: BinaryIO, mark: Path, done: int) -> None:
    out.flush()
    os.fsync(out.fileno())
    write_whole(mark, json.dumps(done))


def _rows(items: Sequence[Any], task: Task, workers: int, chunk: int) -> Iterator[np.ndarray]:
    """The rows of all items, in order, `chunk` items a task; at most AHEAD tasks per worker are in memory."""
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    if workers == 0:
        yield from map(task, chunks)
        return
    waiting: deque[Future[np.ndarray]] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), leave_with_parent) as pool:
        try:
            for part in chunks:
                waiting.append(pool.submit(task, part))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            why = "a worker process was ended from outside, for want of memory perhaps"
            raise ValueError(f"{why}; {KEPT}") from None
        finally:
            pool.shutdown(cancel_futures=True)
