"""The folder lock: one winner, the living are respected, the dead are not."""

import json
import multiprocessing
import os
import signal
import socket
import time

import pytest

from bench.runs import lock
from bench.runs.lock import FolderLock, Locked


def hold(folder, ready):
    with FolderLock(folder):
        ready.set()
        time.sleep(60)


def try_once(folder, start, tried, winners):
    start.wait()
    try:
        with FolderLock(folder):
            winners.put(os.getpid())
            tried.wait()
    except Locked:
        tried.wait()


def test_a_live_owner_is_respected_and_a_killed_one_is_not(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(Locked, match=f"in use by process {holder.pid} on {socket.gethostname()}"), FolderLock(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with FolderLock(tmp_path) as taken:
        assert f"took over the lock of process {holder.pid}" in taken.note
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_race_one_wins(tmp_path, stale):
    if stale:
        (tmp_path / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "started": "never"}))
    context = multiprocessing.get_context("spawn")
    start, tried, winners = context.Barrier(6), context.Barrier(6), context.Queue()
    racers = [context.Process(target=try_once, args=(tmp_path, start, tried, winners)) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert all(racer.exitcode == 0 for racer in racers)
    assert winners.qsize() == 1


def test_a_process_id_handed_out_again_is_not_the_owner(tmp_path):
    (tmp_path / "lock").write_text(json.dumps({**lock.me(), "started": "12345"}))
    with FolderLock(tmp_path) as taken:
        assert "dead" in taken.note


@pytest.mark.parametrize(("age", "live"), [(1, True), (lock.DEAD + 10, False)])
def test_on_another_host_the_heartbeat_decides(tmp_path, age, live):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    os.utime(path, (time.time() - age,) * 2)
    assert lock.alive(json.loads(path.read_text()), path) is live


@pytest.mark.parametrize("key", ["boot", "pids"])
def test_in_another_container_of_our_name_the_heartbeat_decides(tmp_path, key):
    """Its process ids are not ours: nothing that we see of ours speaks for or against it."""
    path = tmp_path / "lock"
    path.write_text(json.dumps({**lock.me(), key: "another", "started": "0"}))
    with pytest.raises(Locked), FolderLock(tmp_path):
        pass
    path.write_text(json.dumps({**lock.me(), key: "another"}))
    os.utime(path, (time.time() - lock.DEAD - 10,) * 2)
    with FolderLock(tmp_path) as taken:
        assert "dead" in taken.note


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with FolderLock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        time.sleep(0.5)
        assert time.time() - (tmp_path / "lock").stat().st_mtime < 10


def suspended(folder, locked, woken, said):
    """An owner on another host whose heart stands still, and who comes back."""
    lock.BEAT = 0.1
    lock.socket.gethostname = lambda: "elsewhere"
    with FolderLock(folder) as mine:
        mine.check()
        locked.set()
        woken.wait()
        time.sleep(0.5)
        try:
            mine.check()
            said.put("went on")
        except Locked as error:
            said.put(str(error))


def test_an_owner_that_was_taken_for_dead_writes_nothing_more(tmp_path, monkeypatch):
    """And leaves its successor's lock alone: neither does its heart beat for it, nor its end remove it."""
    monkeypatch.setattr(lock, "DEAD", 2.0)
    context = multiprocessing.get_context("spawn")
    locked, woken, said = context.Event(), context.Event(), context.Queue()
    owner = context.Process(target=suspended, args=(tmp_path, locked, woken, said))
    owner.start()
    assert locked.wait(60)
    with pytest.raises(Locked, match=f"in use by process {owner.pid} on elsewhere"), FolderLock(tmp_path):
        pass
    os.kill(owner.pid, signal.SIGSTOP)
    until = time.monotonic() + 30
    while True:
        try:
            taken = FolderLock(tmp_path).__enter__()
            break
        except Locked:
            assert time.monotonic() < until
            time.sleep(0.2)
    assert f"process {owner.pid} on elsewhere, which is dead" in taken.note
    os.kill(owner.pid, signal.SIGCONT)
    woken.set()  # it waits for the process to notice, so not before
    assert f"was taken over by process {os.getpid()} on {socket.gethostname()}" in said.get(timeout=30)
    owner.join()
    taken.check()
    taken.__exit__()
    with pytest.raises(Locked, match="by nobody"):
        taken.check()


@pytest.mark.parametrize("text", ["", "[]", '{"pid"'])
def test_a_lock_that_a_power_cut_left_empty_is_nobodys_after_a_while(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    with pytest.raises(Locked), FolderLock(tmp_path):
        pass
    os.utime(tmp_path / "lock", (time.time() - lock.DEAD - 10,) * 2)
    with FolderLock(tmp_path) as taken:
        assert "dead" in taken.note


def test_the_clock_of_the_disk_decides_and_not_ours(tmp_path, monkeypatch):
    """A node whose clock is ahead does not take a living owner's place."""
    (tmp_path / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    monkeypatch.setattr(lock.time, "time", lambda: 4e9)
    with pytest.raises(Locked), FolderLock(tmp_path):
        pass


def test_a_heart_goes_on_after_a_fault_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    faults = iter([OSError(116, "Stale file handle")] * 3)

    def utime(path, *times, original=os.utime):
        if not times and (fault := next(faults, None)):
            raise fault
        original(path, *times)

    monkeypatch.setattr(lock.os, "utime", utime)
    with FolderLock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        time.sleep(1)
        assert time.time() - (tmp_path / "lock").stat().st_mtime < 10
