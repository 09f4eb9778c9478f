"""Reading run folders: files only, no torch, and nothing of the harness; works on folders copied from anywhere.

ROOT/SUITE/RUN/config.json    what the run is
ROOT/SUITE/RUN/events.jsonl   what happened
ROOT/SUITE/RUN/result.json    the summary of both, once the run is done
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.records.event_log import read_events
from reports.records.files import Keys, checked, read_object
from reports.records.run_folder import RunFolder

PROTOCOL = 2  # the version of the measurement protocol this reader knows
EVALUATION = ("images", "seconds", "fid", "eval_seconds", "nfe", "samples", "draws")  # what a summary keeps of each
PROBE = ("probe", "images", "value", "blocks", "largest")  # what it keeps of each probe that is a number
WINDOW = 9  # consecutive points of a series in which its band is read
GATES = 16  # points of training at which a summary keeps them

# What a file must hold, and of which type.
CONFIG: Keys = {"run": str, "suite": str, "role": str, "pair": int | None, "hash": str, "label": str, "spec": dict}
RESULT: Keys = dict.fromkeys(("run", "suite", "hash", "dataset", "backbone", "method", "role", "status"), str)
RESULT |= {"seed": int, "pair": int | None, "images": int, "seconds": float | int, "budget": float | int}
RESULT |= {"evaluations": list, "noise": list, "start": dict, "spec": dict}
MEASURED: Keys = {"images": int, "seconds": float | int | str, "fid": float | int | str}  # each evaluation
PLANNED: Keys = {"images": list, "samples": int, "sampler": str, "extractor": str}  # the evaluation of a configuration


def summarize(config: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    """What reports need of one run; the content of result.json."""
    spec = config["spec"]
    start: dict[str, Any] = next((event for event in events if event["event"] == "start"), {})
    end = next((event for event in events if event["event"] == "end"), None)
    probes = [event for event in events if event["event"] == "probe"]
    last = events[-1] if events else {}
    summary = {key: config[key] for key in ("run", "suite", "hash", "role", "pair")}
    summary |= {key: spec[key] for key in ("dataset", "backbone", "seed", "budget")} | {"method": config["label"]}
    summary |= {"status": end["status"] if end else "running", "reason": (end or {}).get("reason")}
    summary |= {"images": last.get("images", 0), "resumes": sum(event["event"] == "resume" for event in events)}
    evaluations = [event for event in events if event["event"] == "eval"]
    return summary | {
        "seconds": max((event["seconds"] for event in events if "seconds" in event), default=0.0),
        "evaluations": [{key: event.get(key) for key in EVALUATION} for event in evaluations],
        "noise": [fid for probe in probes if probe["probe"] == "evaluation_noise" for fid in probe["fids"]],
        "probes": [{key: probe[key] for key in PROBE if key in probe} for probe in probes if "value" in probe],
        "stability": _stability(probes),
        "start": start,
        "spec": spec,
    }


def _stability(probes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The series of `norms` probes, gates at up to GATES of them, the last `response`; None where there are none."""
    norms = [probe for probe in probes if probe["probe"] == "norms"]
    if not norms:
        return None
    response: dict[str, Any] = next((probe for probe in reversed(probes) if probe["probe"] == "response"), {})
    return {
        "images": [probe["images"] for probe in norms],
        "feature": [probe["features"][0] for probe in norms],
        "gradient": [probe["gradient"] for probe in norms],
        "gates": [
            {"images": probe["images"], "skips": probe["gates"]}
            for probe in norms[:: -max(1, len(norms) // GATES)][::-1]
            if "gates" in probe
        ],
        "levels": response.get("levels", []),
        "shares": response.get("shares", []),
    }


def read_run(folder: Path) -> dict[str, Any] | None:
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
        record = _summary(folder, config, events) | {"status": str(RunFolder(folder).state())}
    ours, told = record["hash"], {"config.json": (config or record)["hash"]}
    told["its start event"] = record["start"].get("hash", ours)
    for what, found in told.items():
        if found != ours:
            what = f"{what} says {short(found)}"
            raise ValueError(f"{folder}: hash is {short(ours)}, {what}: records of another configuration")
    checked(f"{folder}: spec.evaluation", record["spec"].get("evaluation"), PLANNED)
    for i, evaluation in enumerate(record["evaluations"]):
        checked(f"{folder}: evaluations[{i}]", evaluation, MEASURED)
    return record


def _summary(folder: Path, config: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return summarize(config, events)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"its config.json or events.jsonl lacks a field or holds another type ({error!r})"
        raise ValueError(f"{folder}: {what}") from None


def short(value: Any) -> str:
    """The first twelve digits of a hash."""
    return str(value)[:12]
