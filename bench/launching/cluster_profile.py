"""How jobs are asked for: a cluster profile, the options of the command line over it, and submitit's own parameters."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench.errors import BadInput, unknown

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
ALSO = {"timeout_min": "time", "time": "time", "signal_delay_s": "signal_delay",
        **{key: key for key in ("partition", "account", "qos", "gpus_per_node", "cpus_per_task", "mem_gb", "array_parallelism", "setup")}}
OURS = ("name", "job_name", "dependency")  # by them a sweep finds its jobs again, and puts them into order
ONE = ("nodes", "ntasks", "tasks_per_node", "ntasks_per_node")  # a run lives in one task on one node, which starts its ranks itself


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
    if not isinstance(raw.get("set") or {}, dict):
        raise BadInput(f"{path}: set: {raw['set']!r} is no table of keys")
    given = {key: getattr(o, key) for key in OPTIONS if getattr(o, key) is not None}
    theirs, spoken = raw.get("set") or {}, dict(map(_assignment, o.set or ()))
    merged = {**raw, **_fields(theirs), **given, **_fields(spoken)}
    merged["set"] = {key: value for key, value in {**theirs, **spoken}.items() if key not in ALSO}
    try:
        return Profile(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = "--set" if first["loc"][0] in _fields(spoken) else path
        raise BadInput(f"{where}: {'.'.join(map(str, first['loc']))}: {first['input']!r}: {first['msg']}") from None


def _fields(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings of submitit that are keys of a profile, under the profile's names."""
    return {ALSO[key]: value for key, value in settings.items() if key in ALSO}


def _assignment(text: str) -> tuple[str, Any]:
    """The value as YAML reads it; where submitit wants text, as it was written: 0123 is no number there."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set: {text!r} is not KEY=VALUE")
    kind = _kinds().get(key)
    if {*(get_args(kind) or [kind])} - {type(None)} == {str}:
        return key, value
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value  # plain text, whatever it looks like


def parameters(chosen: Profile, name: str, cores: int) -> dict[str, Any]:
    """What submitit is told: submitit's names, `set` last. BadInput for one that it does not have, or that is ours to give."""
    import submitit
    from submitit.slurm.slurm import SlurmExecutor

    from bench.planning.suite import Suite, Training

    generic, kinds = submitit.AutoExecutor._typed_parameters(), _kinds()
    known = sorted({*generic, *SlurmExecutor._valid_parameters()} - {*OURS})
    more = chosen.set.get("additional_parameters")
    for key in (*chosen.set, *(more if isinstance(more, dict) else ())):
        if str(key).replace("-", "_") in OURS:
            raise BadInput(f"--set: {key!r} is what the sweep knows its jobs by; choose from {', '.join(known)}")
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
    own = {key if key in generic else f"slurm_{key}": _typed(key, value, kinds[key])
           for key, value in chosen.set.items()}
    for key, value in [*chosen.set.items(), *(more.items() if isinstance(more, dict) else ())]:
        if str(key).replace("-", "_") in ONE and str(value) != "1":
            raise BadInput(f"--set: {key}: {value!r}: a run lives on one node, in one task that starts its ranks itself; leave it at 1")
    if "slurm_additional_parameters" in own:
        own["slurm_additional_parameters"] = {"requeue": True} | own["slurm_additional_parameters"]
    return {key: value for key, value in (asked | own).items() if value is not None}


def _kinds() -> dict[str, Any]:
    """The types that submitit declares for its parameters."""
    import submitit
    from submitit.slurm.slurm import _make_sbatch_string

    return get_type_hints(_make_sbatch_string) | submitit.AutoExecutor._typed_parameters()


def asks_for_gpus(settings: dict[str, Any]) -> bool:
    """Whether a job of these parameters of submitit gets a GPU: by one of SLURM's words for them, or with the whole node."""
    words = {**settings, **settings.get("slurm_additional_parameters", {})}
    return any(value and any(part in key for part in ("gpu", "gres", "tres", "exclusive")) for key, value in words.items())


def _typed(key: str, value: Any, kind: Any) -> Any:
    """A value of the type that submitit declares for it; BadInput if it is none."""
    try:
        found = TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
        return list(found) if isinstance(found, Iterator) else found  # an Iterable is checked as it is read, and read once
    except ValidationError as error:
        raise BadInput(f"--set: {key}: {value!r}: {error.errors()[0]['msg']}") from None
