"""The gates: nothing is printed as a comparison unless the records of its runs agree in everything but the method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reports.reading import Records

PAIRED = {"init_digest": "initial backbone weights"}  # equal within a pair; must differ from the null run's
EVERYWHERE = {"data_digest": "data", "reference_digest": "reference statistics", "extractor": "extractor",
              "extractor_digest": "extractor weights", "resize": "resize", "protocol": "protocol version"}  # equal in a cell


@dataclass(frozen=True)
class Failure:
    """One failed gate: the runs, the field, and what it was."""

    cell: str
    method: str  # the arm it touches; "" for the whole cell
    field: str
    runs: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.field}: {self.what} ({', '.join(self.runs)})"


def failures(records: Records) -> list[Failure]:
    """Every failed gate of a suite."""
    found: list[Failure] = []
    for cell in records.cells:
        members = [m for role in ("pilot", "paired", "null") for m in records.members(cell, role)]
        runs = [{**m["record"], "role": m["role"], "pair": m["pair"]} for m in members if m["record"]]
        found += [*_seeds(cell, members), *_evaluations(cell, runs), *_cell_wide(cell, runs)]
        baselines = {run["seed"]: run for run in runs if run["role"] == "paired" and run["method"] == records.suite["baseline"]}
        for run in runs:
            if run["role"] == "paired" and run["method"] != records.suite["baseline"] and run["seed"] in baselines:
                found += _pair(cell, baselines[run["seed"]], run)
            if run["role"] == "null" and run["pair"] in baselines:
                found += _null(cell, baselines[run["pair"]], run)
    return found


def _seeds(cell: str, members: list[dict]) -> Iterator[Failure]:
    """Distinct within an arm; pilots, pairs and null runs disjoint."""
    owner: dict[int, dict] = {}
    for member in members:
        other = owner.setdefault(member["seed"], member)
        same_arm = (other["role"], other["method"]) == (member["role"], member["method"])
        if other is not member and (same_arm or other["role"] != member["role"]):
            yield Failure(cell, member["method"], "seed", (other["run"], member["run"]), f"{member['seed']} is used twice")


def _evaluations(cell: str, runs: Iterable[dict]) -> Iterator[Failure]:
    """No evaluation counted twice after a resume; none at an image count that the configuration does not name."""
    for run in runs:
        images = [e["images"] for e in run["evaluations"]]
        if images != sorted(set(images)):
            yield Failure(cell, run["method"], "evaluations", (run["run"],), "an evaluation is counted twice or out of order")
        strangers = set(images) - set(run["spec"]["evaluation"]["images"])
        if strangers or (run["status"] == "complete" and len(images) < len(run["spec"]["evaluation"]["images"])):
            yield Failure(cell, run["method"], "evaluations", (run["run"],), "not the evaluations of its configuration")


def _cell_wide(cell: str, runs: list[dict]) -> Iterator[Failure]:
    """One extractor, one reference, one configuration but for method and seed: everything against the first run."""
    for run in runs[1:]:
        first = runs[0]
        for key, name in EVERYWHERE.items():
            if run["start"].get(key) != first["start"].get(key):
                yield _differ(cell, run, first, name, first["start"].get(key), run["start"].get(key))
        yield from _configuration(cell, first, run)
        for mine, other in zip(run["evaluations"], first["evaluations"], strict=False):
            if (mine.get("samples"), mine.get("nfe")) != (other.get("samples"), other.get("nfe")):
                yield _differ(cell, run, first, "samples and NFE", (other.get("samples"), other.get("nfe")),
                              (mine.get("samples"), mine.get("nfe")))
                break


def _configuration(cell: str, first: dict, run: dict) -> Iterator[Failure]:
    for key in sorted((first["spec"].keys() | run["spec"].keys()) - {"method", "seed"}):
        if first["spec"].get(key) != run["spec"].get(key):
            yield _differ(cell, run, first, f"configuration {key}", first["spec"].get(key), run["spec"].get(key))


def _pair(cell: str, baseline: dict, arm: dict) -> Iterator[Failure]:
    for key, name in PAIRED.items():
        if not arm["start"].get(key) or arm["start"].get(key) != baseline["start"].get(key):
            yield _differ(cell, arm, baseline, name, baseline["start"].get(key), arm["start"].get(key))
    if arm["start"].get("device") != baseline["start"].get("device"):
        yield _differ(cell, arm, baseline, "device type", baseline["start"].get("device"), arm["start"].get("device"))
    drawn = [{e["images"]: e["draws"] for e in run["evaluations"]} for run in (baseline, arm)]
    at = next((images for images in drawn[0] if images in drawn[1] and drawn[0][images] != drawn[1][images]), None)
    if at is not None:
        yield _differ(cell, arm, baseline, f"drawn batches up to {at:,} images", drawn[0][at], drawn[1][at])


def _null(cell: str, baseline: dict, null: dict) -> Iterator[Failure]:
    """A null run that shares its partner's weights would show no noise at all."""
    if null["start"].get("init_digest") == baseline["start"].get("init_digest"):
        yield Failure(cell, "A/A", "initial backbone weights", (baseline["run"], null["run"]), "equal; they must differ in the A/A arm")


def _differ(cell: str, run: dict, other: dict, field: str, expected: Any, found: Any) -> Failure:
    method = "A/A" if run["role"] == "null" else "" if run["role"] == "pilot" else run["method"]
    return Failure(cell, method, field, (other["run"], run["run"]), f"{_short(expected)} against {_short(found)}")


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) < 80 else text[:77] + "..."
