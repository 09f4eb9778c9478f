"""What one run is: a typed, frozen specification whose hash is its identity, and what the run is for."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reports.records.reading import PROTOCOL
from reports.records.run_folder import RunFolder
from reports.records.suite_records import InCell, Role

NULL_SEED = 10_000  # the null run paired with baseline k has seed 10000 + k

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=NULL_SEED)]


class Strict(BaseModel):
    """No unknown key, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def choices(cls) -> list[str]:
        """The keys that may be given."""
        return [name for name, field in cls.model_fields.items() if not field.exclude]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, dict) else ():
            if key not in cls.choices() and key not in cls.model_fields:
                raise ValueError(f"{key}: unknown key; choose from {', '.join(cls.choices())}")
        return raw


class Optimizer(Strict):
    """AdamW; linear warm-up over a fraction of the budget, then constant."""

    lr: float = Field(gt=0)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=2, max_length=2)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)


class Ema(Strict):
    """One exponential moving average from step 0; its half-life is a fraction of the budget."""

    half_life: Fraction


DISCRETE: dict[str, dict[str, float]] = {  # schedules of 1000 steps, and their own betas
    "sd-discrete": {"beta_min": 8.5e-4, "beta_max": 1.2e-2},
    "ddpm-linear": {"beta_min": 1e-4, "beta_max": 2e-2},
}


class Diffusion(Strict):
    """Noise prediction, plain MSE. beta_min and beta_max default to the schedule's own."""

    schedule: Literal["vp-linear", "sd-discrete", "ddpm-linear"] = "vp-linear"
    beta_min: float = Field(default=0.1, gt=0)
    beta_max: float = Field(default=20.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _own(cls, raw: Any) -> Any:
        return DISCRETE.get(str(raw.get("schedule")), {}) | raw if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _possible(self) -> Diffusion:
        if self.schedule in DISCRETE and self.beta_max >= 1:
            raise ValueError(f"beta_max: {self.beta_max} is out of range for {self.schedule}; less than 1")
        return self


class Sampling(Strict):
    """How images are drawn and measured, the same for a whole cell.

    end: the time at which a sampler ends; 0, of Euler-Maruyama alone, ends with a step from 1e-3 to 0. beside: further
    extractors that measure the same samples; they decide nothing, and without any the key is in no identity. repeats:
    sampling seeds with which a pilot's last weights are measured again, for the noise of an evaluation. guidance: the
    weight w of classifier-free guidance, (1 + w) epsilon(condition) - w epsilon(empty). clip: clamp the clean image to
    [-1, 1] at every step.
    """

    samples: int = Field(ge=64)
    sampler: str
    steps: Positive
    end: float = Field(default=1e-3, ge=0, lt=1)
    extractor: str
    beside: list[str] = Field(default=[], exclude_if=lambda names: not names)
    guidance: float = Field(default=0.0, ge=0)
    clip: bool = False
    repeats: int = Field(default=4, ge=0)

    @property
    def network_evaluations(self) -> int:
        """Network evaluations per image; guidance asks twice."""
        return self.steps * (2 if self.guidance else 1)


class EvaluationPlan(Sampling):
    """How and when a run is measured. images: training images at which it is, ascending; the last is the budget."""

    images: list[Positive]


class Execution(Strict):
    """How a run is computed and watched; no part of its identity.

    processes: ranks, one device each, that share a batch. accumulate: parts of a batch whose gradients are added up.
    checkpointing: activations are computed again in the backward pass. checkpoints: how many, evenly spaced, with an
    event. probes: whether the run measures its norms, gradients and responses.
    """

    processes: Positive = 1
    accumulate: Positive = 1
    checkpointing: bool = False
    checkpoints: Positive = 20
    probes: bool = False


class Recipe(Strict):
    """The keys that suites and runs share. A suite may leave precision, compile and channels_last open.

    dropout: None for the backbone's own. unconditional: share of conditions that are left out in training, replaced by
    the empty prompt, or by the null class of a backbone that has one.
    tf32, attention, cudnn_benchmark: how a GPU multiplies in fp32, which attention kernel it takes ("auto": torch's
    choice; "fp32": the same, with softmax(QK^T)V in fp32 also under bf16, as in the published code), and whether it
    times convolutions to choose among them.
    """

    budget: Positive
    batch: Positive
    optimizer: Optimizer
    ema: Ema
    flip: bool = False
    unconditional: float = Field(default=0.0, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    diffusion: Diffusion = Diffusion()
    evaluation: Sampling
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] | None = None
    tf32: bool = False
    attention: Literal["auto", "flash", "efficient", "math", "fp32"] = "auto"
    cudnn_benchmark: bool = False
    compile: bool | None = None
    channels_last: bool | None = None
    threads: Positive = 1

    @property
    def steps(self) -> int:
        """Optimizer steps in the budget."""
        return self.budget // self.batch


class RunSpec(Recipe, InCell):
    """All that can change the result of a run, fully resolved.

    method: its name and its parameters. perturbation: the initial weights are multiplied by 1 + perturbation z, z
    normal; 0 for all runs but those of the noise floor.
    """

    dataset: str
    backbone: str
    method: dict[str, Any]
    seed: int
    perturbation: float = Field(ge=0)
    evaluation: EvaluationPlan
    precision: Literal["fp32", "bf16"]
    compile: bool
    channels_last: bool

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of the whole configuration: the identity."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def method_text(self) -> str:
        """The method as the text that `models.build` takes, every parameter written out."""
        parameters = ", ".join(f"{key}={value!r}" for key, value in self.method.items() if key != "name")
        return f"{self.method['name']}({parameters})"

    def but(self, **changes: Any) -> RunSpec:
        """A copy with other values, validated."""
        return RunSpec.model_validate(self.model_dump() | changes)


@dataclass(frozen=True)
class Run:
    """A planned run. pair: seed of the baseline that it is paired with, None without. label: its arm.

    look: the look of the suite, counted from 0, at which its pair is first used.
    """

    suite: str
    role: Role
    pair: int | None
    label: str
    spec: RunSpec
    execution: Execution
    look: int = 0

    @cached_property
    def id(self) -> str:
        """The name of the folder: readable parts, then the identity."""
        words = f"{self.spec.dataset} {self.spec.backbone} {self.label}{' floor' if self.role == 'floor' else ''}"
        slug = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")
        return f"{slug}-s{self.spec.seed}-{self.spec.hash[:12]}"

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        spec = self.spec.model_dump(mode="json")
        own = {key: getattr(self, key) for key in ("suite", "role", "pair", "label")}
        return own | {"run": self.id, "hash": self.spec.hash, "protocol": PROTOCOL, "spec": spec}

    def folder(self, root: Path) -> RunFolder:
        """Where the run lies."""
        return RunFolder(Path(root) / self.suite / self.id)
