"""Where a suite's time went: known logs, known shares."""

import json

import pytest

from bench.performance.time_split import show, split


def record(folder, name, began, ended, resumed=False, **parts):
    run = folder / name
    run.mkdir(parents=True)
    events = [{"event": "start", "images": 0, "time": began + parts.get("startup", 0.0), **({"startup_seconds": parts["startup"]} if "startup" in parts else {})},
              *([{"event": "resume", "images": 0, "time": began}] if resumed else []),
              {"event": "eval", "images": 1, "time": began, "sample_seconds": parts.get("sampling", 0.0), "feature_seconds": parts.get("features", 0.0)},
              {"event": "probe", "probe": "response", "images": 1, "time": began, "probe_seconds": parts.get("probes", 0.0)},
              {"event": "end", "images": 1, "time": ended, "seconds": parts.get("training", 0.0), "checkpoint_seconds": parts.get("checkpoints", 0.0)}]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run / "result.json").write_text("{}")


def test_every_second_of_every_worker_is_somewhere(tmp_path):
    record(tmp_path / "s", "a", 0.0, 10.0, training=6.0, sampling=2.0, features=0.5, checkpoints=0.25, probes=0.75)
    record(tmp_path / "s", "b", 0.5, 6.0, startup=0.5, training=5.0)
    record(tmp_path / "s", "c", 7.0, 9.0, training=1.5, resumed=True)  # its clock has a hole
    parts, workers, wall = split(tmp_path, "s")
    assert (workers, wall) == (2, 10.0)
    assert parts == {"start-up": 0.5, "training": 11.0, "sampling": 2.0, "features": 0.5, "checkpoints": 0.25, "probes": 0.75,
                     "logging and other": 0.5, "idle workers": 4.5}
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
