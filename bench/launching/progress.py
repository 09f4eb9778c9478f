"""How far a suite is: runs done, images per second, time left; a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.runs.run_spec import Run


class Progress:
    """A live display, from the run folders alone."""

    EVERY = 15.0  # seconds between lines where there is no terminal

    def __init__(self, runs: list[Run], root: Path) -> None:
        self.runs, self.root, self.printed = runs, root, -self.EVERY
        self.console = Console()
        columns = (BarColumn(40), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bar = Bar(*columns, console=self.console, disable=not self.console.is_terminal, speed_estimate_period=60)
        self.task = self.bar.add_task("starting", total=sum(run.spec.budget for run in runs))

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self) -> None:
        """Look at the run folders and draw."""
        seen = [_images(run, self.root) for run in self.runs]
        self.bar.update(self.task, completed=sum(images for images, _ in seen))
        task = self.bar.tasks[0]
        left = (
            "time left unknown"
            if task.time_remaining is None
            else f"{timedelta(seconds=int(task.time_remaining))} left"
        )
        text = f"{sum(done for _, done in seen)}/{len(seen)} runs, {task.speed or 0:,.0f} images/s, {left}"
        self.bar.update(self.task, description=text)
        if not self.console.is_terminal and time.monotonic() - self.printed >= self.EVERY:
            self.printed = time.monotonic()
            print(f"{task.percentage / 100:4.0%}  {text}", flush=True)


def _images(run: Run, root: Path) -> tuple[int, bool]:
    """Images that count as trained, and whether the run is at its end: one that is done or failed counts whole."""
    folder = run.folder(root)
    if folder.is_done() or folder.error.is_file():
        return run.spec.budget, True
    return (folder.last_event() or {"images": 0})["images"], False
