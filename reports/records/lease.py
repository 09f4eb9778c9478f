"""One owner at a time: a lease on a file, renewed while its owner lives.

A lease needs neither hard links nor flock, so that it holds on mounted drives and cluster file systems alike. That of a
process that died on this machine is taken at once, that of another machine when it was not renewed for LEASE seconds.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

LEASE = 60.0  # seconds without renewal after which a lease may be taken over
BEAT = 10.0  # seconds between renewals


class Held(RuntimeError):
    """Somebody else owns it."""


class Lease:
    """`with Lease(path): ...` owns the file at `path`; Held if a living process does.

    wait: seconds to wait for a living owner. cancel: gives up once it returns True. note: after entering, what is to be
    said of an owner that had died.
    """

    def __init__(self, path: Path, wait: float = 0.0, cancel: Callable[[], bool] = lambda: False) -> None:
        self.path, self.wait, self.cancel, self.note = Path(path), wait, cancel, ""
        self._lease = _of(self.path)

    def __enter__(self) -> Lease:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + self.wait
        while True:
            try:
                return self._take()
            except Held:
                if time.monotonic() >= until or self.cancel():
                    raise
            time.sleep(0.05)

    def _take(self) -> Lease:
        before, left = owner(self.path), _look(self.path)
        dead = left is not None and not is_held(self.path)
        if dead and not (_stands_still(self.path, left, self.cancel) and _remove(self.path, left)):
            raise Held(f"{self.path.parent}: another process is taking it over")
        try:
            self._lease.acquire(timeout=0)
        except Timeout:
            raise Held(f"{self.path.parent}: in use by {owner(self.path) or 'another process'}") from None
        if before and dead:
            self.note = f"took over the lock of {before}, which is dead"
        return self

    def __exit__(self, *error: object) -> None:
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
    started = _started(record.pid)
    same = not started or record.start is None or started == record.start % 2**64  # else its number was given again
    return same and started is not None


def _started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the boot, 0 if nobody can tell; None if it has ended."""
    try:
        os.kill(pid, 0)
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except OSError:
        return 0
    return None if state == "Z" else int(numbers[18])


def _look(path: Path) -> tuple[int, bytes] | None:
    """The lease at `path` and the time of its last renewal, None where there is none."""
    try:
        return path.stat().st_mtime_ns, path.read_bytes()
    except FileNotFoundError:
        return None


def _stands_still(path: Path, left: tuple[int, bytes] | None, cancel: Callable[[], bool]) -> bool:
    """Whether nobody renews a lease: another machine's is watched for LEASE seconds, since clocks differ."""
    record = _of(path).owner
    until = time.monotonic() + (LEASE if record and record.hostname != _machine() else 0.0)
    while (same := _look(path) == left and not cancel()) and time.monotonic() < until:
        time.sleep(0.05)
    return same


def _remove(path: Path, left: tuple[int, bytes] | None) -> bool:
    """Remove what a dead owner left, under a mark, so that one process at a time does; False if another one did.

    filelock does so only where two names can be exchanged, as on NFS and exFAT they cannot; an empty file stays.
    """
    mark = path.with_name(f"{path.name}.mark")
    with suppress(OSError):
        if time.time() - mark.stat().st_mtime > LEASE:  # of a process that died at this very place
            mark.unlink()
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        if same := _look(path) == left:
            path.unlink()
        return same
    finally:
        mark.unlink()


def _of(path: Path) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=BEAT, thread_local=False)


def _machine() -> str:
    """The name under which this process writes itself into a lease: the host's, and the container's process table."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return socket.gethostname()
    return socket.gethostname() + ("" if space == 0xEFFFFFFC else f"?pidns-{space:x}")
