"""Methods as text: `constant(kappa=0.7)` to a name, its parameters and a module; and the files users add."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import contrib
from models.scaling import REGISTRY, Scaling, Where


@dataclass(frozen=True)
class Method:
    """A scaling method and every one of its parameters, defaults filled in."""

    name: str
    params: dict[str, Any]

    @property
    def label(self) -> str:
        """As a reader writes it, defaults left out: constant, constant(kappa=0.7)."""
        defaults = parameters(self.name)
        changed = ", ".join(f"{key}={value!r}" for key, value in self.params.items() if value != defaults[key])
        return f"{self.name}({changed})" if changed else self.name

    def build(self, wheres: Sequence[Where]) -> Scaling:
        """The module for a backbone with these long skips."""
        return REGISTRY[self.name](wheres, **self.params)


def names() -> tuple[str, ...]:
    """All registered methods, those of models/contrib included."""
    return tuple(REGISTRY)


def parameters(name: str) -> dict[str, Any]:
    """Parameters of a method and their defaults."""
    signature = inspect.signature(REGISTRY[name].__init__).parameters
    return {key: parameter.default for key, parameter in signature.items() if key not in ("self", "wheres")}


def parse_method(text: str) -> Method:
    """Read `name` or `name(key=value, ...)`, values literals; ValueError, one line, names what is wrong and the choices."""
    name, given = _parse(text)
    if name not in REGISTRY:
        raise ValueError(f"method {name!r} is unknown; choose from {', '.join(REGISTRY)}")
    known = parameters(name)
    for key in given:
        if key not in known:
            raise ValueError(f"{name}: parameter {key!r} is unknown; choose from {', '.join(known) or 'none, it takes no parameter'}")
    # An int where a float is meant (kappa=1) is the same configuration as the float.
    merged = {key: float(given[key]) if type(known[key]) is float and type(given.get(key)) is int else given.get(key, default)
              for key, default in known.items()}
    REGISTRY[name].check(**merged)
    return Method(name, merged)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            pairs = [(keyword.arg, ast.literal_eval(keyword.value)) for keyword in node.keywords]
            if all(key for key, _ in pairs) and len(dict(pairs)) == len(pairs):
                return node.func.id, dict(pairs)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        pass
    raise ValueError(f"method {str(text)!r} is not of the form name or name(key=value, ...); choose from {', '.join(REGISTRY)}")


def load_contrib() -> None:
    """Import every file in models/contrib; ValueError names a file that does not import."""
    for module in sorted(pkgutil.iter_modules(contrib.__path__), key=lambda module: module.name):
        try:
            importlib.import_module(f"{contrib.__name__}.{module.name}")
        except Exception as error:
            raise ValueError(f"models/contrib/{module.name}.py: {type(error).__name__}: {error}") from error
