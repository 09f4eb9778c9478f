"""A lease: one owner, the living are respected, the dead are not, on any file system."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock._soft
import pytest

from reports.records import lease
from reports.records.lease import Held, Lease

SPAWN = multiprocessing.get_context("spawn")
DEAD = 2**22 + 1  # larger than any process id
RECORD = "filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken=aa\nduration={duration}\n"


def write(path: Path, pid: int = 1, host: str = "elsewhere", age: float = 0.0, start: int | None = None) -> Path:
    """The lease of some process, last renewed `age` seconds ago."""
    text = RECORD.format(pid=pid, host=host, duration=lease.LEASE)
    path.write_text(text if start is None else f"{text}start={start}\n")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a lease lies."""
    return tmp_path / "run" / "lock"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of another machine end after a second."""
    monkeypatch.setattr(lease, "LEASE", 1.0)
    monkeypatch.setattr(lease, "BEAT", 0.2)


def shorten() -> None:
    lease.LEASE, lease.BEAT = 1.0, 0.2


@pytest.fixture(params=["everything", "no links, flock or exchange"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What the file system can; the function makes it so in another process."""
    if request.param == "everything":
        return bool  # type: ignore[return-value]
    for module, name in ((os, "link"), (fcntl, "flock"), (fcntl, "lockf"), (filelock._soft, "exchange_names")):
        monkeypatch.setattr(module, name, getattr(module, name))
    cripple()
    return cripple


def cripple() -> None:
    """As on a mounted drive, exFAT, or Lustre without -o flock."""

    def refuse(*words: object, **options: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    os.link, fcntl.flock, fcntl.lockf = refuse, refuse, refuse
    filelock._soft.exchange_names = lambda first, second: False


def hold(path: Path, change: Callable[[], None], ready: Any) -> None:
    change()
    with Lease(path):
        ready.set()
        time.sleep(60)


def holding(path: Path, change: Callable[[], None] = bool) -> Any:
    """A living process that owns the lease."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, change, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    return process


def test_a_living_owner_is_respected_and_a_killed_one_is_not(path, file_system):
    owner = holding(path, file_system)
    assert lease.is_held(path) and lease.process_id(path) == owner.pid
    with pytest.raises(Held, match=f"run: in use by process {owner.pid} on {socket.gethostname()}$"), Lease(path):
        pass
    owner.kill()
    owner.join()
    assert not lease.is_held(path)
    began = time.monotonic()
    with Lease(path) as taken:
        assert time.monotonic() - began < 5
        assert taken.note == f"took over the lock of process {owner.pid} on {socket.gethostname()}, which is dead"
        assert lease.is_held(path) and lease.process_id(path) == os.getpid()
        taken.check()
    assert list(path.parent.iterdir()) == []
    with Lease(path) as again:
        assert again.note == ""


def compete(path: Path, change: Callable[[], None], start: Any, tried: Any, winners: Any) -> None:
    change()
    start.wait()
    try:
        with Lease(path) as won:
            winners.put(os.getpid())
            tried.wait()
            won.check()
    except Held:
        tried.wait()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_race_one_wins(path, file_system, stale):
    if stale:
        path.parent.mkdir()
        write(path, DEAD, lease._machine())
    start, tried, winners = SPAWN.Barrier(5), SPAWN.Barrier(5), SPAWN.Queue()
    racers = [SPAWN.Process(target=compete, args=(path, file_system, start, tried, winners)) for _ in range(5)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * 5
    assert winners.qsize() == 1
    assert list(path.parent.iterdir()) == []


def test_a_process_id_handed_out_again_is_not_the_owner(path):
    path.parent.mkdir()
    write(path, os.getpid(), lease._machine(), start=1)
    assert not lease.is_held(path)
    with Lease(path) as taken:
        assert "which is dead" in taken.note


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname() + "?pidns-1"], ids=["machine", "container"])
def test_of_another_machine_the_renewals_decide(path, file_system, short, host):
    """Also of another container of this machine's name: its process ids are not ours."""
    path.parent.mkdir()
    write(path, os.getpid(), host)
    assert lease.is_held(path)
    with pytest.raises(Held, match=f"in use by process {os.getpid()} on {host.partition('?')[0]}"), Lease(path):
        pass
    write(path, os.getpid(), host, age=30)
    assert not lease.is_held(path)
    began = time.monotonic()
    with Lease(path) as taken:
        assert time.monotonic() - began >= lease.LEASE  # it was watched, whatever the clocks say
        assert f"process {os.getpid()} on {host.partition('?')[0]}, which is dead" in taken.note


def test_the_clock_of_this_machine_takes_nobodys_place(path, short, monkeypatch):
    """A machine whose clock is ahead watches, and sees the owner renew."""
    owner = holding_elsewhere(path)
    clock = time.time
    monkeypatch.setattr(lease.time, "time", lambda: clock() + 1e6)
    assert not lease.is_held(path)
    with pytest.raises(Held), Lease(path):
        pass
    owner.kill()
    owner.join()


def own_elsewhere(path: Path, ready: Any, woken: Any, said: Any) -> None:
    """An owner on another machine, which looks at its lease when it is woken."""
    shorten()
    socket.gethostname = lambda: "elsewhere"
    with Lease(path) as mine:
        mine.check()
        ready.set()
        woken.wait()
        try:
            mine.check()
            said.put("went on")
        except Held as error:
            said.put(str(error))


def holding_elsewhere(path: Path, woken: Any = None, said: Any = None) -> Any:
    ready, woken, said = SPAWN.Event(), woken or SPAWN.Event(), said or SPAWN.Queue()
    owner = SPAWN.Process(target=own_elsewhere, args=(path, ready, woken, said), daemon=True)
    owner.start()
    assert ready.wait(60)
    return owner


def test_an_owner_renews_its_lease(path, short):
    with Lease(path):
        os.utime(path, (0, 0))
        time.sleep(1)
        assert time.time() - path.stat().st_mtime < 10


def test_a_suspended_owner_that_lost_its_lease_writes_nothing_more(path, file_system, short):
    """And its end leaves its successor's lease alone."""
    woken, said = SPAWN.Event(), SPAWN.Queue()
    owner = holding_elsewhere(path, woken, said)
    with pytest.raises(Held, match=f"in use by process {owner.pid} on elsewhere"), Lease(path):
        pass
    os.kill(owner.pid, signal.SIGSTOP)
    while lease.is_held(path):
        time.sleep(0.1)
    with Lease(path) as taken:
        os.kill(owner.pid, signal.SIGCONT)
        woken.set()
        assert f"run: was taken over by process {os.getpid()} on {socket.gethostname()}" in said.get(timeout=30)
        owner.join()
        taken.check()
        assert lease.process_id(path) == os.getpid()
    with pytest.raises(Held, match="was taken over by nobody"):
        taken.check()


@pytest.mark.parametrize("text", ["", "filelock/2\npid=12", "{}"], ids=["empty", "torn", "other"])
def test_what_a_power_cut_left_is_nobodys_after_a_while(path, file_system, text):
    path.parent.mkdir()
    path.write_text(text)
    assert lease.is_held(path) and lease.owner(path) is None and lease.process_id(path) is None
    with pytest.raises(Held, match="in use by another process"), Lease(path):
        pass
    os.utime(path, (time.time() - lease.BEAT - 10,) * 2)
    assert not lease.is_held(path)
    with Lease(path) as taken:
        taken.check()
    assert not path.exists()


def test_a_wait_ends_with_the_owner(path):
    owner = holding(path)
    with pytest.raises(Held), Lease(path, wait=0.3):
        pass
    threading.Timer(0.5, lambda: (owner.kill(), owner.join())).start()
    with Lease(path, wait=60.0) as taken:
        taken.check()


def test_a_killed_process_that_nobody_collects_owns_nothing(path):
    owner = holding(path)
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert not lease.is_held(path)
    with Lease(path) as taken:
        assert f"process {owner.pid} on" in taken.note
    owner.join()


def test_a_taker_that_died_at_it_holds_nobody_up(path, short):
    path.parent.mkdir()
    write(path, DEAD, lease._machine())
    mark = path.with_name("lock.mark")
    mark.touch()
    with pytest.raises(Held, match="another process is taking it over"), Lease(path):
        pass
    os.utime(mark, (0, 0))
    with Lease(path):
        assert not mark.exists()


def test_looking_disturbs_nobody(path):
    assert not lease.is_held(path) and lease.owner(path) is None and lease.process_id(path) is None
    assert not path.parent.exists()
    path.parent.mkdir()
    for kind in ({"host": "elsewhere", "age": 1e6}, {"pid": DEAD, "host": lease._machine()}, {}):
        write(path, **kind)
        before = path.read_bytes(), path.stat()
        for _ in range(3):
            lease.is_held(path), lease.owner(path), lease.process_id(path)
        assert (path.read_bytes(), path.stat()) == before and list(path.parent.iterdir()) == [path]
