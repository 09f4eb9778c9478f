"""A suite: which cells, arms and seeds, and every number a run depends on.

A suite is data. Keys under a cell override the suite's for that cell. Nothing here is taken from the machine: threads,
device type and precision are keys, so that the identity of a run never depends on who plans it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from bench.errors import BadInput
from bench.runs.run_spec import NULL_SEED, Execution, Fraction, Optimizer, Recipe, Sampling, Seed, Strict
from reports.analysis.verdicts import SHARES, VERDICT_PAIRS
from reports.records import labels
from reports.records.suite_records import InCell

FLOOR_PAIRS = 3  # the first pairs of each cell whose baseline is trained again for the noise floor
PERTURBATION = 1e-6  # relative size of the noise on the initial weights of a floor run


class OptimizerKeys(Optimizer):
    """The optimizer of a suite. half_lives: instead of betas, of Adam's two averages as fractions of the budget."""

    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[], min_length=2, max_length=2)
    half_lives: list[Fraction] = Field(default=[], min_length=2, max_length=2)

    @model_validator(mode="after")
    def _one_form(self) -> OptimizerKeys:
        if bool(self.betas) == bool(self.half_lives):
            raise ValueError("betas: give betas, or half_lives as fractions of the budget, and not both")
        return self

    def resolved(self, steps: int, factor: float) -> Optimizer:
        """With betas, 2^(-1 / (half-life in steps)), and the learning rate times a factor."""
        betas = self.betas or [0.5 ** (1 / (half_life * steps)) for half_life in self.half_lives]
        rate = labels.scaled(self.lr, factor)
        return Optimizer(lr=rate, betas=betas, weight_decay=self.weight_decay, warmup=self.warmup)


class EvaluationKeys(Sampling):
    """The evaluations of a suite. count: how many, log-spaced from the fraction `first` of the budget to all of it."""

    count: int = Field(ge=2)
    first: Fraction = 0.1


class Training(Execution, Recipe):
    """Every key that a cell may override. None for precision, compile and channels_last: see compute_defaults.yaml."""

    optimizer: OptimizerKeys
    evaluation: EvaluationKeys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.budget % self.batch:
            raise ValueError(f"budget: {self.budget} is not a multiple of batch {self.batch}")
        for key, parts in (("processes", self.processes), ("accumulate", self.processes * self.accumulate)):
            if self.batch % parts:
                value = getattr(self, key)
                raise ValueError(f"{key}: {value} does not fit; batch {self.batch} is no multiple of {parts}")
        if self.probes and (self.compile or self.processes > 1):
            raise ValueError(f"probes: {self.probes} does not fit; hooks need compile: false and processes: 1")
        count, most = self.evaluation.count, len(evaluation_images(self))
        if most < count:
            what = f"{count} evaluations do not fit into {self.steps} steps; choose at most {most}"
            raise ValueError(f"evaluation.count: {what}")
        return self


class CellKeys(Strict, InCell, extra="allow"):
    """One dataset and one backbone, and beside them the keys of the suite that this cell overrides."""

    dataset: str
    backbone: str

    @classmethod
    def choices(cls) -> list[str]:
        """Its own keys, and those that it may override."""
        return ["dataset", "backbone", *Training.choices()]

    @property
    def overrides(self) -> dict[str, Any]:
        """The keys of the suite that have another value here."""
        return self.model_extra or {}

    name = InCell.cell


class SeedKeys(Strict):
    """Paired seeds, one per pair, and the seeds of pilots and of tuning runs, which are in no pair.

    Without pilots there is no target band, no null arm and no noise floor: a suite of measurements.
    """

    paired: list[Seed] = Field(min_length=1)
    pilots: list[Seed]
    tuning: list[Seed] = []

    @model_validator(mode="after")
    def _enough_and_distinct(self) -> SeedKeys:
        if 0 < len(self.pilots) < 3:
            raise ValueError(f"pilots: {self.pilots} are too few; at least 3, or none for a suite of measurements")
        everything = [*self.paired, *self.pilots, *self.tuning]
        for name, seed in reversed([(name, seed) for name, seeds in self for seed in seeds]):
            if everything.count(seed) > 1:
                raise ValueError(f"{name}: seed {seed} is used twice; every seed must differ")
        return self

    @property
    def null(self) -> list[int]:
        """Seeds of the null arm, in the order of the paired seeds they belong to."""
        return [NULL_SEED + seed for seed in self.paired] if self.pilots else []


class SuiteFile(Training):
    """What a suite file says, validated: its own keys, and those of `Training`, which its cells may override.

    baseline: the arm that the others are compared with. rates: factors on the learning rate at which the tuning seeds
    train the method of every arm; without them they train the arms as they are. trial: the suite only shows that
    everything works: `check` does not ask how far its training got, and no noise floor is trained. looks: pairs after
    which an arm with a verdict is not trained on; without them every arm is trained to the last seed.
    """

    path: Path = Field(exclude=True)
    title: str
    scale: Literal["mini", "full"]
    trial: bool = False
    baseline: str = "none"
    cells: list[CellKeys] = Field(min_length=1)
    arms: list[str] = Field(min_length=1)
    seeds: SeedKeys
    rates: list[Annotated[float, Field(gt=0)]] = []
    looks: list[int] = []

    @model_validator(mode="after")
    def _tunable(self) -> SuiteFile:
        if self.rates and (1 not in self.rates or not self.seeds.tuning or len(set(self.rates)) < len(self.rates)):
            raise ValueError(f"rates: {self.rates} must differ, hold 1, the suite's own rate, and need seeds.tuning")
        return self

    @model_validator(mode="after")
    def _decidable(self) -> SuiteFile:
        looks, last = self.looks, len(self.seeds.paired)
        ascending = looks == sorted(set(looks)) and len(looks) in SHARES
        if looks and not (ascending and looks[0] >= VERDICT_PAIRS and looks[-1] == last):
            least = f"the first at least {VERDICT_PAIRS}, the last {last}, the number of seeds.paired"
            raise ValueError(
                f"looks: {looks}: give {' or '.join(map(str, SHARES))} ascending numbers of pairs, {least}"
            )
        if looks and not self.seeds.pilots:
            raise ValueError(
                f"looks: {looks} need seeds.pilots: a suite of measurements has no verdicts; leave them out"
            )
        return self

    @property
    def name(self) -> str:
        """The name of the file, under which the runs lie."""
        return self.path.stem

    def of(self, cell: CellKeys) -> Training:
        """The training keys of one cell, its overrides applied (nested keys one by one)."""
        keys = self.model_dump(include=set(Training.model_fields), exclude_unset=True)
        return validate(Training, merge(keys, cell.overrides), f"{self.path}: cells[{cell.name}]")


def evaluation_images(training: Training) -> list[int]:
    """Images at which a run is evaluated: log-spaced from `first` of the budget to all of it, whole steps, distinct."""
    points = np.geomspace(training.evaluation.first * training.budget, training.budget, training.evaluation.count)
    steps = np.clip(np.rint(points / training.batch).astype(int), 1, training.steps)
    return [step * training.batch for step in np.unique(steps).tolist()]


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The keys of `changes` over those of `base`, nested ones one by one; betas and half-lives replace each other."""
    merged = dict(base)
    for key, other in (("betas", "half_lives"), ("half_lives", "betas")):
        if key in changes:
            merged.pop(other, None)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return merged


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], raw: dict[str, Any], where: str) -> Model:
    """The raw keys as a model; BadInput, one line, names `where`, the field, the value and the valid choices."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            reason = "missing"
        elif first["type"] != "value_error":
            reason = f"{first['input']!r}: {reason[0].lower()}{reason[1:]}"
        raise BadInput(f"{where}: {field}: {reason}" if field else f"{where}: {reason}") from None
