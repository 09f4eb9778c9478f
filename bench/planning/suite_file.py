"""Suite files: YAML, read strictly, one suite may extend another; what is wrong is said in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

import datasets
import models
from bench.diffusion.samplers import SAMPLERS
from bench.errors import BadInput, unknown
from bench.evaluation import features
from bench.planning import yaml_file
from bench.planning.suite import SuiteFile, merge, validate
from reports.records import labels
from reports.records.suite_records import OWN

REGISTER = "register one in models/contrib, see docs/extending.md"
SUITES = Path(__file__).parents[1] / "suites"


def names() -> list[str]:
    """The suites that ship with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def find(name: str, root: Path | None = None) -> Path:
    """The file of a suite, given its name in bench/suites or a path. root: where its runs may lie."""
    path = SUITES / f"{name}.yaml" if name in names() else Path(name).expanduser()
    if not path.is_file():
        told = f"choose from {', '.join(names())}"
        if root and (root / name / OWN).is_file():
            told = f"{root / name} was started from another file: give its path"
        raise BadInput(f"suite: {name!r} is neither a file nor a suite; {told}")
    return path


def load(name: str, root: Path | None = None) -> SuiteFile:
    """Read and validate a suite; BadInput, one line, names the file, the field, the value and the valid choices."""
    path = find(name, root)
    suite = validate(SuiteFile, {"path": path} | read(path), str(path))
    for fault in _faults(suite):
        raise BadInput(f"{path}: {fault}")
    return suite


def with_arms(suite: SuiteFile, arms: Iterable[str]) -> SuiteFile:
    """The suite with arms added to its own; BadInput, one line, for one that does not exist or is one of these."""
    try:
        added = list(dict.fromkeys(label(arm) for arm in arms))
    except ValueError as error:
        raise BadInput(f"--arm: {error}") from None
    if own := set(added) & {label(arm) for arm in suite.arms}:
        raise BadInput(f"--arm: {min(own)!r} is an arm of {suite.name} already; leave it out")
    whole = suite.model_copy(update={"arms": [*suite.arms, *added]})
    for fault in _faults(whole):
        raise BadInput(f"--arm: {fault}")
    return whole


def read(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a suite file says, not validated, over what the suite says that it extends: nested keys one by one."""
    raw = yaml_file.read(path, yaml_file.Numbers)
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: a suite is a mapping of keys, this is a {type(raw).__name__}")
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str) or find(base) in (path, *extending):
        raise BadInput(f"{path}: extends: {base!r} is not another suite; choose from {', '.join(names())}")
    return merge(read(find(base), (path, *extending)), raw)


def _faults(suite: SuiteFile) -> Iterator[str]:
    """What cells and arms name that does not exist, is named twice, or does not fit: the first is to be told."""
    for i, cell in enumerate(suite.cells):
        training, where = suite.of(cell), f"cells[{i}]"
        evaluation = training.evaluation
        if training.device != suite.device:
            yield f"{where}.device: {training.device} is not the suite's {suite.device}; give it to the suite alone"
        extractors = [("extractor", evaluation.extractor)]
        extractors += [(f"beside[{k}]", name) for k, name in enumerate(evaluation.beside)]
        for field, value, choices in (
            (f"{where}.dataset", cell.dataset, datasets.DATASETS),
            (f"{where}.backbone", cell.backbone, models.presets()),
            ("evaluation.sampler", evaluation.sampler, SAMPLERS),
            *((f"evaluation.{key}", name, tuple(features.DIMS)) for key, name in extractors),
        ):
            if value not in choices:
                yield str(unknown(field, value, choices))
        dataset = datasets.get(cell.dataset)
        carries = f"{cell.dataset} has the condition {dataset.condition}"
        conditions = {name: _condition(models.config(name)) for name in models.presets()}
        fitting = [name for name, taken in conditions.items() if taken == _condition(dataset)]
        if cell.backbone not in fitting:
            what = f"{cell.backbone!r} takes {conditions[cell.backbone]}, {cell.dataset} has {_condition(dataset)}"
            choices = f"choose from {', '.join(fitting)}" if fitting else f"no preset takes that; {REGISTER}"
            yield f"{where}.backbone: {what}; {choices}"
        if not evaluation.end and evaluation.sampler != "euler-maruyama":
            yield f"evaluation.end: 0 is for euler-maruyama; {evaluation.sampler} ends above 0"
        for key, name in extractors:
            if evaluation.samples <= features.DIMS[name]:
                what = f"are not more than the {(many := features.DIMS[name])} dimensions of {name}"
                yield f"evaluation.samples: {evaluation.samples} {what}; give at least {many + 1}"
            if not dataset.latents and not features.takes(name, dataset.shape):
                does = ", ".join(other for other in features.DIMS if features.takes(other, dataset.shape))
                what = f"(N, {features.taken(name)}, {cell.dataset} has {dataset.shape}; choose from {does}"
                yield f"evaluation.{key}: {name} takes {what}"
            if [other for _, other in extractors].count(name) > 1:
                yield f"evaluation.{key}: {name} is given twice"
        omitted = bool(dataset.context) or models.config(cell.backbone).null_class is not None
        of_text = {"unconditional": training.unconditional, "evaluation.guidance": evaluation.guidance}
        of_images = {"flip": training.flip, "evaluation.clip": evaluation.clip}
        latents = f"true is for images; {cell.dataset} holds latents"
        yield from (f"{key}: {value} is for text; {carries}" for key, value in of_text.items() if value and not omitted)
        yield from (f"{key}: {latents}" for key, value in of_images.items() if value and dataset.latents)
    arms = []
    for i, arm in enumerate(suite.arms):
        try:
            arms.append(label(arm))
        except ValueError as error:
            yield f"arms[{i}]: {error}"
            continue
        method = models.parse_method(labels.split(arm)[0])
        yield from (
            f"arms[{i}]: does not fit {cell.backbone}: {refused}"
            for cell in suite.cells
            if (refused := _refusal(method, cell.backbone))
        )
    for field, given in (("cells", [cell.name for cell in suite.cells]), ("arms", arms)):
        yield from (f"{field}: {one} is given twice" for one in given if given.count(one) > 1)
    if suite.baseline not in arms:
        yield f"arms: the baseline {suite.baseline!r} is missing from {', '.join(arms)}"


def _condition(of: models.Config | datasets.Dataset) -> str:
    """What a network takes beside images, or a dataset has."""
    if of.context:
        return "captions of {} x {}".format(*of.context)
    return f"{of.classes} classes" if of.classes else "no condition"


def _refusal(method: models.Method, backbone: str) -> str:
    """What a method says to a backbone whose joins it cannot serve; "" if it can."""
    try:
        with torch.device("meta"):
            method.build(models.config(backbone).long_skips())
    except ValueError as error:
        return str(error)
    return ""


def label(arm: str) -> str:
    """How an arm is called everywhere: without parameters at their defaults and a factor of 1; ValueError, one line."""
    method, factor = labels.split(arm)
    return labels.join(models.parse_method(method).label, factor)
