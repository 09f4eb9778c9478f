"""The event log: strict lines, and cutting that keeps the record of resumes."""

from __future__ import annotations

import json
import math

import pytest

from reports.records.event_log import EventLog, encode


def test_non_finite_numbers_become_strings_of_strict_json():
    line = encode({"event": "eval", "fid": math.nan, "list": [math.inf, 1.5], "deep": {"x": -math.inf}})
    strict = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert strict == {"event": "eval", "fid": "nan", "list": ["inf", 1.5], "deep": {"x": "-inf"}}


def test_cutting_removes_what_lies_beyond_but_keeps_resume_lines(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append({"event": "start", "images": 0})
    size = log.size
    log.append({"event": "train", "images": 64})
    log.append({"event": "resume", "images": 0, "note": "first"})
    log.append({"event": "train", "images": 64})
    log.cut(size)
    log.append({"event": "resume", "images": 0, "note": "second"}, flush=True)
    log.close()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e.get("note")) for e in events] == [("start", None), ("resume", "first"), ("resume", "second")]


def test_cutting_survives_a_torn_last_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "start", "images": 0}\n{"event": "resume", "ima')
    log = EventLog(path)
    assert (log.whole(), log.size) == (32, path.stat().st_size)
    log.cut(32)
    log.append({"event": "train", "images": 64})
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["start", "train"]


def test_a_log_is_appended_to(tmp_path):
    for images in (0, 64):
        log = EventLog(tmp_path / "events.jsonl")
        log.append({"event": "train", "images": images})
        log.close()
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 2
