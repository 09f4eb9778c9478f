"""Reading run folders: files only, no torch, and nothing of the harness; works on folders copied from anywhere.

    ROOT/SUITE/RUN/config.json    what the run is
    ROOT/SUITE/RUN/events.jsonl   what happened
    ROOT/SUITE/RUN/result.json    the summary of both, once the run is done
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from reports.records.files import Keys, checked, read_json, read_object

__all__ = ["checked", "number", "read_events", "read_json", "read_object", "read_run", "short", "summarize"]

PROTOCOL = 1  # the version of the measurement protocol this reader knows
TRAIN = b'{"event": "train"'  # how the lines begin that there are many of
EVALUATION = ("images", "seconds", "fid", "eval_seconds", "nfe", "samples", "draws")  # what a summary keeps of each
PROBE = ("probe", "images", "value", "blocks", "largest")  # what it keeps of each probe that is a number
WINDOW = 9  # consecutive points of a series in which its band is read
GATES = 16  # points of training at which a summary keeps them

# What a file must hold, and of which type.
CONFIG: Keys = {"run": str, "suite": str, "role": str, "pair": int | None, "hash": str, "label": str, "spec": dict}
RESULT: Keys = {"run": str, "suite": str, "hash": str, "dataset": str, "backbone": str, "method": str, "seed": int, "role": str, "pair": int | None,
                "status": str, "images": int, "seconds": float | int, "budget": float | int, "evaluations": list, "noise": list, "start": dict, "spec": dict}
MEASURED: Keys = {"images": int, "seconds": float | int | str, "fid": float | int | str}  # each evaluation
PLANNED: Keys = {"images": list, "samples": int, "sampler": str, "extractor": str}  # the evaluation of a configuration


def read_events(folder: Path, train: bool = True, live: bool = False) -> list[dict]:
    """The events of a run. A torn last line is left out and said; ValueError names any other line that is broken.

    train: whether to read `train` events, of which there are many. live: a run may be writing; a torn line is no news.
    """
    path = Path(folder) / "events.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop() != b""
    events = []
    for number, line in enumerate(lines, 1):
        if not train and line.startswith(TRAIN) and line.endswith(b"}"):
            continue
        event = _event(line)
        if event is not None:
            events.append(event)
        elif number == len(lines) and not torn:
            torn = True
        else:
            raise ValueError(f"{path}: line {number} is broken; an interrupted run only ever tears its last line")
    if torn and not live:
        print(f"{path}: the last line is torn; left out", file=sys.stderr)
    return events


def _event(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def summarize(config: dict, events: list[dict]) -> dict:
    """What reports need of one run; the content of result.json."""
    spec = config["spec"]
    start = next((event for event in events if event["event"] == "start"), {})
    end = next((event for event in events if event["event"] == "end"), None)
    probes = [event for event in events if event["event"] == "probe"]
    last = events[-1] if events else {}
    return {
        "run": config["run"], "suite": config["suite"], "hash": config["hash"], "dataset": spec["dataset"],
        "backbone": spec["backbone"], "method": config["label"], "seed": spec["seed"], "role": config["role"],
        "pair": config["pair"], "status": end["status"] if end else "running", "reason": (end or {}).get("reason"),
        "images": last.get("images", 0), "seconds": max((e["seconds"] for e in events if "seconds" in e), default=0.0),
        "budget": spec["budget"], "resumes": sum(event["event"] == "resume" for event in events),
        "evaluations": [{key: event.get(key) for key in EVALUATION} for event in events if event["event"] == "eval"],
        "noise": [fid for probe in probes if probe["probe"] == "evaluation_noise" for fid in probe["fids"]],
        "probes": [{key: probe[key] for key in PROBE if key in probe} for probe in probes if "value" in probe],
        "stability": _stability(probes),
        "start": start, "spec": spec,
    }


def _stability(probes: list[dict]) -> dict | None:
    """The series of `norms` probes, the gates at up to GATES of them, and the last `response`; None for a run without."""
    norms = [probe for probe in probes if probe["probe"] == "norms"]
    if not norms:
        return None
    response = next((probe for probe in reversed(probes) if probe["probe"] == "response"), {})
    return {"images": [probe["images"] for probe in norms], "feature": [probe["features"][0] for probe in norms],
            "gradient": [probe["gradient"] for probe in norms],
            "gates": [{"images": probe["images"], "skips": probe["gates"]} for probe in norms[::-max(1, len(norms) // GATES)][::-1]
                      if "gates" in probe],
            "levels": response.get("levels", []), "shares": response.get("shares", [])}


def read_run(folder: Path) -> dict | None:
    """The summary of a run: its result.json, else what its events say so far; None if it has not begun.

    ValueError, one line: files that are broken, lack a field, or belong to different configurations.
    """
    folder = Path(folder)
    config = read_object(folder / "config.json", CONFIG) if (folder / "config.json").is_file() else None
    if (folder / "result.json").is_file():
        record = read_object(folder / "result.json", RESULT)
    elif config is None or not (events := read_events(folder, train=False)):
        return None
    else:
        record = _summary(folder, config, events)
    for what, found in (("config.json", (config or record)["hash"]), ("its start event", record["start"].get("hash", record["hash"]))):
        if found != record["hash"]:
            raise ValueError(f"{folder}: hash is {short(record['hash'])}, {what} says {short(found)}: records of another configuration")
    checked(f"{folder}: spec.evaluation", record["spec"].get("evaluation"), PLANNED)
    for i, evaluation in enumerate(record["evaluations"]):
        checked(f"{folder}: evaluations[{i}]", evaluation, MEASURED)
    return record


def _summary(folder: Path, config: dict, events: list[dict]) -> dict:
    try:
        return summarize(config, events)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: its config.json or events.jsonl lacks a field or holds another type ({error!r})") from None


def short(value: Any) -> str:
    """The first twelve digits of a hash."""
    return str(value)[:12]


def number(value: Any) -> float:
    """A number as events write it: nan, inf and -inf are strings; anything else that is no number is nan."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
