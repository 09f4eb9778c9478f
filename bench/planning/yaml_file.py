"""YAML in base ten. YAML 1.1 takes 0500 for base 8, 12:00:00 for base 60, yes for true, and 2e-4 for a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from bench.errors import BadInput

NULL, TRUTH, DIGITS = "~|null|Null|NULL|", "true|True|TRUE|false|False|FALSE", "[0-9](?:_?[0-9])*"
FLOAT = rf"[-+]?(?:{DIGITS}(?:\.(?:{DIGITS})?|(?=[eE]))|\.{DIGITS})(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"


class Words(yaml.SafeLoader):  # type: ignore[misc]
    """Safe YAML of words, null, true and false, where numbers are text; it refuses a key given twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merging = "tag:yaml.org,2002:merge"  # `<<: *anchor`: what it brings may be overridden
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merging]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class Numbers(Words):
    """The same with numbers."""


for loader, kind, pattern in (
    *((Words, "merge", "<<"), (Words, "null", NULL), (Words, "bool", TRUTH)),
    *((Numbers, "float", FLOAT), (Numbers, "int", f"[-+]?{DIGITS}")),
):
    loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), None)
Numbers.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read(path: Path, loader: type[Words]) -> Any:
    """The content of a file; BadInput, one line, where it is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
