"""A lock on a folder that tells a live owner from a dead one: by host, process id, start time and heartbeat.

The file is created exclusively, so of two processes that race one wins. Where the owner's process table is ours it
decides; from another host, or another container of that name, only the heartbeat can. An owner whose heart stood still (suspended, cut off from the disk)
may find its place taken: it asks with `check` before it writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
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
        self._me = me()
        self._now = 0.0  # by the clock of the file system, which is that of every heartbeat

    def __enter__(self) -> FolderLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            owner = self._owner()
            if owner is None:
                continue  # released between our two looks
            if alive(owner, self.path, self._now):
                raise Locked(f"{self.path.parent}: in use by process {owner.get('pid')} on {owner.get('host')}")
            self._take_from_the_dead(owner)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._owner() == self._me:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Locked if another process has taken this one for dead: from then on the folder is not ours to write."""
        if (owner := self._owner()) != self._me:
            raise Locked(f"{self.path.parent}: was taken over by " + (f"process {owner.get('pid')} on {owner.get('host')}" if owner else "nobody"))

    def _create(self) -> bool:
        """Make the lock whole in one instant: a file of our own, linked to the name, fails if the name is taken."""
        own = self.path.with_name(f".{self.path.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex}")
        own.write_text(json.dumps(self._me))
        self._now = own.stat().st_mtime
        try:
            os.link(own, self.path)
        except FileExistsError:
            return own.stat().st_nlink == 2  # a file server whose first answer got lost says so of our own link
        finally:
            own.unlink(missing_ok=True)
        return True

    def _owner(self) -> dict | None:
        """What the lock says; {} for one that a power cut left empty, None if there is none."""
        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _take_from_the_dead(self, owner: dict) -> None:
        """Remove a dead owner's lock. Takers come one at a time (the kernel frees the guard of one that dies) and look again."""
        with self.path.with_name(f".{self.path.name}.guard").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if self._owner() == owner and not alive(owner, self.path, self._now):
                self.path.unlink()
                self.note = f"took over the lock of process {owner.get('pid')} on {owner.get('host')}, which is dead"

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                if self._owner() != self._me:
                    return
                os.utime(self.path)
            except OSError:  # a full or absent disk for a while
                continue


def me() -> dict:
    """What identifies this process: a process id alone is handed out again."""
    return {**table(), "pid": os.getpid(), "started": started(os.getpid())}


def table() -> dict:
    """What identifies the process table that we see: containers and machines may share a host's name."""
    return {"host": socket.gethostname(), "boot": _told(lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip()),
            "pids": _told(lambda: os.readlink("/proc/self/ns/pid"))}


def _told(read: Callable[[], str]) -> str | None:
    try:
        return read()
    except OSError:  # another system than Linux, or one that hides it
        return None


def started(pid: int) -> str | None:
    """Start time of a process in the kernel's clock ticks, None if it is gone (or a zombie) or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat[0] in "ZX" else stat[19]


def held(path: Path) -> bool:
    """Whether the lock at `path` has a living owner."""
    try:
        owner = json.loads(path.read_text())
        return alive(owner if isinstance(owner, dict) else {}, path)
    except (FileNotFoundError, ValueError, KeyError):
        return False


def alive(owner: dict, path: Path, now: float | None = None) -> bool:
    """Whether the owner written in the lock at `path` still lives. now: by the clock of the file system, else by ours."""
    if any(owner.get(key, None if key == "host" else ours) != ours for key, ours in table().items()):  # older locks have a host alone
        try:
            return (time.time() if now is None else now) - path.stat().st_mtime < DEAD
        except FileNotFoundError:
            return True
    if owner.get("started") is not None or Path("/proc/self/stat").exists():
        return owner.get("started") is not None and started(owner["pid"]) == owner["started"]
    try:  # no /proc: the process id is all there is
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
