"""A suite: which cells, arms and seeds, and every number a run depends on.

A suite is data. Keys under a cell override the suite's for that cell. Nothing here is taken from the machine: threads,
device type and precision are keys, so that the identity of a run never depends on who plans it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from bench.errors import BadInput
from bench.runs.run_spec import (
    NULL_SEED,
    Diffusion,
    Ema,
    Execution,
    Fraction,
    Optimizer,
    Positive,
    Sampling,
    Seed,
    Strict,
)

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
        rate = float(f"{self.lr * factor:.12g}")  # 3e-4 * 3 is 9e-4
        return Optimizer(lr=rate, betas=betas, weight_decay=self.weight_decay, warmup=self.warmup)


class EvaluationKeys(Sampling):
    """The evaluations of a suite. count: how many, log-spaced from the fraction `first` of the budget to all of it."""

    count: int = Field(ge=2)
    first: Fraction = 0.1


class Training(Strict):
    """Every key that a cell may override. None for precision, compile and channels_last: see compute_defaults.yaml."""

    budget: Positive
    batch: Positive
    optimizer: OptimizerKeys
    ema: Ema
    flip: bool = False
    unconditional: float = Field(default=0.0, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    diffusion: Diffusion = Diffusion()
    evaluation: EvaluationKeys
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] | None = None
    tf32: bool = False
    attention: Literal["auto", "flash", "efficient", "math"] = "auto"
    cudnn_benchmark: bool = False
    compile: bool | None = None
    channels_last: bool | None = None
    threads: Positive = 1
    processes: Positive = 1
    accumulate: Positive = 1
    checkpointing: bool = False
    checkpoints: Positive = 20
    probes: bool = False

    @property
    def execution(self) -> Execution:
        """The keys that are no part of a run's identity."""
        return Execution(self.processes, self.accumulate, self.checkpointing, self.checkpoints, self.probes)

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.budget % self.batch:
            raise ValueError(f"budget: {self.budget} is not a multiple of batch {self.batch}")
        for key, parts in (("processes", self.processes), ("accumulate", self.processes * self.accumulate)):
            if self.batch % parts:
                raise ValueError(
                    f"{key}: {getattr(self, key)} does not fit; batch {self.batch} is no multiple of {parts}"
                )
        if self.probes and (self.compile or self.processes > 1):
            raise ValueError(f"probes: {self.probes} does not fit; hooks need compile: false and processes: 1")
        if (most := len(evaluation_images(self))) < self.evaluation.count:
            raise ValueError(
                f"evaluation.count: {self.evaluation.count} evaluations do not fit into {self.budget // self.batch} "
                f"steps; choose at most {most}"
            )
        return self


class Cell(Strict):
    """One dataset and one backbone, with overrides of the suite's training keys."""

    dataset: str
    backbone: str
    overrides: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _split(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        own = {key: raw[key] for key in ("dataset", "backbone") if key in raw}
        return own | {"overrides": {key: value for key, value in raw.items() if key not in ("dataset", "backbone")}}

    @field_validator("overrides")
    @classmethod
    def _known(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        for key in overrides:
            if key not in Training.model_fields:
                raise ValueError(f"{key} is unknown; choose from {', '.join(Training.model_fields)}")
        return overrides

    @property
    def name(self) -> str:
        """dataset/backbone."""
        return f"{self.dataset}/{self.backbone}"


class Seeds(Strict):
    """Paired seeds, one per pair, and the seeds of pilots and of tuning runs, which are in no pair.

    Without pilots nothing is compared to a target, and there is neither null arm nor noise floor: a suite of
    measurements.
    """

    paired: list[Seed] = Field(min_length=1)
    pilots: list[Seed]
    tuning: list[Seed] = []

    @field_validator("pilots")
    @classmethod
    def _enough(cls, pilots: list[int]) -> list[int]:
        if 0 < len(pilots) < 3:
            raise ValueError(f"{len(pilots)} pilots are too few; at least 3, or none for a suite of measurements")
        return pilots

    @model_validator(mode="after")
    def _distinct(self) -> Seeds:
        seen: set[int] = set()
        for name in ("paired", "pilots", "tuning"):
            for seed in getattr(self, name):
                if seed in seen:
                    raise ValueError(f"{name}: seed {seed} is used twice; every seed must differ")
                seen.add(seed)
        return self

    @property
    def null(self) -> list[int]:
        """Seeds of the null arm, in the order of the paired seeds they belong to."""
        return [NULL_SEED + seed for seed in self.paired] if self.pilots else []


class Suite(Strict):
    """A whole suite, validated. `training` holds the suite's keys, `cells` what differs.

    baseline: the arm that the others are compared with. trial: the suite only shows that everything works: `check` does
    not ask how far its training got, and no noise floor is trained.
    """

    name: str
    path: str
    title: str
    scale: Literal["mini", "full"]
    trial: bool = False
    baseline: str = "none"
    cells: list[Cell] = Field(min_length=1)
    arms: list[str] = Field(min_length=1)
    seeds: Seeds
    training: Training

    def of(self, cell: Cell) -> Training:
        """The training keys of one cell, its overrides applied (nested keys one by one)."""
        keys = merge(self.training.model_dump(exclude_unset=True), cell.overrides)
        return validate(Training, keys, f"{self.path}: cells[{cell.name}]")


def evaluation_images(training: Training) -> list[int]:
    """Images at which a run is evaluated: log-spaced from `first` of the budget to all of it, whole steps, distinct."""
    points = np.geomspace(training.evaluation.first * training.budget, training.budget, training.evaluation.count)
    steps = np.clip(np.rint(points / training.batch).astype(int), 1, training.budget // training.batch)
    return [int(step) * training.batch for step in sorted(set(steps.tolist()))]


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
        raise BadInput(f"{where}: {_one_line(model, error)}") from None


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    """The first complaint, as `field: value: reason`."""
    first = error.errors(include_url=False)[0]
    path = [part for part in first["loc"] if part != "training"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if first["type"] == "missing":
        return f"{field}: missing"
    if first["type"] == "extra_forbidden":
        return f"{field}: unknown key; choose from {', '.join(_siblings(model, first['loc']))}"
    reason = first["msg"].removeprefix("Value error, ")
    if not field:
        return reason
    return (
        f"{field}: {reason}"
        if first["type"] == "value_error"
        else f"{field}: {first['input']!r}: {reason[0].lower()}{reason[1:]}"
    )


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys beside an unknown one."""
    for part in location[:-1]:
        if isinstance(part, str):
            kind = model.model_fields[part].annotation
            kinds = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
            model = kinds[0] if kinds else model
    return list(model.model_fields)
