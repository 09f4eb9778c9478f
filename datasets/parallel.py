"""Fills a large array item by item, in parallel, so that an interruption costs seconds and memory stays small.

The rows are appended in order to the .npy file itself; NAME.progress says how many are safely there. A second call with
the same items goes on behind them.
"""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store import naming, write_header

CHUNK = 64  # items per task: 0.8 MB of 64-pixel images
AHEAD = 4  # tasks per worker that may wait: bounds the memory
FLUSH = 2.0  # seconds between safe points
Task = Callable[[Sequence[Any]], np.ndarray]


def fill(path: Path, items: Sequence[Any], shape: tuple[int, ...], dtype: type, task: Task, workers: int,
         about: str) -> None:
    """Write `path` (.npy) with one row of `shape` per item; task(items) makes the rows of some of them.

    workers: processes; 0 calls the task in this one (for what a GPU does). Errors of the task are raised here.
    """
    from tqdm import tqdm

    row = int(np.prod(shape)) * np.dtype(dtype).itemsize
    mark = path.with_suffix(".progress")
    done = json.loads(mark.read_text()) if mark.is_file() and path.is_file() else 0
    with naming(path), path.open("r+b" if done else "wb") as out:
        write_header(out, (len(items), *shape), dtype)
        start = out.tell()
        out.truncate(start + done * row)
        out.seek(0, os.SEEK_END)
        saved = time.monotonic()
        with tqdm(total=len(items), initial=done, desc=about, unit="", disable=None, file=sys.stderr) as bar:
            for rows in _rows(items[done:], task, workers):
                if rows.shape[1:] != tuple(shape) or rows.dtype != dtype:
                    raise RuntimeError(f"{path.name}: rows {rows.dtype} {rows.shape[1:]}, expected {dtype} {shape}")
                out.write(np.ascontiguousarray(rows).data)
                done += len(rows)
                bar.update(len(rows))
                if time.monotonic() - saved > FLUSH:
                    _save(out, mark, done)
                    saved = time.monotonic()
        _save(out, mark, done)


def _leave_with(parent: int) -> None:
    """Let this worker process end when its parent is killed; it would wait for work for ever."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _save(out: Any, mark: Path, done: int) -> None:
    out.flush()
    os.fsync(out.fileno())
    beside = mark.with_suffix(".partial")
    beside.write_text(json.dumps(done))
    beside.replace(mark)


def _rows(items: Sequence[Any], task: Task, workers: int) -> Iterator[np.ndarray]:
    """The rows of all items, in order; at most AHEAD tasks per worker are in memory."""
    chunks = [items[i:i + CHUNK] for i in range(0, len(items), CHUNK)]
    if workers == 0:
        yield from map(task, chunks)
        return
    waiting: deque[Future] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _leave_with, (os.getpid(),)) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(task, chunk))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise ValueError("a worker process was ended from outside, for want of memory perhaps; what was prepared so far "
                             "is kept, the same command goes on") from None
        finally:
            pool.shutdown(cancel_futures=True)
