"""Methods as text, and the files that users add."""

import sys

import pytest
import torch

import models
from models import contrib
from models.methods import Method, load_contrib
from models.scaling import REGISTRY


@pytest.mark.parametrize(("text", "label", "params"), [
    ("constant", "constant", {"kappa": 0.5, "index": "level"}),
    (" constant( kappa = 0.7 ) ", "constant(kappa=0.7)", {"kappa": 0.7, "index": "level"}),
    ("constant(kappa=0.5)", "constant", {"kappa": 0.5, "index": "level"}),
    ("constant(kappa=1)", "constant(kappa=1.0)", {"kappa": 1.0, "index": "level"}),
    ("constant(index='concat')", "constant(index='concat')", {"kappa": 0.5, "index": "concat"}),
    ("mp_cat(t=1e-3)", "mp_cat(t=0.001)", {"t": 0.001}),
    ("learnable(r=4)", "learnable(r=4)", {"r": 4}), ("none()", "none", {}),
    ("freeu(s2=0)", "freeu(s2=0.0)", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.0}),
])
def test_methods_as_text(text, label, params):
    found = models.parse_method(text)
    assert (found.label, found.params) == (label, params)
    assert models.parse_method(found.label) == found == Method(found.name, params)


@pytest.mark.parametrize("name", models.methods())
def test_a_default_written_out_is_the_default(name):
    method = models.parse_method(name)
    written = ", ".join(f"{key}={value!r}" for key, value in method.params.items())
    assert models.parse_method(f"{name}({written})") == method and method.label == name


@pytest.mark.parametrize(("text", "message"), [
    ("lernable", "method 'lernable' is unknown; choose from none, inv_sqrt2, constant"),
    ("constant(kapa=0.7)", "constant: parameter 'kapa' is unknown; choose from kappa, index"),
    ("none(x=1)", "it takes no parameter"),
    ("constant(kappa=1.7)", "constant: kappa=1.7 is out of range; 0 < kappa <= 1 (the paper advises 0.5 to 0.95)"),
    ("constant(kappa=0)", "out of range"), ("constant(kappa='a')", "constant: kappa='a' is out of range"),
    ("constant(kappa=True)", "out of range"),
    ("constant(kappa=1e999)", "kappa=inf is out of range"), ("constant(kappa=float('nan'))", "not of the form"),
    ("constant(kappa=[])", "out of range"),
    ("constant(index='depth')", "choose from 'level', 'concat'"),
    ("constant(index=1)", "choose from 'level', 'concat'"),
    ("constant_reversed(kappa=2)", "constant_reversed: kappa=2 is out of range"),
    ("learnable_per_skip(r=0)", "learnable_per_skip: r=0 is out of range"),
    ("learnable(r=0)", "r=0 is out of range"),
    ("learnable(r=2.5)", "r=2.5 is out of range; a whole number of at least 1"), ("learnable(r=True)", "out of range"),
    ("mp_cat(t=1)", "0 < t < 1"), ("layerscale(init='x')", "a finite number"),
    (f"layerscale(init={10**400})", "a finite number"), ("skip_tuning(rho_top=-1)", "at least 0"),
    ("freeu(b1=None)", "at least 0"), ("constant(0.7)", "not of the form"),
    ("constant(**{'kappa': 1})", "not of the form"), ("", "not of the form"),
    ("__import__('os').system('true')", "not of the form"), ("a b", "not of the form"),
    ("constant(kappa=0.5, kappa=0.6)", "not of the form"), ("none\nnone", "not of the form"),
    ("(" * 5000, "not of the form"), (7, "not of the form"), (None, "not of the form"),
])
def test_bad_text_is_one_line_with_the_choices(text, message):
    with pytest.raises(ValueError) as caught:
        models.parse_method(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder that stands for models/contrib; what it registered is forgotten afterwards."""
    monkeypatch.setattr(contrib, "__path__", [str(tmp_path)])
    before = dict(REGISTRY)
    yield tmp_path
    REGISTRY.clear()
    REGISTRY.update(before)
    for name in [name for name in sys.modules if name.startswith("models.contrib.")]:
        del sys.modules[name]


def test_a_file_adds_a_method(own):
    """It needs no annotations: its parameters are checked by the type of their default."""
    (own / "half.py").write_text(
        'from models import Scaling, register\n\n\n@register("half")\nclass Half(Scaling):\n    """Half."""\n\n'
        "    def __init__(self, wheres, factor=0.5):\n        super().__init__(wheres)\n"
        "        self.factor = factor\n\n"
        "    def skip(self, s, where):\n        return s * self.factor\n")
    load_contrib()
    assert models.methods()[-1] == "half" and models.parse_method("half(factor=1)").params == {"factor": 1.0}
    with pytest.raises(ValueError, match=r"half: factor='x' is out of range; a finite number"):
        models.parse_method("half(factor='x')")
    net = models.build("uvit-xs", "half(factor=0.25)")
    assert torch.equal(net.scaling.skip(torch.ones(2, 17, 32), net.wheres[0]), torch.full((2, 17, 32), 0.25))


@pytest.mark.parametrize(("text", "message"), [
    ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    ("def", "SyntaxError: invalid syntax"),
    ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
    ("from models import Scaling, register\n@register('none')\nclass Again(Scaling): pass",
     "ValueError: method 'none': registered twice"),
])
def test_a_broken_file_is_one_line_that_names_it(own, text, message):
    (own / "broken.py").write_text(text)
    with pytest.raises(ValueError) as caught:
        load_contrib()
    assert str(caught.value).startswith(f"models/contrib/broken.py: {message}") and "\n" not in str(caught.value)
