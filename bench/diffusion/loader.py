"""Rows of coming batches, gathered by threads while an accelerator computes; on a CPU when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bench.diffusion.batches import Rows

THREADS = {"cpu": 0, "cuda": 2}  # of a rank, by its device; on a CPU they would take the cores that train
AHEAD = 4  # batches


class Loader:
    """Gives the rows at position after position, `size` images apart; from a jump on it gathers anew.

    read(position): gathers the rows of one batch; several threads call it at once. threads: 0 reads in the caller.
    """

    def __init__(self, read: Callable[[int], Rows], size: int, end: int, threads: int = THREADS["cuda"]) -> None:
        self.read, self.size, self.end = read, size, end
        self.pool = ThreadPoolExecutor(threads, "loader") if threads else None
        self.coming: dict[int, Future[Rows]] = {}  # by position

    def rows(self, position: int) -> Rows:
        """Those at `position`; what comes after them is begun."""
        if self.pool is None:
            return self.read(position)
        if position not in self.coming:
            for future in self.coming.values():
                future.cancel()
            self.coming = {position: self.pool.submit(self.read, position)}
        rows = self.coming.pop(position).result()
        for at in range(position + self.size, min(self.end, position + (AHEAD + 1) * self.size), self.size):
            if at not in self.coming:
                self.coming[at] = self.pool.submit(self.read, at)
        return rows

    def close(self) -> None:
        """End the threads; what they have begun is waited for."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
