"""A run folder: every state by what lies there, and who it belongs to."""

from __future__ import annotations

import json

import pytest

from reports.records.files import read_json, write_json
from reports.records.run_folder import RunFolder, State

CONFIG = {"run": "a", "hash": "0123456789abcdef"}


@pytest.fixture
def folder(tmp_path):
    """A folder that does not exist yet."""
    return RunFolder(tmp_path / "suite" / "run")


def test_a_run_goes_through_its_states(folder):
    assert folder.state() is State.MISSING and not folder.path.exists()
    with folder.lease():
        assert folder.is_held() and folder.state() is State.MISSING  # held, and nothing is begun
        folder.ensure_config(CONFIG)
        folder.events.write_text('{"event": "start"}\n')
        assert folder.state() is State.RUNNING
    assert folder.state() is State.STOPPED and not folder.is_held()
    folder.fail(OSError(28, "No space left on device"))
    assert folder.state() is State.FAILED
    with folder.lease():
        assert folder.state() is State.RUNNING  # it is tried again
    folder.forget_failure()
    folder.forget_failure()
    assert folder.state() is State.STOPPED
    for status in ("complete", "diverged"):
        write_json(folder.result, {"status": status})
        folder.fail(RuntimeError("too late"))
        assert folder.state() == status and folder.state().done and folder.is_done()


def test_states_that_are_not_done():
    assert [state for state in State if state.done] == [State.COMPLETE, State.DIVERGED]
    assert {str(state) for state in State} == {
        "missing",
        "running",
        "stopped",
        "failed",
        "complete",
        "diverged",
        "not needed",
    }


def test_a_folder_belongs_to_one_configuration(folder):
    folder.ensure_config(CONFIG)
    folder.ensure_config(CONFIG)
    assert read_json(folder.config) == CONFIG
    with pytest.raises(
        ValueError, match=r"belongs to another configuration .0123456789ab, expected fedc.*move the folder"
    ):
        folder.ensure_config(CONFIG | {"hash": "fedcba9876543210"})
    with pytest.raises(ValueError, match="belongs to another configuration"):
        folder.ensure_config(CONFIG | {"role": "pilot"})
    assert read_json(folder.config) == CONFIG


def test_a_failure_is_told_in_one_line_and_kept_with_its_traceback(folder):
    try:
        raise ValueError("two\n  lines")
    except ValueError as error:
        assert folder.fail(error) == "ValueError: two lines"
    told = read_json(folder.error)
    assert told["run"] == "run" and told["error"] == "ValueError: two lines"
    assert 'raise ValueError("two' in told["traceback"]


def test_the_last_event_is_the_last_whole_one(folder):
    assert folder.last_event() is None
    folder.path.mkdir(parents=True)
    folder.events.write_text("")
    assert folder.last_event() is None
    lines = [{"event": "eval", "images": 1}, *({"event": "train", "images": i} for i in range(5000))]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "train", "ima')
    assert folder.last_event() == {"event": "train", "images": 4999}
    assert folder.last_event("eval") is None  # further up than it looks
    assert folder.last_event("eval", most=10**6) == {"event": "eval", "images": 1}


def test_names_of_files(folder):
    assert folder.sample(640).name == "000000000640.png" and folder.sample(640).parent == folder.samples
    paths = (folder.config, folder.events, folder.result, folder.error, folder.checkpoints, folder.samples, folder.lock)
    names = ["config.json", "events.jsonl", "result.json", "error.json", "checkpoints", "samples", "lock"]
    assert [path.name for path in paths] == names and {path.parent for path in paths} == {folder.path}
