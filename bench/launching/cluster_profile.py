"""How jobs are asked for: a cluster profile, the options of the command line over it, and submitit's own parameters."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Annotated, Any

import submitit
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bench.errors import BadInput, unknown
from bench.launching import time_limit
from bench.planning import yaml_file
from bench.planning.suite import SuiteFile, validate
from bench.runs.run_spec import Positive

PROFILES = Path(__file__).parents[1] / "clusters"
OPTIONS = ("partition", "account", "qos", "nodes", "gpus_per_node", "time", "array_parallelism", "runs_per_job")
# Submitit's names of what a profile has a key for: `--set timeout_min=5` is `--time 5`, and checked like it.
ALSO = {"timeout_min": "time", "signal_delay_s": "signal_delay"}
OURS = ("name", "job_name", "dependency", "map_count")  # by them a sweep finds its jobs again, and puts them into order
ONE = ("ntasks", "tasks_per_node", "ntasks_per_node")
# SBATCH_ variables go before what a script says: not these, which a sweep says itself or its jobs need to start.
KEPT = {"ARRAY_INX", "CLUSTERS", "COMMENT", "ERROR", "EXPORT", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT"}
KEPT |= {"REQUEUE", "SIGNAL", "TIMELIMIT", "WAIT"}
# Parameters of submitit that bear no cluster's name.
GENERIC = ("timeout_min", "mem_gb", "cpus_per_task", "nodes", "gpus_per_node", "stderr_to_stdout")


def _parsed(value: Any) -> Any:
    """What is given on the command line instead of a list or table, as YAML reads it."""
    try:
        return yaml.load(value, Loader=yaml_file.Words) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value


Lines = Annotated[list[str], BeforeValidator(_parsed)]


class Profile(BaseModel):
    """One site's words, see bench/clusters/slurm.yaml; any parameter of submitit that is not named here is text."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)
    __pydantic_extra__: dict[str, str]

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: Positive = 1
    gpus_per_node: Positive | None = None
    cpus_per_task: Positive | None = None
    mem_gb: float | None = Field(default=None, gt=0)
    time: Annotated[int, BeforeValidator(time_limit.minutes)] = 60
    array_parallelism: Positive = 256
    runs_per_job: Positive = 1
    largest_array: Positive = 1000
    signal_delay: Positive = 90
    setup: Lines = []
    teardown: Lines | None = None
    srun_args: Lines | None = None
    cpus_per_gpu: Positive | None = None
    gpus_per_task: Positive | None = None
    stderr_to_stdout: bool | None = None
    use_srun: bool | None = None
    exclusive: bool | str | None = Field(default=None, union_mode="left_to_right")
    additional_parameters: Annotated[dict[str, Any], BeforeValidator(_parsed)] = {}


# What a profile or --set may say, in the words of both.
TAKEN = sorted({*Profile.model_fields, *ALSO, *submitit.SlurmExecutor._valid_parameters()} - {*OURS, *ONE})


def profile(o: argparse.Namespace) -> Profile:
    """The profile file, the command line's options over it. BadInput, one line, for an unknown key or a wrong value."""
    path = (
        PROFILES / f"{o.profile}.yaml" if (PROFILES / f"{o.profile}.yaml").is_file() else Path(o.profile).expanduser()
    )
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise BadInput(f"--profile: {o.profile!r} is neither a file nor a profile; choose from {names}")
    raw = yaml_file.read(path, yaml_file.Words) or {}
    if not isinstance(raw, dict) or not isinstance(raw.get("set") or {}, dict):
        raise BadInput(f"{path}: the file and its key `set` are tables of keys, this is {raw!r}")
    if odd := [key for key in raw if key not in (*Profile.model_fields, "set")]:
        raise unknown(f"{path}: key", odd[0], (*Profile.model_fields, "set"))
    given = {key: getattr(o, key) for key in OPTIONS if getattr(o, key) is not None}
    theirs = raw.pop("set", None) or {}
    file = _checked(path, raw | theirs)
    line = _checked("--set", given | dict(map(_assignment, o.set or ())))
    validate(Profile, file, str(path))
    return validate(Profile, file | line, "--set")


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set: {text!r} is not KEY=VALUE")
    return key, value


def _checked(where: object, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings under a profile's names; BadInput for what is not theirs to say."""
    more = _parsed(settings.get("additional_parameters"))
    if isinstance(more, dict) and "nodes" in more:
        raise BadInput(f"{where}: additional_parameters: 'nodes' is a key of its own; give --nodes {more['nodes']}")
    for word, value in (settings | (more if isinstance(more, dict) else {})).items():
        key = str(word).replace("-", "_")
        if key in OURS:
            raise BadInput(f"{where}: {word!r} is what the sweep knows its jobs by; leave it out")
        if key in ONE and str(value) != "1":
            why = "a run has one task on each of its nodes, which starts the ranks there; leave it at 1"
            raise BadInput(f"{where}: {word}: {value!r}: {why}")
        if key in SuiteFile.model_fields:
            raise BadInput(f"{where}: {word!r} is a key of the suite, which no option changes; write another suite")
        if word in settings and word not in TAKEN and word not in ONE:
            raise unknown(str(where), word, TAKEN)
    return {ALSO.get(key, key): value for key, value in settings.items() if key not in ONE}


def parameters(chosen: Profile, name: str, cores: int) -> dict[str, Any]:
    """What submitit is told; it checks the names of those that are not ours."""
    told = chosen.model_dump(exclude_none=True, exclude={"runs_per_job", "largest_array"})
    told["cpus_per_task"] = chosen.cpus_per_task or cores
    told["additional_parameters"] = {"requeue": True} | chosen.additional_parameters
    if chosen.nodes > 1:  # a task that is lost ends the others
        told["srun_args"] = [*(chosen.srun_args or []), "--kill-on-bad-exit=1"]
    names = {ours: theirs for theirs, ours in ALSO.items()}
    theirs = [(names.get(key, key), value) for key, value in told.items()]
    named = {key if key in GENERIC else f"slurm_{key}": value for key, value in theirs}
    return {"name": name, "tasks_per_node": 1} | named


def exported(settings: dict[str, Any]) -> dict[str, str]:
    """What the environment says to sbatch where neither the sweep nor its profile or options do; says what of it."""
    said = {key.removeprefix("slurm_") for key in (*settings, *settings["slurm_additional_parameters"])}
    kept = KEPT | {key.upper().replace("-", "_").replace("MEM_GB", "MEM_PER_NODE") for key in said}
    found = {name: value for name, value in os.environ.items() if name.startswith("SBATCH_")}
    for name, value in found.items():
        print(f"{name}={value} {'goes to sbatch' if name[7:] not in kept else 'is not used: the sweep says it itself'}")
    return {name: value for name, value in found.items() if name[7:] not in kept}


def asks_for_gpus(settings: dict[str, Any]) -> bool:
    """Whether a job of these parameters gets a GPU: by one of SLURM's words for them, or with the whole node."""
    words = settings | settings.get("slurm_additional_parameters", {})
    parts = ("gpu", "gres", "tres", "exclusive")
    return any(value and value != "0" and any(part in key for part in parts) for key, value in words.items())
