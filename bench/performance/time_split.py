"""Where the time of a suite went, from its event logs alone."""

from __future__ import annotations

import math
from itertools import accumulate
from pathlib import Path

from reports.records.event_log import read_events
from reports.records.run_folder import RunFolder


def show(root: Path, name: str) -> None:
    """Print the share of each part in what the workers had: their number times the wall's seconds."""
    parts, workers, wall = split(root, name)
    whole = sum(parts.values())
    print(f"{name}: {whole:,.0f} worker-seconds, {workers} workers, {wall:,.0f} s")
    for part, seconds in parts.items():
        print(f"  {part:18} {seconds:10,.1f} s  {seconds / whole:6.1%}")
    share = (parts["training"] + parts["sampling"]) / whole
    print(f"training and sampling: {share:.1%} of the worker-seconds; cores without a worker are not counted")


def split(root: Path, name: str) -> tuple[dict[str, float], int, float]:
    """(seconds by part, workers, wall seconds) of the finished runs of a suite; ValueError if there are none.

    workers: the most runs under way at a time. start-up: of processes and networks, as the runs tell it. Idle workers
    wait for the pilots, or have no work left at the end. Interrupted runs are left out: their clocks have holes.
    """
    done = [path for path in (Path(root) / name).glob("*") if RunFolder(path).is_done()]
    logs = [read_events(path, train=False) for path in done]
    runs = [events for events in logs if not any(event["event"] == "resume" for event in events)]
    if not runs:
        raise ValueError(f"suite: {name!r} has no finished run in {root}")

    def total(field: str) -> float:
        return math.fsum(event.get(field, 0.0) for events in runs for event in events)

    spans = [(events[0]["time"] - events[0].get("startup_seconds", 0.0), events[-1]["time"]) for events in runs]
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    busy = sum(end - start for start, end in spans)
    moments = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    workers = max(accumulate(step for _, step in moments))
    parts = {"start-up": total("startup_seconds"), "training": sum(events[-1]["seconds"] for events in runs)}
    parts |= {"sampling": total("sample_seconds"), "features": total("feature_seconds")}
    parts |= {"checkpoints": total("checkpoint_seconds"), "probes": total("probe_seconds")}
    parts["logging and other"] = busy - sum(parts.values())
    parts["idle workers"] = workers * wall - busy
    return parts, workers, wall
