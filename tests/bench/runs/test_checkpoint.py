"""Checkpoints load whatever instant the power goes."""

import pytest
import torch

from bench.runs import checkpoint
from bench.errors import BadInput


def write(folder, *images):
    for count in images:
        checkpoint.save(folder, count, {"hash": "h", "images": count, "weights": torch.full((3,), float(count))})


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    write(tmp_path, 64, 128, 192)
    state, notes = checkpoint.load(tmp_path, "h")
    assert state["images"] == 192 and notes == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000000000128.pt", "000000000128.sha256", "000000000192.pt", "000000000192.sha256"]


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(b""),
    lambda path: path.with_suffix(".sha256").unlink(),
    lambda path: path.with_suffix(".sha256").write_text(""),
])
def test_a_damaged_one_falls_back_to_the_older_and_says_so(tmp_path, damage):
    write(tmp_path, 64, 128)
    damage(tmp_path / "000000000128.pt")
    state, notes = checkpoint.load(tmp_path, "h")
    assert state["images"] == 64 and torch.equal(state["weights"], torch.full((3,), 64.0))
    assert len(notes) == 1 and notes[0].startswith("000000000128.pt: ")


def test_a_half_written_one_is_not_looked_at(tmp_path):
    write(tmp_path, 64)
    (tmp_path / "000000000128.partial").write_bytes(b"half")
    (tmp_path / "000000000128.sha256").write_text("digest without its file")
    assert checkpoint.load(tmp_path, "h")[0]["images"] == 64


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path / "none", "h") == (None, [])


def test_another_configuration_is_refused(tmp_path):
    write(tmp_path, 64)
    with pytest.raises(BadInput, match="belongs to configuration h, not to other"):
        checkpoint.load(tmp_path, "other")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    """A file that would run code when unpickled is refused by weights_only."""
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    checkpoint.save(tmp_path, 64, {"hash": "h", "evil": Evil()})
    with pytest.raises(Exception, match="(?i)weights.only"):
        checkpoint.load(tmp_path, "h")
