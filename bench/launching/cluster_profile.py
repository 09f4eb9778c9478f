"""How jobs are asked for: a cluster profile, the options of the command line over it, and submitit's own parameters."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench.errors import BadInput, unknown
from bench.planning.suite import Suite, Training

PROFILES = Path(__file__).parents[1] / "clusters"


class Profile(BaseModel):
    """One site's words; see bench/clusters/slurm.yaml."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus_per_node: int | None = Field(default=None, gt=0)
    cpus_per_task: int | None = Field(default=None, gt=0)
    mem_gb: float | None = Field(default=None, gt=0)
    time: int = Field(default=60, gt=0)
    array_parallelism: int = Field(default=256, gt=0)
    runs_per_job: int = Field(default=1, gt=0)
    largest_array: int = Field(default=1000, gt=0)
    signal_delay: int = Field(default=90, gt=0)
    setup: list[str] = []
    set: dict[str, Any] = {}


OPTIONS = ("partition", "account", "qos", "gpus_per_node", "time", "array_parallelism", "runs_per_job")
# Submitit's names of what a profile has a key for: `--set timeout_min=5` is `--time 5`, and checked like it.
ALSO = {"timeout_min": "time", "signal_delay_s": "signal_delay"}
OURS = ("name", "job_name", "dependency", "map_count")  # by them a sweep finds its jobs again, and puts them into order
ONE = (
    "nodes",
    "ntasks",
    "tasks_per_node",
    "ntasks_per_node",
)  # a run lives in one task on one node, which starts its ranks
GENERIC = ("nodes", "tasks_per_node", "stderr_to_stdout")  # parameters of submitit that bear no name of a cluster
# Types of submitit's parameters that are no text.
KINDS: dict[str, Any] = dict.fromkeys((*ONE, "cpus_per_gpu", "num_gpus", "gpus_per_task"), int)
KINDS |= dict.fromkeys(("stderr_to_stdout", "use_srun"), bool) | {"exclusive": bool | str}
KINDS |= {"teardown": list[str], "srun_args": list[str], "additional_parameters": dict[str, Any]}


def profile(o: argparse.Namespace) -> Profile:
    """The profile file, the command line's options over it. BadInput, one line, for an unknown key or a wrong value."""
    path = PROFILES / f"{o.profile}.yaml" if (PROFILES / f"{o.profile}.yaml").is_file() else Path(o.profile)
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise BadInput(f"--profile: {o.profile!r} is neither a file nor a profile; choose from {names}")
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("set") or {}, dict):
        raise BadInput(f"{path}: the file and its key `set` are tables of keys, this is {raw!r}")
    if odd := [key for key in raw if key not in Profile.model_fields]:
        raise unknown(f"{path}: key", odd[0], Profile.model_fields)
    theirs, spoken = _split(raw.pop("set", None) or {}), _split(dict(map(_assignment, o.set or ())))
    given = {key: getattr(o, key) for key in OPTIONS if getattr(o, key) is not None}
    try:
        return Profile(**{**raw, **theirs[0], **given, **spoken[0]}, set={**theirs[1], **spoken[1]})
    except ValidationError as error:
        first = error.errors()[0]
        where = "--set" if first["loc"][0] in spoken[0] else path
        raise BadInput(f"{where}: {'.'.join(map(str, first['loc']))}: {first['input']!r}: {first['msg']}") from None


def _split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those settings of submitit that are keys of a profile, under the profile's names, and the others."""
    named = {ALSO.get(key, key): value for key, value in settings.items()}
    own = {key: value for key, value in named.items() if key in Profile.model_fields and key != "set"}
    return own, {key: value for key, value in named.items() if key not in own}


def _assignment(text: str) -> tuple[str, Any]:
    """The value as YAML reads it; where text is wanted, as it was written: 0123 is no number there."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set: {text!r} is not KEY=VALUE")
    field = Profile.model_fields.get(ALSO.get(key, key))
    if key not in KINDS and (field is None or field.annotation == str | None):
        return key, value
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value


def parameters(chosen: Profile, name: str, cores: int) -> dict[str, Any]:
    """What submitit is told. BadInput for what is ours to give or of a wrong type; submitit checks the names."""
    asked: dict[str, Any] = {"name": name, "timeout_min": chosen.time, "nodes": 1, "tasks_per_node": 1}
    asked |= {"mem_gb": chosen.mem_gb, "gpus_per_node": chosen.gpus_per_node, "slurm_setup": chosen.setup or None}
    asked |= {"cpus_per_task": chosen.cpus_per_task or cores, "slurm_signal_delay_s": chosen.signal_delay}
    asked |= {f"slurm_{key}": getattr(chosen, key) for key in ("partition", "account", "qos", "array_parallelism")}
    asked["slurm_additional_parameters"] = {"requeue": True}
    for key, value in chosen.set.items():
        typed = _typed(key, value)
        asked[key if key in GENERIC else f"slurm_{key}"] = (
            {"requeue": True} | typed if isinstance(typed, dict) else typed
        )
    return {key: value for key, value in asked.items() if value is not None}


def _typed(key: str, value: Any) -> Any:
    if key in {*Suite.model_fields, *Training.model_fields} - {*OURS}:
        raise BadInput(f"--set: {key!r} is a key of the suite, which no option changes; write another suite")
    try:
        kind = TypeAdapter(KINDS.get(key, str), config=ConfigDict(coerce_numbers_to_str=True))
        typed = kind.validate_python(value)
    except ValidationError as error:
        raise BadInput(f"--set: {key}: {value!r}: {error.errors()[0]['msg']}") from None
    for word, given in {key: typed, **(typed if isinstance(typed, dict) else {})}.items():
        if word.replace("-", "_") in OURS:
            raise BadInput(f"--set: {word!r} is what the sweep knows its jobs by; leave it out")
        if word.replace("-", "_") in ONE and str(given) != "1":
            raise BadInput(
                f"--set: {word}: {given!r}: a run lives on one node, in one task that starts its ranks; leave it at 1"
            )
    return typed


def asks_for_gpus(settings: dict[str, Any]) -> bool:
    """Whether a job of these parameters gets a GPU: by one of SLURM's words for them, or with the whole node."""
    words = {**settings, **settings.get("slurm_additional_parameters", {})}
    return any(
        value and any(part in key for part in ("gpu", "gres", "tres", "exclusive")) for key, value in words.items()
    )
