"""The folder of a suite's runs: what belongs to it, its frozen targets, and the jobs that were submitted.

ROOT/SUITE/suite.json        cells, arms, seeds and runs
ROOT/SUITE/protocol.json     targets, frozen from the pilots before the first comparison starts
ROOT/SUITE/submitted.json    batches of jobs
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.planning.suite import Suite, evaluation_images
from bench.runs.run_spec import Run
from reports.analysis import bands
from reports.records.files import read_json, write_json
from reports.records.lease import Held, Lease
from reports.records.reading import PROTOCOL


class SweepFolder:
    """The folder of one suite under ROOT."""

    def __init__(self, root: Path, suite: str) -> None:
        self.path = Path(root) / suite

    @property
    def suite(self) -> Path:
        """What belongs to the suite."""
        return self.path / "suite.json"

    @property
    def protocol(self) -> Path:
        """Its frozen targets."""
        return self.path / "protocol.json"

    def batches(self) -> list[dict[str, Any]]:
        """The batches of jobs submitted so far: cluster, kind, code, jobs with their runs."""
        path = self.path / "submitted.json"
        found: list[dict[str, Any]] = read_json(path) if path.is_file() else []
        return found

    def remember(self, batch: dict[str, Any]) -> None:
        """Write a batch down, in the place of what was written of it before."""
        others = [other for other in self.batches() if other["batch"] != batch["batch"]]
        write_json(self.path / "submitted.json", [*others, batch])

    def forget(self, mark: str) -> None:
        """Take a batch back that led to no job."""
        write_json(self.path / "submitted.json", [batch for batch in self.batches() if batch["batch"] != mark])

    def publish(self, suite: Suite, runs: list[Run]) -> None:
        """Write suite.json. BadInput if seeds changed after a run has begun: that would be choosing the result."""
        from bench.planning.plan import floor_seeds  # with torch, which `status` starts without
        from bench.planning.suite_file import label

        seeds = {name: getattr(suite.seeds, name) for name in ("paired", "pilots", "null", "tuning")}
        seeds["floor"] = floor_seeds(suite)
        if self.suite.is_file() and any(self.path.glob("*/events.jsonl")):
            before = read_json(self.suite)["seeds"]
            for name in ("paired", "pilots", "tuning"):
                if before.get(name, []) != seeds[name]:
                    raise BadInput(
                        f"{suite.path}: seeds.{name}: {seeds[name]} differs from {before.get(name, [])}, with which "
                        f"runs of {self.path} were started; seeds never change after the first: use another suite name"
                    )
        cells = [(cell, suite.of(cell)) for cell in suite.cells]
        content = {
            "protocol": PROTOCOL,
            **{key: getattr(suite, key) for key in ("title", "scale", "trial", "baseline")},
            "suite": suite.name,
            "arms": [label(arm) for arm in suite.arms],
            "seeds": seeds,
            "cells": [
                {"dataset": c.dataset, "backbone": c.backbone, "budget": t.budget, "evaluations": evaluation_images(t)}
                for c, t in cells
            ],
            "runs": [
                {"run": run.id, "dataset": run.spec.dataset, "backbone": run.spec.backbone, "method": run.label}
                | {"role": run.role, "seed": run.spec.seed, "pair": run.pair}
                for run in runs
            ],
        }
        write_json(self.suite, content)

    def freeze(self, everything: Iterable[Run]) -> bool:
        """Whether comparisons may start: the targets are frozen, now if all pilots are done, or the suite has none."""
        pilots = [run for run in everything if run.role == "pilot"]
        if not pilots:
            return True
        folders = [run.folder(self.path.parent) for run in pilots]
        if not self.protocol.is_file():
            if not all(folder.is_done() for folder in folders):
                return False
            try:
                with Lease(self.path / "protocol.lock"):
                    if not self.protocol.is_file():
                        write_json(self.protocol, bands.derive([read_json(folder.result) for folder in folders]))
            except Held:  # another process freezes them: the next look finds them
                return self.protocol.is_file()
        recorded = {run for cell in read_json(self.protocol)["cells"].values() for run in cell["pilots"]}
        if strangers := recorded ^ {run.id for run in pilots}:
            raise BadInput(
                f"{self.protocol}: was frozen from other pilots than the suite's (first difference: {min(strangers)}); "
                "a changed configuration needs another suite name or another --root"
            )
        return True
