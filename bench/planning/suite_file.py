"""Suite files: YAML, read strictly, one suite may extend another; what is wrong is said in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

import datasets
import models
from bench.diffusion.samplers import SAMPLERS
from bench.errors import BadInput, unknown
from bench.evaluation import features
from bench.planning.suite import Cell, Suite, Training, merge, validate
from reports.records import labels

SUITES = Path(__file__).parents[1] / "suites"


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
    content = read(path)
    own = [key for key in Suite.model_fields if key not in ("name", "path", "training")]
    for key in content:
        if key not in own and key not in Training.model_fields:
            raise BadInput(f"{path}: {key}: unknown key; choose from {', '.join([*own, *Training.model_fields])}")
    raw: dict[str, Any] = {key: value for key, value in content.items() if key in own}
    training = {key: value for key, value in content.items() if key in Training.model_fields}
    suite = validate(Suite, raw | {"name": path.stem, "path": str(path), "training": training}, str(path))
    _check_cells(suite)
    _check_arms(suite)
    return suite


def read(path: str | Path) -> dict[str, Any]:
    """What a suite file says, with what it extends filled in; not validated."""
    return _extended(Path(path))


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a suite over those of the suite that it extends, nested keys one by one; lists are replaced."""
    raw = _parse(path)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str) or find(base) in (path, *seen):
        raise BadInput(f"{path}: extends: {base!r} is not another suite; choose from {', '.join(names())}")
    return merge(_extended(find(base), (path, *seen)), raw)


def _parse(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: a suite is a mapping of keys, this is a {type(raw).__name__}")
    return raw


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe YAML that refuses a key given twice and reads 2e-4 as a number (YAML 1.1 takes it for a word)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merging = "tag:yaml.org,2002:merge"  # `<<: *anchor`: what it brings may be overridden
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merging]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def _check_cells(suite: Suite) -> None:
    """Everything that a cell names elsewhere: dataset, preset, sampler, extractor."""
    for i, cell in enumerate(suite.cells):
        _check_name(suite, f"cells[{i}].dataset", cell.dataset, datasets.DATASETS)
        _check_name(suite, f"cells[{i}].backbone", cell.backbone, models.presets())
        training = suite.of(cell)
        _check_condition(suite, i, cell, training)
        evaluation = training.evaluation
        _check_name(suite, "evaluation.sampler", evaluation.sampler, SAMPLERS)
        if not evaluation.end and evaluation.sampler != "euler-maruyama":
            raise BadInput(f"{suite.path}: evaluation.end: 0 is for euler-maruyama; {evaluation.sampler} ends above 0")
        _check_name(suite, "evaluation.extractor", evaluation.extractor, features.names())
        if evaluation.samples <= (dimensions := features.DIMS[evaluation.extractor]):
            raise BadInput(
                f"{suite.path}: evaluation.samples: {evaluation.samples} are not more than the {dimensions} dimensions "
                f"of {evaluation.extractor}"
            )
    _check_once(suite, "cells", [cell.name for cell in suite.cells])


def _check_name(suite: Suite, field: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise unknown(f"{suite.path}: {field}", value, choices)


def _check_once(suite: Suite, field: str, values: list[str]) -> None:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise BadInput(f"{suite.path}: {field}: {twice} is given twice")


def _check_condition(suite: Suite, i: int, cell: Cell, training: Training) -> None:
    """The backbone takes what the dataset carries, and only captions can be left out."""
    dataset = datasets.get(cell.dataset)

    def fits(preset: str) -> bool:
        config = models.config(preset)
        return (config.classes, config.context) == (dataset.classes, dataset.context)

    if not fits(cell.backbone):
        raise BadInput(
            f"{suite.path}: cells[{i}].backbone: {cell.backbone!r} does not take the condition of {cell.dataset} "
            f"({dataset.condition}); choose from {', '.join(filter(fits, models.presets()))}"
        )
    for key, value in (
        ("unconditional", training.unconditional),
        ("evaluation.guidance", training.evaluation.guidance),
    ):
        if value and not dataset.context:
            raise BadInput(
                f"{suite.path}: {key}: {value} is for text; {cell.dataset} has the condition {dataset.condition}"
            )
    for key, given in (("flip", training.flip), ("evaluation.clip", training.evaluation.clip)):
        if given and dataset.context:
            raise BadInput(f"{suite.path}: {key}: true is for images; {cell.dataset} holds latents")


def _check_arms(suite: Suite) -> None:
    arms = []
    for i, text in enumerate(suite.arms):
        try:
            arms.append(label(text))
        except ValueError as error:
            raise BadInput(f"{suite.path}: arms[{i}]: {error}") from None
    _check_once(suite, "arms", arms)
    if suite.baseline not in arms:
        raise BadInput(f"{suite.path}: arms: the baseline {suite.baseline!r} is missing from {', '.join(arms)}")


def label(arm: str) -> str:
    """How an arm is called everywhere: without parameters at their defaults and a factor of 1; ValueError, one line."""
    method, factor = labels.split(arm)
    return labels.join(models.parse_method(method).label, factor)
