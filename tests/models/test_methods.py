"""Methods as text."""

import pytest

import models
from models.methods import Method


@pytest.mark.parametrize(
    ("text", "label", "params"),
    [
        ("constant", "constant", {"kappa": 0.5, "index": "level"}),
        (" constant( kappa = 0.7 ) ", "constant(kappa=0.7)", {"kappa": 0.7, "index": "level"}),
        ("constant(kappa=0.5)", "constant", {"kappa": 0.5, "index": "level"}),
        ("constant(kappa=1)", "constant(kappa=1.0)", {"kappa": 1.0, "index": "level"}),
        ("constant(index='concat')", "constant(index='concat')", {"kappa": 0.5, "index": "concat"}),
        ("mp_cat(t=1e-3)", "mp_cat(t=0.001)", {"t": 0.001}),
        ("learnable(r=4)", "learnable(r=4)", {"r": 4}),
        ("none()", "none", {}),
        ("freeu(s2=0)", "freeu(s2=0.0)", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.0}),
    ],
)
def test_methods_as_text(text, label, params):
    found = models.parse_method(text)
    assert (found.label, found.params) == (label, params)
    assert models.parse_method(found.label) == found == Method(found.name, params)


@pytest.mark.parametrize("name", models.methods())
def test_a_default_written_out_is_the_default(name):
    method = models.parse_method(name)
    written = ", ".join(f"{key}={value!r}" for key, value in method.params.items())
    assert models.parse_method(f"{name}({written})") == method and method.label == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lernable", "method 'lernable' is unknown; choose from none, inv_sqrt2, constant"),
        ("constant(kapa=0.7)", "constant: parameter 'kapa' is unknown; choose from kappa, index"),
        ("none(x=1)", "none: parameter 'x' is unknown; none takes no parameters"),
        ("constant(kappa=1.7)", "constant: kappa=1.7 is out of range; 0 < kappa <= 1 (the paper advises 0.5 to 0.95)"),
        ("constant(kappa=0)", "out of range"),
        ("constant(kappa='a')", "constant: kappa='a' is out of range"),
        ("constant(kappa=True)", "out of range"),
        ("constant(kappa=1e999)", "kappa=inf is out of range"),
        ("constant(kappa=float('nan'))", "constant: kappa has an expression for its value; give a number"),
        (
            "constant(kappa=abc)",
            "constant: kappa=abc has a word for its value; give a number, True or False, or a text",
        ),
        ("constant(kappa=[])", "out of range"),
        ("constant(index='depth')", "choose from 'level', 'concat'"),
        ("constant(index=1)", "choose from 'level', 'concat'"),
        ("constant_reversed(kappa=2)", "constant_reversed: kappa=2 is out of range"),
        ("learnable_per_skip(r=0)", "learnable_per_skip: r=0 is out of range"),
        ("learnable(r=0)", "r=0 is out of range"),
        ("learnable(r=2.5)", "r=2.5 is out of range; a whole number of at least 1"),
        ("learnable(r=True)", "out of range"),
        ("mp_cat(t=1)", "0 < t < 1"),
        ("layerscale(init='x')", "a finite number"),
        (f"layerscale(init={10**400})", "a finite number"),
        ("skip_tuning(rho_top=-1)", "at least 0"),
        ("freeu(b1=None)", "at least 0"),
        ("constant(0.7)", "not of the form"),
        ("constant(**{'kappa': 1})", "not of the form"),
        ("", "not of the form"),
        ("__import__('os').system('true')", "not of the form"),
        ("a b", "not of the form"),
        ("constant(kappa=0.5, kappa=0.6)", "not of the form"),
        ("none\nnone", "not of the form"),
        ("(" * 5000, "not of the form"),
        (7, "not of the form"),
        (None, "not of the form"),
    ],
)
def test_bad_text_is_one_line_with_the_choices(text, message):
    with pytest.raises(ValueError) as caught:
        models.parse_method(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)
