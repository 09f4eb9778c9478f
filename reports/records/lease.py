"""One owner at a time: a lease on a file, renewed while its owner lives.

A lease needs neither hard links nor flock, so that it holds on mounted drives and cluster file systems alike. The lease of
a process that died on this machine is taken at once, that of another machine when it was not renewed for LEASE seconds.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType

from filelock import SoftFileLease, Timeout

LEASE = 60.0  # seconds without renewal after which a lease may be taken over
BEAT = 10.0  # seconds between renewals


class Held(RuntimeError):
    """Somebody else owns it."""


class Lease:
    """`with Lease(path): ...` owns the file at `path`; Held if a living process does.

    wait: seconds to wait for a living owner. note: after entering, what is to be said of an owner that had died.
    """

    def __init__(self, path: Path, wait: float = 0.0) -> None:
        self.path, self.wait, self.note = Path(path), wait, ""
        self._lease = _of(self.path)

    def __enter__(self) -> Lease:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before, dead = owner(self.path), not is_held(self.path)
        # The lease of a dead process on another machine is free only after LEASE seconds of watching.
        patience = max(self.wait, LEASE + BEAT) if before and dead else self.wait
        try:
            self._lease.acquire(timeout=patience, poll_interval=0.05)
        except Timeout:
            raise Held(f"{self.path.parent}: in use by {owner(self.path) or 'another process'}") from None
        if before and dead:
            self.note = f"took over the lock of {before}, which is dead"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lease.release()

    def check(self) -> None:
        """Held if another process has taken this one for dead: from then on the folder is not ours to write."""
        if self._lease.compromise or not self._lease.is_lock_held_by_us:
            raise Held(f"{self.path.parent}: was taken over by {owner(self.path) or 'nobody'}")


def owner(path: Path) -> str | None:
    """Who owns the lease at `path`, in words, living or dead; None where there is none."""
    record = _of(path).owner
    return f"process {record.pid} on {record.hostname.partition('?')[0]}" if record else None


def process_id(path: Path) -> int | None:
    """The process that the lease at `path` names."""
    return _of(path).pid


def is_held(path: Path) -> bool:
    """Whether the lease at `path` has a living owner; one on another machine lives while it renews."""
    record = _of(path).owner
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    if record is None:  # being written at this moment, or torn
        return age < BEAT
    if record.hostname != _machine():
        return age < LEASE
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _of(path: Path) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=BEAT, thread_local=False)


def _machine() -> str:
    """The name under which this process writes itself into a lease: the host's, and the container's process table."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return socket.gethostname()
    return socket.gethostname() + ("" if space == 0xEFFFFFFC else f"?pidns-{space:x}")
