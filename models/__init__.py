"""The subject: backbones, scaling methods and the presets by name. Knows no dataset and no harness."""

from models import contrib
from models.backbone import Backbone, Config, parameter_groups
from models.methods import Method, parse_method
from models.methods import names as methods
from models.scaling import LongSkip, Scaling, register
from models.weights import load_published, weights_digest
from models.zoo import build, config, example_condition, flops, presets, register_preset

__all__ = ["Backbone", "Config", "LongSkip", "Method", "Scaling", "build", "example_condition", "flops"]
__all__ += ["load_published", "methods", "parameter_groups", "parse_method", "presets", "register", "register_preset"]
__all__ += ["config", "weights_digest"]

contrib.load()  # last: what users add imports from here
