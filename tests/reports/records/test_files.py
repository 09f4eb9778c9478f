"""Files of a run: whole or not at all, and checked as they are read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reports.records.files import read_json, replacing, write_json


def test_what_is_written_is_read_and_its_folder_is_made(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": [1, 2.5, None, "ü"]})
    assert read_json(path) == {"a": [1, 2.5, None, "ü"]} and path.read_text().endswith("}\n")
    write_json(path, {"b": 1})
    assert read_json(path) == {"b": 1} and os.listdir(path.parent) == ["file.json"]


def test_an_error_in_the_midst_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_kill_in_the_midst_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import os, pathlib, signal\nfrom reports.records.files import replacing\n"
        f"with replacing(pathlib.Path({str(path)!r})) as file:\n"
        "    file.write(b'half of the n'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3]).returncode == -9
    assert path.read_bytes() == b"old"
    write_json(path, 1)  # what the killed one left beside it is in nobody's way
    assert read_json(path) == 1


def test_of_two_writers_one_is_read_whole(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "file.json: not there"),
        (b"", "file.json: not JSON"),
        (b'{"a"', "file.json: not JSON"),
        (b"\xff\xfe", "file.json: not JSON"),
    ],
)
def test_bad_content_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_place_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)
