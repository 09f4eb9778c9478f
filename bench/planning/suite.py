"""A suite: which cells, arms and seeds, and every number a run depends on. Read from YAML, validated field by field.

A suite is data. Keys under a cell override the suite's for that cell. Nothing here is taken from the machine:
threads, device type and precision are keys, so that the identity of a run never depends on who plans it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import BadInput
from reports.records import labels

SUITES = Path(__file__).parents[1] / "suites"
NULL_SEED = 10_000  # the null run paired with baseline k has seed 10000 + k
BASELINE = "none"

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=NULL_SEED)]


class Strict(BaseModel):
    """No unknown key, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Optimizer(Strict):
    """AdamW in one parameter group; linear warm-up over a fraction of the budget, then constant."""

    lr: float = Field(gt=0)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=2, max_length=2)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)


class Ema(Strict):
    """One exponential moving average from step 0; its half-life is a fraction of the budget."""

    half_life: Fraction


class Diffusion(Strict):
    """Noise prediction, plain MSE. beta_min and beta_max default to the schedule's own."""

    schedule: Literal["vp-linear", "sd-discrete"] = "vp-linear"
    beta_min: float = Field(default=0.1, gt=0)
    beta_max: float = Field(default=20.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _own(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("schedule") == "sd-discrete":
            return {"beta_min": 8.5e-4, "beta_max": 1.2e-2} | raw
        return raw

    @model_validator(mode="after")
    def _possible(self) -> Diffusion:
        if self.schedule == "sd-discrete" and self.beta_max >= 1:
            raise ValueError(f"beta_max: {self.beta_max} is out of range for sd-discrete; less than 1")
        return self


class Evaluation(Strict):
    """How images are drawn and measured; the same for the whole cell.

    count: evaluations, log-spaced from `first` of the budget to all of it. repeats: sampling seeds with which each
    pilot's last weights are measured, for the noise of an evaluation. guidance: the weight w of classifier-free guidance,
    (1 + w) epsilon(condition) - w epsilon(empty); 0 for none. clip: clamp the clean image to [-1, 1] at every step.
    """

    count: int = Field(ge=2)
    first: Fraction = 0.1
    samples: int = Field(ge=64)
    sampler: str
    steps: Positive
    extractor: str
    guidance: float = Field(default=0.0, ge=0)
    clip: bool = False
    repeats: int = Field(default=4, ge=0)


class Training(Strict):
    """Every key that a cell may override."""

    budget: Positive
    batch: Positive
    optimizer: Optimizer
    ema: Ema
    flip: bool = False
    unconditional: float = Field(default=0.0, ge=0, lt=1)  # share of captions replaced by the empty prompt
    dropout: float | None = Field(default=None, ge=0, lt=1)
    diffusion: Diffusion = Diffusion()
    evaluation: Evaluation
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] | None = None  # None, here and in the next two: what bench/planning/compute_defaults.yaml says
    compile: bool | None = None
    channels_last: bool | None = None
    checkpointing: bool = False  # activations are computed again in the backward pass: less memory, more time
    accumulate: Positive = 1  # parts of a batch whose gradients are added up: less memory
    processes: Positive = 1  # DDP on one node, one device each; batch is of all together
    threads: Positive = 1
    checkpoints: Positive = 20  # per run, evenly spaced; no part of a run's identity
    probes: bool = False  # norms, gradients, gates, responses, see bench/training/probes.py; no part of a run's identity

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.budget % self.batch:
            raise ValueError(f"budget: {self.budget} is not a multiple of batch {self.batch}")
        for key in ("processes", "accumulate"):
            if self.batch % (parts := self.processes * (self.accumulate if key == "accumulate" else 1)):
                raise ValueError(f"{key}: {getattr(self, key)} does not fit; batch {self.batch} is no multiple of {parts}")
        if self.probes and (self.compile or self.processes > 1):
            raise ValueError(f"probes: {self.probes} does not fit; hooks need compile: false and processes: 1")
        images = evaluation_images(self)
        if len(images) < self.evaluation.count:
            raise ValueError(f"evaluation.count: {self.evaluation.count} evaluations do not fit into "
                             f"{self.budget // self.batch} steps; choose at most {len(images)}")
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
    """Paired seeds, one per pair, and the seeds of the pilots, which are in no pair.

    Without pilots nothing is compared to a target and there is no null arm: a suite of measurements.
    """

    paired: list[Seed] = Field(min_length=1)
    pilots: list[Seed]

    @field_validator("pilots")
    @classmethod
    def _enough(cls, pilots: list[int]) -> list[int]:
        if 0 < len(pilots) < 3:
            raise ValueError(f"{len(pilots)} pilots are too few; at least 3, or none for a suite of measurements")
        return pilots

    @model_validator(mode="after")
    def _distinct(self) -> Seeds:
        seen: set[int] = set()
        for name in ("paired", "pilots"):
            for seed in getattr(self, name):
                if seed in seen:
                    raise ValueError(f"{name}: seed {seed} is used twice; every seed of paired and pilots must differ")
                seen.add(seed)
        return self

    @property
    def null(self) -> list[int]:
        """Seeds of the null arm, in the order of the paired seeds they belong to."""
        return [NULL_SEED + seed for seed in self.paired] if self.pilots else []


class Suite(Strict):
    """A whole suite, validated. `training` holds the suite's keys, `cells` what differs.

    trial: it only shows that everything works, and `check` does not ask how far its training got.
    """

    name: str
    path: str
    title: str
    scale: Literal["mini", "full"]
    trial: bool = False
    cells: list[Cell] = Field(min_length=1)
    arms: list[str] = Field(min_length=1)
    seeds: Seeds
    training: Training

    def of(self, cell: Cell) -> Training:
        """The training keys of one cell, its overrides applied (nested keys one by one)."""
        return _validate(Training, _merge(self.training.model_dump(exclude_unset=True), cell.overrides), f"{self.path}: cells[{cell.name}]")


def evaluation_images(training: Training) -> list[int]:
    """Images at which a run is evaluated: log-spaced from `first` of the budget to all of it, whole steps, distinct."""
    import numpy as np

    points = np.geomspace(training.evaluation.first * training.budget, training.budget, training.evaluation.count)
    steps = np.clip(np.rint(points / training.batch).astype(int), 1, training.budget // training.batch)
    return [int(step) * training.batch for step in sorted(set(steps.tolist()))]


def names() -> list[str]:
    """The suites that ship with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a suite, given its name in bench/suites or a path."""
    path = SUITES / f"{name}.yaml" if name in names() else Path(name)
    if not path.is_file():
        raise BadInput(f"suite: {name!r} is neither a file nor a suite; choose from {', '.join(names())}")
    return path


def load(name: str) -> Suite:
    """Read and validate a suite; BadInput, one line, names the file, the field, the value and the valid choices."""
    path = find(name)
    content = raw(path)
    keys = [key for key in Suite.model_fields if key not in ("name", "path", "training")] + list(Training.model_fields)
    for key in content:
        if key not in keys:
            raise BadInput(f"{path}: {key}: unknown key; choose from {', '.join(keys)}")
    own = {key: value for key, value in content.items() if key in Suite.model_fields}
    training = {key: value for key, value in content.items() if key in Training.model_fields}
    suite = _validate(Suite, own | {"name": path.stem, "path": str(path), "training": training}, str(path))
    _check_names(suite)
    return suite


def raw(path: str | Path) -> dict:
    """What a suite file says, with what it extends filled in; not validated."""
    return _extended(Path(path))


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """The keys of a suite over those of the suite that it extends, nested keys one by one; lists are replaced."""
    raw = _read(path)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str) or find(base) in (path, *seen):
        raise BadInput(f"{path}: extends: {base!r} is not another suite; choose from {', '.join(names())}")
    return _merge(_extended(find(base), (path, *seen)), raw)


def _read(path: Path) -> dict:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: a suite is a mapping of keys, this is a {type(raw).__name__}")
    return raw


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 2e-4 as a number (YAML 1.1 takes it for a word)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        merge = "tag:yaml.org,2002:merge"  # `<<: *anchor`: what it brings may be overridden
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", __import__("re").compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
                              list("-+0123456789"))


def _check_names(suite: Suite) -> None:
    """Everything that names something elsewhere: datasets, presets, methods, samplers, extractors."""
    import datasets
    import models
    from bench.evaluation import features
    from bench.diffusion.samplers import SAMPLERS

    def check(field: str, value: str, choices: Any) -> None:
        if value not in choices:
            raise BadInput(f"{suite.path}: {field}: {value!r} is unknown; choose from {', '.join(choices)}")

    for i, cell in enumerate(suite.cells):
        check(f"cells[{i}].dataset", cell.dataset, datasets.DATASETS)
        check(f"cells[{i}].backbone", cell.backbone, models.presets())
        training = suite.of(cell)
        _check_condition(suite, i, cell, training)
        check("evaluation.sampler", training.evaluation.sampler, SAMPLERS)
        check("evaluation.extractor", training.evaluation.extractor, features.names())
        if training.evaluation.samples <= (dim := features.DIMS[training.evaluation.extractor]):
            raise BadInput(f"{suite.path}: evaluation.samples: {training.evaluation.samples} are not more than the {dim} dimensions "
                           f"of {training.evaluation.extractor}")
    cells = [cell.name for cell in suite.cells]
    for name in cells:
        if cells.count(name) > 1:
            raise BadInput(f"{suite.path}: cells: {name} is given twice")
    arms = [_label(suite, i, text) for i, text in enumerate(suite.arms)]
    for arm in arms:
        if arms.count(arm) > 1:
            raise BadInput(f"{suite.path}: arms: {arm} is given twice")
    if BASELINE not in arms:
        raise BadInput(f"{suite.path}: arms: the baseline {BASELINE!r} is missing from {', '.join(arms)}")


def _check_condition(suite: Suite, i: int, cell: Cell, training: Training) -> None:
    """The backbone takes what the dataset carries, and only captions can be left out."""
    import datasets
    import models

    dataset = datasets.get(cell.dataset)

    def fits(preset: str) -> bool:
        config = models.spec(preset)
        return (config.classes, config.context) == (dataset.classes, dataset.context)

    if not fits(cell.backbone):
        choices = ", ".join(filter(fits, models.presets()))
        raise BadInput(f"{suite.path}: cells[{i}].backbone: {cell.backbone!r} does not take the condition of {cell.dataset} "
                       f"({dataset.condition}); choose from {choices}")
    for key, value in (("unconditional", training.unconditional), ("evaluation.guidance", training.evaluation.guidance)):
        if value and not dataset.context:
            raise BadInput(f"{suite.path}: {key}: {value} is for text; {cell.dataset} has the condition {dataset.condition}")
    if training.flip and dataset.context:
        raise BadInput(f"{suite.path}: flip: true is for images; {cell.dataset} holds latents")
    if training.evaluation.clip and dataset.context:
        raise BadInput(f"{suite.path}: evaluation.clip: true is for images; {cell.dataset} holds latents")


def label(arm: str) -> str:
    """How an arm is called everywhere: parameters at their defaults and a factor of 1 are left out; ValueError, one line."""
    import models

    method, factor = labels.split(arm)
    return labels.join(models.parse_method(method).label, factor)


def _label(suite: Suite, i: int, text: str) -> str:
    try:
        return label(text)
    except ValueError as error:
        raise BadInput(f"{suite.path}: arms[{i}]: {error}") from None


def _merge(base: dict, changes: dict) -> dict:
    return base | {key: _merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
                   for key, value in changes.items()}


def _validate(model: type[BaseModel], raw: dict, where: str) -> Any:
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
    return f"{field}: {reason}" if first["type"] == "value_error" and field else \
        reason if not field else f"{field}: {first['input']!r}: {reason[0].lower()}{reason[1:]}"


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys beside an unknown one."""
    for part in location[:-1]:
        if isinstance(part, str):
            kind = model.model_fields[part].annotation
            kinds = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
            model = kinds[0] if kinds else model
    return list(model.model_fields)
