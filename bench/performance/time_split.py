"""Where the time of a suite went, from its event logs alone."""

from __future__ import annotations

from pathlib import Path

from reports.records import reading

PARTS = ("start-up", "training", "sampling", "features", "checkpoints", "probes", "logging and other", "idle workers")


def show(root: Path, name: str) -> None:
    """Print the share of each part in what the workers had: their number times the wall's seconds."""
    parts, workers, wall = split(root, name)
    whole = sum(parts.values())
    print(f"{name}: {whole:,.0f} worker-seconds, {workers} workers, {wall:,.0f} s")
    for part, seconds in parts.items():
        print(f"  {part:18} {seconds:10,.1f} s  {seconds / whole:6.1%}")
    print(f"training and sampling: {(parts['training'] + parts['sampling']) / whole:.1%} of the worker-seconds; "
          "cores without a worker are not counted")


def split(root: Path, name: str) -> tuple[dict[str, float], int, float]:
    """(seconds by part, workers, wall seconds) of the finished runs of a suite.

    workers: the most runs that were under way at a time. start-up: of processes and networks, as the runs tell it. Idle
    workers: those that wait for the pilots, or have no work left at the end. Interrupted runs are left out: their clocks
    have holes. Runs of before start-up was told count it as idle.
    """
    folder = Path(root) / name
    runs = [reading.read_events(path.parent, train=False) for path in folder.glob("*/events.jsonl")
            if (path.parent / "result.json").is_file()]
    runs = [events for events in runs if not any(event["event"] == "resume" for event in events)]
    if not runs:
        raise ValueError(f"suite: {name!r} has no finished run in {root}")
    spans = [(events[0]["time"] - events[0].get("startup_seconds", 0.0), events[-1]["time"]) for events in runs]
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    moments = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    under_way = [sum(step for _, step in moments[:i + 1]) for i in range(len(moments))]
    workers = max(under_way)
    parts = dict.fromkeys(PARTS, 0.0)
    for events, (start, end) in zip(runs, spans, strict=True):
        last, evaluations = events[-1], [event for event in events if event["event"] == "eval"]
        parts["start-up"] += events[0].get("startup_seconds", 0.0)
        parts["training"] += last["seconds"]
        parts["sampling"] += sum(event.get("sample_seconds", 0.0) for event in evaluations)
        parts["features"] += sum(event.get("feature_seconds", 0.0) for event in evaluations)
        parts["checkpoints"] += last.get("checkpoint_seconds", 0.0)
        probes = [event for event in events if event["event"] == "probe"]
        parts["sampling"] += sum(event.get("sample_seconds", 0.0) for event in probes)
        parts["probes"] += sum(event.get("probe_seconds", 0.0) for event in probes)
        parts["logging and other"] += end - start
    parts["logging and other"] -= sum(parts[part] for part in PARTS[:6])
    parts["idle workers"] = workers * wall - sum(end - start for start, end in spans)
    return parts, workers, wall
