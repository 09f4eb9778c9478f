"""Reading run folders: files only, no torch, and nothing of the harness; works on folders copied from anywhere.

    ROOT/SUITE/suite.json         what belongs to the suite
    ROOT/SUITE/protocol.json      the frozen targets
    ROOT/SUITE/RUN/config.json    what the run is
    ROOT/SUITE/RUN/events.jsonl   what happened
    ROOT/SUITE/RUN/result.json    the summary of both, once the run is done
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROTOCOL = 1  # the version of the measurement protocol this reader knows


def read_json(path: Path) -> Any:
    """A JSON file; ValueError, one line, if it is not there or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: not there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def read_events(folder: Path, train: bool = True, live: bool = False) -> list[dict]:
    """The events of a run. A torn last line is left out and said; ValueError names any other line that is broken.

    train: whether to read `train` events, of which there are many. live: a run may be writing; a torn line is no news.
    """
    path = Path(folder) / "events.jsonl"
    if not path.is_file():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    if last and not live:
        print(f"{path}: the last line is torn; left out", file=sys.stderr)
    events = []
    for number, line in enumerate(lines, 1):
        if not train and line.startswith(b'{"event": "train"'):
            continue
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path}: line {number} is broken; an interrupted run only ever tears its last line") from None
        if not isinstance(event, dict) or "event" not in event:
            raise ValueError(f"{path}: line {number} is no event")
        events.append(event)
    return events


def summarize(config: dict, events: list[dict]) -> dict:
    """What reports need of one run; the content of result.json."""
    spec = config["spec"]
    start = next((event for event in events if event["event"] == "start"), {})
    end = next((event for event in events if event["event"] == "end"), None)
    keys = ("images", "seconds", "fid", "eval_seconds", "nfe", "samples", "draws")
    evaluations = [{key: event.get(key) for key in keys} for event in events if event["event"] == "eval"]
    noise = [fid for event in events if event.get("probe") == "evaluation_noise" for fid in event["fids"]]
    last = events[-1] if events else {}
    return {
        "run": config["run"], "suite": config["suite"], "hash": config["hash"], "dataset": spec["dataset"],
        "backbone": spec["backbone"], "method": config["label"], "seed": spec["seed"], "role": config["role"],
        "pair": config["pair"], "status": end["status"] if end else "running", "reason": (end or {}).get("reason"),
        "images": last.get("images", 0), "seconds": max((e["seconds"] for e in events if "seconds" in e), default=0.0),
        "budget": spec["budget"], "evaluations": evaluations, "noise": noise,
        "resumes": sum(event["event"] == "resume" for event in events), "start": start, "spec": spec,
    }


@dataclass(frozen=True)
class Records:
    """A suite as it lies on the disk. `runs` has the summary of every run that has begun, by name."""

    root: Path
    suite: dict
    protocol: dict | None
    runs: dict[str, dict]
    missing: list[str] = field(default_factory=list)  # listed in suite.json, without a record

    @property
    def name(self) -> str:
        """Of the suite."""
        return self.suite["suite"]

    @property
    def cells(self) -> list[str]:
        """dataset/backbone, in the suite's order."""
        return [f"{cell['dataset']}/{cell['backbone']}" for cell in self.suite["cells"]]

    def budget(self, cell: str) -> int:
        """tau of a cell, in images."""
        return next(c["budget"] for c in self.suite["cells"] if f"{c['dataset']}/{c['backbone']}" == cell)

    def frozen(self, cell: str) -> dict | None:
        """The cell's entry in protocol.json, None as long as targets are not frozen."""
        return (self.protocol or {"cells": {}})["cells"].get(cell)

    def members(self, cell: str, role: str, method: str | None = None) -> list[dict]:
        """Listed runs of a cell with that role (and method), each with its summary under `record`, None if missing."""
        dataset, _, backbone = cell.partition("/")
        return [{**entry, "record": self.runs.get(entry["run"])} for entry in self.suite["runs"]
                if (entry["dataset"], entry["backbone"], entry["role"]) == (dataset, backbone, role)
                and method in (None, entry["method"])]


def records(root: Path, suite: str) -> Records:
    """Read a whole suite; ValueError, one line, if it is not there or speaks of another protocol version."""
    folder = Path(root) / suite
    if not (folder / "suite.json").is_file():
        raise ValueError(f"suite: {suite!r} has no runs in {root}")
    content = read_json(folder / "suite.json")
    _check_version(folder / "suite.json", content.get("protocol"))
    frozen = read_json(folder / "protocol.json") if (folder / "protocol.json").is_file() else None
    if frozen:
        _check_version(folder / "protocol.json", frozen.get("version"))
    runs, missing = {}, []
    for entry in content["runs"]:
        record = read_run(folder / entry["run"])
        if record is None:
            missing.append(entry["run"])
            continue
        _check_version(folder / entry["run"], record["spec"].get("protocol"))
        _check_entry(folder / entry["run"], entry, record)
        runs[entry["run"]] = record
    return Records(Path(root), content, frozen, runs, missing)


def read_run(folder: Path) -> dict | None:
    """The summary of a run: its result.json, else what its events say so far; None if it has not begun."""
    if (folder / "result.json").is_file():
        return read_json(folder / "result.json")
    if not (folder / "config.json").is_file():
        return None
    events = read_events(folder, train=False)
    return summarize(read_json(folder / "config.json"), events) if events else None


def _check_version(path: Path, version: Any) -> None:
    if version != PROTOCOL:
        raise ValueError(f"{path}: protocol version {version!r}; this reader knows {PROTOCOL}")


def _check_entry(folder: Path, entry: dict, record: dict) -> None:
    for key in ("run", "dataset", "backbone", "method", "role", "seed", "pair"):
        if record[key] != entry[key]:
            raise ValueError(f"{folder}: {key} is {record[key]!r}, suite.json says {entry[key]!r}")


def number(value: Any) -> float:
    """A number as events write it: nan, inf and -inf are strings; anything else that is no number is nan."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
