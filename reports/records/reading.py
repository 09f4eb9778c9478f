"""What reports need of a run: the summary of its config.json and events.jsonl, which result.json holds when it ends."""

from __future__ import annotations

from typing import Any

PROTOCOL = 2  # the version of the measurement protocol this reader knows
EVALUATION = (
    "images",
    "seconds",
    "fid",
    "kid",
    "eval_seconds",
    "nfe",
    "samples",
    "draws",
    "beside",
    "mean_spread",
)  # what a summary keeps of each
PROBE = ("probe", "images", "value", "blocks", "largest")  # what it keeps of each probe that is a number
PLACE = ("device_name", "processes", "accumulate", "checkpointing")  # what it keeps of how a run was computed
WINDOW = 9  # consecutive points of a series in which its band is read
GATES = 16  # points of training at which a summary keeps them


def summarize(config: dict[str, Any], events: list[dict[str, Any]]) -> dict[str, Any]:
    """What reports need of one run; the content of result.json."""
    kinds = ("start", "eval", "probe", "resume", "end")
    starts, evaluations, probes, resumes, ends = ([one for one in events if one["event"] == kind] for kind in kinds)
    spec, end = config["spec"], ends[0] if ends else {"status": "running"}
    summary = {key: config[key] for key in ("run", "suite", "hash", "role", "pair")}
    summary |= {key: spec[key] for key in ("dataset", "backbone", "seed", "budget")} | {"method": config["label"]}
    return summary | {
        "status": end["status"],
        "reason": end.get("reason"),
        "images": events[-1].get("images", 0) if events else 0,
        "resumes": len(resumes),
        "computed": {key: _values([*starts, *resumes], key) for key in PLACE},
        "seconds": max((event["seconds"] for event in events if "seconds" in event), default=0.0),
        "evaluations": [{key: event.get(key) for key in EVALUATION} for event in evaluations],
        "noise": [fid for probe in probes if probe["probe"] == "evaluation_noise" for fid in probe["fids"]],
        "probes": [{key: probe[key] for key in PROBE if key in probe} for probe in probes if "value" in probe],
        "stability": _stability(probes),
        "start": starts[0] if starts else {},
        "spec": spec,
    }


def _values(events: list[dict[str, Any]], key: str) -> list[Any]:
    """What a run was computed with, one after the other, each value once."""
    return [*dict.fromkeys(event[key] for event in events if key in event)]


def _stability(probes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The series of `norms` probes, gates at up to GATES of them, the last `response`; None where there are none."""
    norms = [probe for probe in probes if probe["probe"] == "norms"]
    if not norms:
        return None
    response: dict[str, Any] = next((probe for probe in reversed(probes) if probe["probe"] == "response"), {})
    kept = norms[:: -max(1, len(norms) // GATES)][::-1]
    return {
        "images": [probe["images"] for probe in norms],
        "feature": [probe["features"][0] for probe in norms],
        "gradient": [probe["gradient"] for probe in norms],
        "gates": [{"images": probe["images"], "skips": probe["gates"]} for probe in kept if "gates" in probe],
        "levels": response.get("levels", []),
        "shares": response.get("shares", []),
    }


def short(value: Any) -> str:
    """The first twelve digits of a hash."""
    return str(value)[:12]
