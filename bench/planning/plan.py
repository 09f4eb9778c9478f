"""From a suite to matched run specs: one fully resolved configuration per run, its identity and its folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import models
from bench.planning import compute_defaults as fastest
from bench.errors import BadInput, unknown
from bench.runs.record import write_json
from bench.planning.suite import BASELINE, Cell, Suite, evaluation_images, label
from reports.records import labels, reading

PROTOCOL = 1  # version of the measurement protocol, docs/protocol.md
FILTERS = ("dataset", "backbone", "method", "seed", "role", "run")


@dataclass(frozen=True)
class Run:
    """One run: `spec` holds all that can change its result, `hash` is over `spec`, the rest says what it is for."""

    suite: str
    role: str  # pilot, paired or null
    pair: int | None  # seed of the baseline it is paired with
    label: str  # the method as the suite's reader writes it
    spec: dict
    checkpoints: int = 20  # how many, evenly spaced; cannot change a result
    probes: bool = False  # whether the run also measures itself; cannot change a result

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of the spec."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def id(self) -> str:
        """The name of the folder: readable parts, then the identity."""
        slug = re.sub(r"[^a-z0-9.]+", "-", f"{self.spec['dataset']} {self.spec['backbone']} {self.label}".lower()).strip("-")
        return f"{slug}-s{self.spec['seed']}-{self.hash[:12]}"

    @property
    def cell(self) -> str:
        """dataset/backbone."""
        return f"{self.spec['dataset']}/{self.spec['backbone']}"

    @property
    def config(self) -> dict:
        """What config.json holds."""
        return {"run": self.id, "suite": self.suite, "role": self.role, "pair": self.pair, "hash": self.hash,
                "label": self.label, "spec": self.spec}

    def folder(self, root: Path) -> Path:
        """Where the run lies."""
        return Path(root) / self.suite / self.id

    def fields(self) -> dict[str, str]:
        """What a filter compares."""
        return {"dataset": self.spec["dataset"], "backbone": self.spec["backbone"], "method": self.label,
                "seed": str(self.spec["seed"]), "role": self.role, "run": self.id}


def plan(suite: Suite) -> list[Run]:
    """Every run of a suite: pilots first, then seed by seed all arms and the null run, cells interleaved."""
    runs = [_run(suite, cell, BASELINE, seed, "pilot", None) for seed in suite.seeds.pilots for cell in suite.cells]
    nulls = dict(zip(suite.seeds.paired, suite.seeds.null, strict=False))  # none without pilots
    for seed in suite.seeds.paired:
        for cell in suite.cells:
            runs += [_run(suite, cell, arm, seed, "paired", seed) for arm in suite.arms]
            runs += [_run(suite, cell, BASELINE, nulls[seed], "null", seed)] if seed in nulls else []
    return runs


def _run(suite: Suite, cell: Cell, arm: str, seed: int, role: str, pair: int | None) -> Run:
    text, factor = labels.split(arm)
    method, training = models.parse_method(text), suite.of(cell)
    optimizer = training.optimizer.model_dump()
    optimizer["lr"] = labels.scaled(optimizer["lr"], factor)
    evaluation = training.evaluation.model_dump(exclude={"count", "first"})
    spec = {"protocol": PROTOCOL, "dataset": cell.dataset, "backbone": cell.backbone,
            "method": {"name": method.name, **method.params}, "seed": seed,
            **training.model_dump(exclude={"evaluation", "checkpoints", "probes"}), "optimizer": optimizer,
            "evaluation": {"images": evaluation_images(training), **evaluation}}
    return Run(suite.name, role, pair, label(arm), fastest.resolve(spec), training.checkpoints, training.probes)


def method_text(spec: dict) -> str:
    """The method of a spec as the text that `models.build` takes, every parameter written out."""
    parameters = ", ".join(f"{key}={value!r}" for key, value in spec["method"].items() if key != "name")
    return f"{spec['method']['name']}({parameters})"


def select(runs: list[Run], text: str | None) -> list[Run]:
    """The runs that FILTER names: `method=none,seed=0`; a key given twice means either. BadInput if it names none.

    A method matches by its label or by its bare name.
    """
    if not text:
        return runs
    wanted: dict[str, set[str]] = {}
    for part in re.split(r",(?![^(]*\))", text):  # a comma inside parentheses belongs to the method
        key, equals, value = part.strip().partition("=")
        if not equals or key not in FILTERS:
            raise unknown("--only", part.strip(), [f"{name}=..." for name in FILTERS])
        wanted.setdefault(key, set()).add(value)
    found = [run for run in runs if all(_matches(run, key, values) for key, values in wanted.items())]
    if not found:
        have = {key: sorted({run.fields()[key] for run in runs}) for key in wanted if key != "run"}
        choices = "; ".join(f"{key}: {', '.join(values)}" for key, values in have.items())
        raise BadInput(f"--only: {text!r} names no run; choose from {choices or 'the folders that plan lists'}")
    return found


def _matches(run: Run, key: str, values: set[str]) -> bool:
    return run.fields()[key] in values or key == "method" and run.spec["method"]["name"] in values


def publish(suite: Suite, runs: list[Run], root: Path) -> Path:
    """Write runs/SUITE/suite.json, which says what belongs to the suite; refuse changed seeds.

    Seeds are fixed before the first run and never changed after one: choosing them afterwards is choosing the result.
    """
    folder = Path(root) / suite.name
    path = folder / "suite.json"
    seeds = {"paired": suite.seeds.paired, "pilots": suite.seeds.pilots, "null": suite.seeds.null}
    if path.is_file() and any(folder.glob("*/events.jsonl")):
        before = json.loads(path.read_text())["seeds"]
        for name in ("paired", "pilots"):
            if before[name] != seeds[name]:
                raise BadInput(f"{suite.path}: seeds.{name}: {seeds[name]} differs from {before[name]}, with which runs of "
                               f"{folder} were started; seeds never change after the first run: use another suite name")
    content = {"protocol": PROTOCOL, "suite": suite.name, "title": suite.title, "scale": suite.scale, "trial": suite.trial, "baseline": BASELINE,
               "arms": [label(arm) for arm in suite.arms], "seeds": seeds,
               "cells": [{"dataset": cell.dataset, "backbone": cell.backbone, "budget": suite.of(cell).budget,
                          "evaluations": evaluation_images(suite.of(cell))} for cell in suite.cells],
               "runs": [{"run": run.id, "dataset": run.spec["dataset"], "backbone": run.spec["backbone"], "method": run.label,
                         "role": run.role, "seed": run.spec["seed"], "pair": run.pair} for run in runs]}
    write_json(path, content)
    return path


def claim(folder: Path, run: Run) -> None:
    """Write config.json, or check that the folder is this run's."""
    path = folder / "config.json"
    if not path.is_file():
        write_json(path, run.config)
    elif (found := reading.read_json(path)) != run.config:
        raise BadInput(f"{path}: belongs to another configuration ({str(found.get('hash'))[:12]}, expected {run.hash[:12]}); "
                       "move the folder away to train this run")
