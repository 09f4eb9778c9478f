"""Where a suite's time went: known logs, known shares."""

import json

import pytest

from bench.performance.time_split import show, split


def record(folder, name, began, ended, startup=0.0, resumed=False, **parts):
    """A finished run of which each part took so many seconds."""

    def seconds(field, part):
        return {f"{field}seconds": parts.get(part, 0.0)}

    events = [
        {"event": "start", "images": 0, "time": began + startup, "startup_seconds": startup},
        *([{"event": "resume", "images": 0, "time": began}] if resumed else []),
        {"event": "train", "images": 1, "time": began, **seconds("", "training")},
        {"event": "eval", "images": 1, "time": began}
        | seconds("sample_", "sampling")
        | seconds("feature_", "features"),
        {"event": "probe", "probe": "response", "images": 1, "time": began, **seconds("probe_", "probes")},
        {"event": "probe", "probe": "evaluation_noise", "images": 1, "time": began, **seconds("sample_", "noise")},
        {"event": "end", "images": 1, "time": ended} | seconds("", "training") | seconds("checkpoint_", "checkpoints"),
    ]
    run = folder / name
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run / "result.json").write_text("{}")


def test_every_second_of_every_worker_is_somewhere(tmp_path):
    parts = {"sampling": 1.5, "noise": 0.5, "features": 0.5, "checkpoints": 0.25, "probes": 0.75}
    record(tmp_path / "s", "a", 0.0, 10.0, training=6.0, **parts)
    record(tmp_path / "s", "b", 0.5, 6.0, startup=0.5, training=5.0)
    record(tmp_path / "s", "c", 7.0, 9.0, training=1.5, resumed=True)  # its clock has a hole
    (tmp_path / "s" / "report").mkdir()  # no run
    parts, workers, wall = split(tmp_path, "s")
    assert (workers, wall) == (2, 10.0)
    assert list(parts.items()) == [
        ("start-up", 0.5), ("training", 11.0), ("sampling", 2.0), ("features", 0.5), ("checkpoints", 0.25),
        ("probes", 0.75), ("logging and other", 0.5), ("idle workers", 4.5),
    ]  # fmt: skip
    assert sum(parts.values()) == workers * wall


def test_it_prints_every_part_and_what_training_and_sampling_are_of_all(tmp_path, capsys):
    record(tmp_path / "s", "a", 0.0, 10.0, startup=1.0, training=6.0, sampling=2.5, features=0.25)
    show(tmp_path, "s")
    said = capsys.readouterr().out
    assert "start-up                  1.0 s   10.0%" in said and "idle workers              0.0 s    0.0%" in said
    assert "training and sampling: 85.0% of the worker-seconds; cores without a worker are not counted" in said


def test_a_suite_that_has_not_run_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="suite: 's' has no finished run in"):
        split(tmp_path, "s")
