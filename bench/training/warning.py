"""Being told to leave: by SLURM before a time limit or a preemption, by the coordinator when it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Leaving(Exception):
    """The run was told to leave: what is trained is saved, and the same command goes on."""


class EndWarning:
    """Notes SIGUSR2 and SIGTERM; training looks between two steps, an evaluation is broken off at once."""

    SIGNALS = (signal.SIGUSR2, signal.SIGTERM)

    def __init__(self) -> None:
        self.given = False
        self._at_once = False

    def listen(self) -> EndWarning:
        """Take the signals of this process from now on."""
        for number in self.SIGNALS:
            signal.signal(number, self._take)
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.given = True
        if self._at_once:
            raise Leaving

    @contextmanager
    def breaks_off(self) -> Iterator[None]:
        """Work that changes no state of the training: Leaving comes out of it as soon as the warning is given."""
        self._at_once = True
        try:
            if self.given:
                raise Leaving
            yield
        finally:
            self._at_once = False
