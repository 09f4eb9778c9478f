"""A lock on a folder that tells a live owner from a dead one: by host, process id, start time and heartbeat.

The file is created exclusively, so of two processes that race one wins. On the owner's own host the process table
decides; from another host only the heartbeat can.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path

BEAT = 10.0  # seconds between heartbeats
DEAD = 120.0  # a lock of another host without a heartbeat for this long has no owner


class Locked(RuntimeError):
    """The folder has a live owner."""


class FolderLock:
    """`with FolderLock(folder): ...`; raises Locked if a live process holds it; takes a dead one's place and notes it."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self.path = Path(folder) / name
        self.note: str | None = None
        self._stop = threading.Event()

    def __enter__(self) -> FolderLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            owner = self._owner()
            if owner is None:
                continue  # released between our two looks
            if alive(owner, self.path):
                raise Locked(f"{self.path.parent}: in use by process {owner['pid']} on {owner['host']}")
            self._take_from_the_dead(owner)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Make the lock whole in one instant: a file of our own, linked to the name, fails if the name is taken."""
        own = self.path.with_name(f".{self.path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}")
        own.write_text(json.dumps(me()))
        try:
            os.link(own, self.path)
        except FileExistsError:
            return False
        finally:
            own.unlink(missing_ok=True)
        return True

    def _owner(self) -> dict | None:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return None

    def _take_from_the_dead(self, owner: dict) -> None:
        """Remove a dead owner's lock. Takers come one at a time (the kernel frees the guard of one that dies) and look again."""
        with self.path.with_name(f".{self.path.name}.guard").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if self._owner() == owner:
                self.path.unlink()
                self.note = f"took over the lock of process {owner['pid']} on {owner['host']}, which is dead"

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return


def me() -> dict:
    """What identifies this process: a process id alone is handed out again."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid())}


def started(pid: int) -> str | None:
    """Start time of a process in the kernel's clock ticks, None if it is gone (or a zombie) or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat[0] in "ZX" else stat[19]


def alive(owner: dict, path: Path) -> bool:
    """Whether the owner written in the lock at `path` still lives."""
    if owner["host"] != socket.gethostname():
        try:
            return time.time() - path.stat().st_mtime < DEAD
        except FileNotFoundError:
            return True
    if owner["started"] is not None or Path("/proc/self/stat").exists():
        return started(owner["pid"]) == owner["started"] and owner["started"] is not None
    try:  # no /proc: the process id is all there is
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
