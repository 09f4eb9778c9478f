"""Scaling methods and backbones of your own, one file each. See the README."""

import importlib
import pkgutil


def load() -> None:
    """Import every file in this folder; ValueError, one line, names a file that does not import."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        try:
            importlib.import_module(f"{__name__}.{module.name}")
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"models/contrib/{module.name}.py: {type(error).__name__}: {reason}") from error
