"""The claims of the paper: data that is checked, verdicts that follow the evidence, tags that are kept apart."""

import json
import re

import pytest
import synthetic
import yaml

import reports
from reports import claims


def verdicts(tmp_path, speedups, **changes):
    """Verdict by claim on a synthetic suite."""
    synthetic.suite(tmp_path, speedups, **changes)
    page = reports.write(tmp_path, changes.get("name", "s"))
    report = json.loads((page.parent / "report.json").read_text())
    return {claim["id"]: claim for claim in report["claims"]}


def test_the_shipped_claims_are_whole():
    found, published = claims.load()
    names = {claim["id"] for claim in found}
    assert {"C-speed", "C-final", "C-order", "C-kappa", "C-shared", "C-cost-parameters", "C-cost-time", "C-features", "C-gradients",
            "C-robustness", "C-depth", "C-lr"} <= names
    assert {f"C-speed-{d}-{b}" for d in ("cifar10", "celeba64", "imagenet64", "coco256") for b in ("uvit", "unet")} <= names
    assert all(figure["tag"] in ("V", "C", "U") and figure["source"] for figure in published.values())
    shown = {name for claim in found for name in claim.get("published", [])}
    assert shown == set(published)  # each stands beside a claim


def test_what_is_recalled_is_called_unverified_everywhere(tmp_path):
    for claim in verdicts(tmp_path, {"constant": 1.3}).values():
        for figure in claim["published"]:
            assert figure["label"] == {"V": "published", "C": "computed", "U": "unverified"}[figure["tag"]]
    text = (tmp_path / "s" / "report" / "index.html").read_text()
    section = text[text.index('id="claims"'):]
    for figure in yaml.safe_load((claims.HERE / "published.yaml").read_text()):
        if figure["tag"] == "U" and figure["text"] in section:
            assert f"unverified: {figure['text']}" in section and f"published: {figure['text']}" not in section


@pytest.mark.parametrize(("speedup", "verdict"), [(1.5, "supported"), (1.2, "weaker"), (2.0, "stronger"), (0.8, "contradicted")])
def test_a_speedup_is_judged_against_its_number(tmp_path, speedup, verdict):
    assert verdicts(tmp_path, {"constant": speedup})["C-speed (constant)"]["verdict"] == verdict


def test_what_no_run_tests_is_not_tested(tmp_path):
    found = verdicts(tmp_path, {"constant": 1.3})
    assert found["C-speed (learnable)"]["verdict"] == "not tested" and found["C-speed-cifar10-uvit (constant)"]["verdict"] == "not tested"
    assert "stability" in found["C-features (constant)"]["evidence"]


def test_few_seeds_are_preliminary(tmp_path):
    assert "preliminary" in verdicts(tmp_path, {"constant": 1.5}, n=3, sigma=0.01)["C-speed (constant)"]["verdict"]


def test_a_range_of_kappa_needs_two_values_and_all_of_them(tmp_path):
    assert "needs at least two" in verdicts(tmp_path / "a", {"constant": 1.3})["C-kappa"]["evidence"]
    assert verdicts(tmp_path / "b", {"constant": 1.3, "constant(kappa=0.9)": 1.2})["C-kappa"]["verdict"] == "supported"
    assert verdicts(tmp_path / "c", {"constant": 1.3, "constant(kappa=0.9)": 0.8})["C-kappa"]["verdict"] == "contradicted"


def test_a_speedup_must_survive_every_learning_rate_of_the_baseline(tmp_path):
    rates = {"none @ lr 2": 1.0, "none @ lr 0.5": 0.8, "constant": 1.5, "constant @ lr 2": 1.4}
    found = verdicts(tmp_path / "a", rates, name="lr")
    assert found["C-lr (constant)"]["verdict"] == found["C-lr (constant @ lr 2)"]["verdict"] == "supported"
    assert found["C-lr (constant @ lr 0.5)"]["verdict"] == "not tested"
    assert "constant over none @ lr 0.5" in found["C-lr (constant)"]["evidence"]
    assert verdicts(tmp_path / "b", rates | {"none @ lr 2": 2.0}, name="lr")["C-lr (constant)"]["verdict"] == "contradicted"
    assert verdicts(tmp_path / "c", {"constant": 1.5}, name="lr")["C-lr (constant)"]["verdict"] == "not tested"


def test_a_bare_name_means_the_arm_at_the_learning_rate_of_the_suite(tmp_path):
    found = verdicts(tmp_path, {"constant @ lr 2": 2.0, "constant(kappa=0.7)": 1.2})
    assert found["C-speed (constant)"]["verdict"] == "weaker"
    assert verdicts(tmp_path / "b", {"constant @ lr 2": 2.0})["C-speed (constant)"]["verdict"] == "not tested"


def test_cost_in_parameters_is_read_from_the_records(tmp_path):
    """The synthetic gate adds 10 parameters to 10,000: 0.1 %."""
    claim = verdicts(tmp_path, {"learnable(r=4)": 1.2})["C-cost-parameters (learnable)"]
    assert "0.10 %" in claim["evidence"] and claim["verdict"] == "supported" and len(claim["runs"]) == 12


def test_evidence_links_to_runs_that_are_on_the_page(tmp_path):
    found = verdicts(tmp_path, {"constant": 1.3})
    text = (tmp_path / "s" / "report" / "index.html").read_text()
    linked = re.findall(r'href="#run-([^"]+)"', text)
    assert linked and all(f'id="run-{run}"' in text for run in linked)
    assert set(found["C-speed (constant)"]["runs"]) >= set(linked[:5])


def test_a_claim_is_added_without_code(tmp_path, monkeypatch):
    entry = {"id": "C-mine", "claim": "Mine.", "source": "here", "tag": "U", "suite": "any", "test": "speedup", "number": 1.2,
             "methods": ["constant"]}
    shipped = yaml.safe_load((claims.HERE / "claims.yaml").read_text())
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([*shipped, entry]))
    monkeypatch.setattr(claims.load, "__defaults__", (tmp_path / "claims.yaml", claims.HERE / "published.yaml"))
    assert verdicts(tmp_path, {"constant": 1.2})["C-mine (constant)"]["verdict"] == "supported"


@pytest.mark.parametrize(("change", "message"), [
    ({"test": "guess"}, "C-x: test 'guess' is unknown; choose from speedup"), ({"tag": "X"}, "C-x: tag 'X' is unknown; choose from V, C, U"),
    ({"published": ["nowhere"]}, "C-x: published figure 'nowhere' is not in published.yaml"), ({"number": None}, "C-x: lacks 'number'"),
    ({"source": None}, "lacks 'source'"),
])
def test_a_bad_claim_is_one_line(tmp_path, change, message):
    entry = {"id": "C-x", "claim": "X.", "source": "here", "tag": "V", "suite": "any", "test": "speedup", "number": 1.5,
             "methods": ["constant"]} | change
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([{key: value for key, value in entry.items() if value is not None}]))
    with pytest.raises(ValueError, match=message) as caught:
        claims.load(tmp_path / "claims.yaml", claims.HERE / "published.yaml")
    assert "\n" not in str(caught.value)


# Figures -----------------------------------------------------------------------------------------------------------------


def test_every_mark_of_a_figure_tells_its_number_and_methods_keep_their_colour(tmp_path):
    verdicts(tmp_path, {"inv_sqrt2": 1.0, "constant": 1.3})
    folder = tmp_path / "s" / "report" / "figures"
    for kind in ("speedup", "pairs", "curves", "ladder"):
        svg = (folder / f"{kind}-digits-uvit-xs.svg").read_text()
        tips = re.findall(r"<title>([^<]*)</title>", svg)
        assert len([tip for tip in tips if re.search(r"\d", tip)]) >= 3, kind
    from reports.styles import style

    colours = {method: style(method, ["none", "inv_sqrt2", "constant"]).colour for method in ("none", "inv_sqrt2", "constant")}
    assert len(set(colours.values())) == 3
    for name in ("speedup-digits-uvit-xs", "curves-digits-unet-xs", "ladder-digits-uvit-xs"):
        assert colours["constant"] in (folder / f"{name}.svg").read_text()
