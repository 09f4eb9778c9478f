"""From a suite to matched run specifications, and choosing among them."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

import yaml

import models
from bench.errors import BadInput, unknown
from bench.planning.suite import FLOOR_PAIRS, PERTURBATION, CellKeys, SuiteFile, evaluation_images
from bench.planning.suite_file import label
from bench.runs.run_spec import EvaluationPlan, Execution, Recipe, Run, RunSpec
from reports.records import labels
from reports.records.suite_records import Role

FILTERS = ("dataset", "backbone", "method", "seed", "role", "run")
# What suite and compute_defaults.yaml leave open.
PLAIN: dict[str, Any] = {"precision": "fp32", "compile": False, "channels_last": False}
# preset -> device -> the fastest choices that agree with plain fp32; a preset that is left out is plain.
COMPUTE_DEFAULTS = yaml.safe_load(Path(__file__).with_name("compute_defaults.yaml").read_text())


def plan(suite: SuiteFile) -> list[Run]:
    """Every run of a suite: pilots first, then seed by seed all arms, null run and noise floor, cells interleaved.

    With looks the null arm has as many pairs as the first: its one test is then at a number of pairs fixed beforehand.
    """
    baseline, seeds = suite.baseline, suite.seeds
    runs = [_run(suite, cell, baseline, seed, "pilot") for seed in seeds.pilots for cell in suite.cells]
    for seed in seeds.tuning:
        runs += [_run(suite, cell, arm, seed, "tuning") for cell in suite.cells for arm in tuning_arms(suite)]
    first = suite.looks[0] if suite.looks else None
    nulls = dict(zip(seeds.paired[:first], seeds.null, strict=False))  # none without pilots
    for index, seed in enumerate(seeds.paired):
        look = bisect_right(suite.looks, index)
        for cell in suite.cells:
            runs += [_run(suite, cell, arm, seed, "paired", seed, look) for arm in suite.arms]
            runs += [_run(suite, cell, baseline, nulls[seed], "null", seed)] if seed in nulls else []
            runs += [_run(suite, cell, baseline, seed, "floor", seed)] if seed in floor_seeds(suite) else []
    return runs


def tuning_arms(suite: SuiteFile) -> list[str]:
    """What tuning seeds train: the method of every arm at each of the suite's rates, or the arms as they are."""
    methods = dict.fromkeys(labels.split(arm)[0] for arm in suite.arms)
    return [labels.join(method, rate) for method in methods for rate in suite.rates] or suite.arms


def floor_seeds(suite: SuiteFile) -> list[int]:
    """Seeds whose baseline is trained again, its initial weights perturbed: the first pairs, none in a trial."""
    return suite.seeds.paired[:FLOOR_PAIRS] if suite.seeds.pilots and not suite.trial else []


def resolved(backbone: str, device: str, choices: dict[str, Any]) -> dict[str, Any]:
    """Precision, compilation and memory layout, None filled in: so no identity depends on a machine."""
    default = PLAIN | COMPUTE_DEFAULTS.get(backbone, {}).get(device, {})
    return {key: default[key] if choices[key] is None else choices[key] for key in PLAIN}


def _run(
    suite: SuiteFile, cell: CellKeys, arm: str, seed: int, role: Role, pair: int | None = None, look: int = 0
) -> Run:
    text, factor = labels.split(arm)
    method, training = models.parse_method(text), suite.of(cell)
    keys = training.model_dump(include=set(Recipe.model_fields) - {"optimizer", "evaluation"})
    keys |= resolved(cell.backbone, training.device, keys) | {"dataset": cell.dataset, "backbone": cell.backbone}
    keys |= {"method": {"name": method.name, **method.params}, "seed": seed}
    keys |= {"perturbation": PERTURBATION if role == "floor" else 0.0}
    keys |= {"optimizer": training.optimizer.resolved(training.steps, factor)}
    sampling = training.evaluation.model_dump(exclude={"count", "first"})
    keys |= {"evaluation": EvaluationPlan(images=evaluation_images(training), **sampling)}
    execution = Execution(**training.model_dump(include=set(Execution.model_fields)))
    return Run(suite.name, role, pair, label(arm), RunSpec(**keys), execution, look)


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
    found = [run for run in runs if all(values & _values(run)[key] for key, values in wanted.items())]
    if not found:
        have = {key: sorted(set().union(*(_values(run)[key] for run in runs))) for key in wanted if key != "run"}
        choices = "; ".join(f"{key}: {', '.join(values)}" for key, values in have.items())
        raise BadInput(f"--only: {text!r} names no run; choose from {choices or 'the folders that plan lists'}")
    return found


def _values(run: Run) -> dict[str, set[str]]:
    """What a filter compares, by its keys."""
    spec = run.spec
    values = {key: {str(getattr(spec, key))} for key in ("dataset", "backbone", "seed")}
    return values | {"method": {run.label, spec.method["name"]}, "role": {run.role}, "run": {run.id}}


def with_pilots(everything: list[Run], chosen: list[Run]) -> list[Run]:
    """The chosen runs and, if one of them needs frozen target bands, all pilots: the bands come from them."""
    if all(run.role in ("pilot", "tuning") for run in chosen):
        return chosen
    ids = {run.id for run in chosen}
    return [run for run in everything if run.role == "pilot" or run.id in ids]
