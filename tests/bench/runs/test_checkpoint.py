"""Checkpoints load whatever instant the power goes."""

from __future__ import annotations

import contextlib
import errno
import io
import os

import pytest
import torch

from bench.errors import BadInput
from bench.runs import checkpoint


@pytest.fixture
def log(tmp_path_factory):
    """An event log whose lines, of 64 bytes each, reach beyond every checkpoint."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_bytes(8 * (b"x" * 63 + b"\n"))
    return path


def write(folder, *images):
    for count in images:
        state = {"hash": "h", "log_bytes": count, "images": count, "weights": torch.full((300,), float(count))}
        checkpoint.save(folder, count, state)


def test_the_newest_is_loaded_and_two_are_kept(tmp_path, log):
    write(tmp_path, 64, 128, 192)
    state, notes = checkpoint.load(tmp_path, "h", log)
    assert state["images"] == 192 and notes == []
    assert sorted(os.listdir(tmp_path)) == ["000000000128.pt", "000000000192.pt"]


def test_a_full_disk_is_called_that(tmp_path, monkeypatch):
    """Torch has words of its own for it."""

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "replacing", lambda path: contextlib.nullcontext(Full()))
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path, 64)


def test_a_save_at_the_same_place_replaces(tmp_path, log):
    write(tmp_path, 64, 128, 128)
    assert sorted(os.listdir(tmp_path)) == ["000000000064.pt", "000000000128.pt"]
    assert checkpoint.load(tmp_path, "h", log)[0]["images"] == 128


@pytest.mark.parametrize("kept", [0, 1, 100, -100, -1])
def test_a_damaged_one_falls_back_to_the_older_and_says_so(tmp_path, kept, log):
    write(tmp_path, 64, 128)
    path = tmp_path / "000000000128.pt"
    path.write_bytes(path.read_bytes()[:kept])
    state, notes = checkpoint.load(tmp_path, "h", log)
    assert state["images"] == 64 and torch.equal(state["weights"], torch.full((300,), 64.0))
    assert notes == ["000000000128.pt: damaged, passed over"]


def test_one_of_something_else_is_damaged(tmp_path, log):
    torch.save([1, 2], tmp_path / "000000000064.pt")
    torch.save({"weights": 1}, tmp_path / "000000000128.pt")
    assert checkpoint.load(tmp_path, "h", log) == (
        None,
        ["000000000128.pt: damaged, passed over", "000000000064.pt: damaged, passed over"],
    )


@pytest.mark.parametrize(
    "torn",
    [b"x" * 64, b"x" * 63 + b"\n" + b"x" * 63, b"x" * 63 + b"\n" + b"x" * 127 + b"\n"],
    ids=["no line", "short", "another"],
)
def test_one_at_which_no_line_of_the_log_ends_is_passed_over(tmp_path, log, torn):
    """A log that is shorter, or that holds other lines, is not the one that was being written when it was saved."""
    write(tmp_path, 64, 128)
    log.write_bytes(torn)
    state, notes = checkpoint.load(tmp_path, "h", log)
    assert notes[0] == "000000000128.pt: no line of the event log ends where it was saved, passed over"
    assert state["images"] == 64 if torn[63:64] == b"\n" else state is None and len(notes) == 2


def test_a_half_written_one_is_not_looked_at(tmp_path, monkeypatch, log):
    write(tmp_path, 64)

    def torn(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(torch, "save", torn)
        checkpoint.save(tmp_path, 128, {})
    (tmp_path / ".000000000128.pt.killed").write_bytes(b"half")
    state, notes = checkpoint.load(tmp_path, "h", log)
    assert state["images"] == 64 and notes == []


def test_nothing_there_is_none(tmp_path, log):
    assert checkpoint.load(tmp_path / "none", "h", log) == (None, [])


def test_another_configuration_is_refused(tmp_path, log):
    write(tmp_path, 64)
    with pytest.raises(BadInput, match="belongs to configuration h, not to other"):
        checkpoint.load(tmp_path, "other", log)


def test_code_in_a_checkpoint_is_not_run(tmp_path, log):
    """A file that would run code when unpickled counts as damaged."""
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    checkpoint.save(tmp_path, 64, {"hash": "h", "log_bytes": 0, "evil": Evil()})
    state, notes = checkpoint.load(tmp_path, "h", log)
    assert state is None and notes == ["000000000064.pt: damaged, passed over"] and not ran.exists()
