"""How jobs are asked for: a cluster profile, the options of the command line over it, and submitit's own parameters."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BadInput, unknown

PROFILES = Path(__file__).parent / "clusters"


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
    signal_delay: int = Field(default=90, ge=0)
    setup: list[str] = []
    set: dict[str, Any] = {}


OPTIONS = ("partition", "account", "qos", "gpus_per_node", "time", "array_parallelism", "runs_per_job")


def profile(o: argparse.Namespace) -> Profile:
    """The profile file, the command line's options over it. BadInput, one line, for an unknown key or a wrong value."""
    path = PROFILES / f"{o.profile}.yaml" if (PROFILES / f"{o.profile}.yaml").is_file() else Path(o.profile)
    if not path.is_file():
        raise BadInput(f"--profile: {o.profile!r} is neither a file nor a profile; choose from "
                       + ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml"))))
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: {raw!r} is no table of keys")
    if odd := [key for key in raw if key not in Profile.model_fields]:
        raise unknown(f"{path}: key", odd[0], Profile.model_fields)
    given = {key: getattr(o, key) for key in OPTIONS if getattr(o, key) is not None}
    given["set"] = (raw.get("set") or {}) | dict(map(_assignment, o.set or ()))
    try:
        return Profile(**raw | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['input']!r}: {first['msg']}") from None


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set: {text!r} is not KEY=VALUE")
    return key, yaml.safe_load(value)


def parameters(chosen: Profile, name: str, cores: int) -> dict[str, Any]:
    """What submitit is told: submitit's names, `set` last. BadInput for one that submitit does not have."""
    import submitit
    from submitit.slurm.slurm import SlurmExecutor

    from bench.suite import Suite, Training

    generic = submitit.AutoExecutor._typed_parameters()
    known = sorted({*generic, *SlurmExecutor._valid_parameters()})
    for key in chosen.set:
        if key in {*Suite.model_fields, *Training.model_fields} - {*known}:
            raise BadInput(f"--set: {key!r} is a key of the suite, which no option changes; write another suite")
        if key not in known:
            raise unknown("--set", key, known)
    asked = {"name": name, "timeout_min": chosen.time, "mem_gb": chosen.mem_gb, "gpus_per_node": chosen.gpus_per_node,
             "cpus_per_task": chosen.cpus_per_task or cores, "nodes": 1, "tasks_per_node": 1,
             "slurm_partition": chosen.partition, "slurm_account": chosen.account, "slurm_qos": chosen.qos,
             "slurm_array_parallelism": chosen.array_parallelism, "slurm_signal_delay_s": chosen.signal_delay,
             "slurm_setup": chosen.setup or None, "slurm_additional_parameters": {"requeue": True}}
    own = {key if key in generic else f"slurm_{key}": value for key, value in chosen.set.items()}
    if "slurm_additional_parameters" in own:
        own["slurm_additional_parameters"] = {"requeue": True} | own["slurm_additional_parameters"]
    return {key: value for key, value in (asked | own).items() if value is not None}
