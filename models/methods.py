"""Methods as text: `constant(kappa=0.7)` to a name, its parameters and a module."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models.scaling import REGISTRY, LongSkip, Scaling, defaults


@dataclass(frozen=True)
class Method:
    """A scaling method and every one of its parameters, defaults filled in."""

    name: str
    params: dict[str, Any]

    @property
    def label(self) -> str:
        """As a reader writes it, defaults left out: constant, constant(kappa=0.7)."""
        usual = parameters(self.name)
        changed = ", ".join(f"{key}={value!r}" for key, value in self.params.items() if value != usual[key])
        return f"{self.name}({changed})" if changed else self.name

    def build(self, long_skips: Sequence[LongSkip]) -> Scaling:
        """The module for a backbone with these long skips."""
        return REGISTRY[self.name](long_skips, **self.params)


def names() -> tuple[str, ...]:
    """All registered methods, those of models/contrib included."""
    return tuple(REGISTRY)


def parameters(name: str) -> dict[str, Any]:
    """Parameters of a method and their defaults."""
    return defaults(REGISTRY[name])


def parse_method(text: str) -> Method:
    """Read `name` or `name(key=value, ...)`, values literals; ValueError, one line, with the choices."""
    name, given = _parse(text)
    if name not in REGISTRY:
        raise ValueError(f"method {name!r} is unknown; choose from {', '.join(REGISTRY)}")
    known = parameters(name)
    for key in given:
        if key not in known:
            choices = f"choose from {', '.join(known)}" if known else f"{name} takes no parameters"
            raise ValueError(f"{name}: parameter {key!r} is unknown; {choices}")
    return Method(name, {key: _checked(name, key, given.get(key, default), default) for key, default in known.items()})


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    try:
        node: ast.expr | None = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        node = None
    if isinstance(node, ast.Name):
        return node.id, {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        given = {word.arg: _value(f"{node.func.id}: {word.arg}", word.value) for word in node.keywords if word.arg}
        if len(given) == len(node.keywords):  # no **, and no key twice
            return node.func.id, given
    choices = ", ".join(REGISTRY)
    raise ValueError(f"method {text!r} is not of the form name or name(key=value, ...); choose from {choices}")


def _value(key: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        found = f"{key}={node.id} has a word" if isinstance(node, ast.Name) else f"{key} has an expression"
        raise ValueError(f"{found} for its value; give a number, True or False, or a text in quotes") from None


# What a parameter may be, by the type of its default, and how an error says it.
KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: type(value) is bool, "True or False"),
    int: (lambda value: type(value) is int, "a whole number"),
    float: (lambda value: type(value) in (int, float) and abs(value) < 1e308, "a finite number"),
    str: (lambda value: type(value) is str, "a text in quotes"),
}


def _checked(name: str, key: str, value: Any, default: Any) -> Any:
    """The value, an int where a float is meant made one: kappa=1 and kappa=1.0 are the same configuration."""
    kind, says = KINDS.get(type(default), (lambda _: True, ""))
    test, says = REGISTRY[name].valid.get(key, (lambda _: True, says))
    if not (kind(value) and test(value)):
        raise ValueError(f"{name}: {key}={value!r} is out of range; {says}")
    return float(value) if type(default) is float else value
