"""The subject: backbones, scaling methods and the zoo of presets. Knows no dataset and no harness."""

from models.methods import Method, load_contrib, names as methods, parse_method
from models.scaling import Scaling, Where, register
from models.weights import load_published
from models.zoo import build, example_condition, flops, presets, spec

__all__ = [
    "Method", "Scaling", "Where", "build", "example_condition", "flops", "load_published", "methods", "parse_method",
    "presets", "register", "spec",
]

load_contrib()  # last: what users add imports from here
