"""The folder lock: one winner, the living are respected, the dead are not."""

import json
import multiprocessing
import os
import signal
import socket
import time

import pytest

from bench import lock
from bench.lock import FolderLock, Locked


def hold(folder, ready):
    with FolderLock(folder):
        ready.set()
        time.sleep(60)


def try_once(folder, start, winners):
    start.wait()
    try:
        with FolderLock(folder):
            winners.put(os.getpid())
            time.sleep(0.5)
    except Locked:
        pass


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
    start, winners = context.Event(), context.Queue()
    racers = [context.Process(target=try_once, args=(tmp_path, start, winners)) for _ in range(6)]
    for racer in racers:
        racer.start()
    time.sleep(2)
    start.set()
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


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with FolderLock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        time.sleep(0.5)
        assert time.time() - (tmp_path / "lock").stat().st_mtime < 10
