"""The claims of the paper: data that is checked, verdicts that follow the evidence, tags that are kept apart."""

import hashlib
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


def never(method, seeds):
    """An edit that keeps these runs of a method off their target."""
    return lambda cfg, fid: fid * 0 + 1000.0 if cfg["role"] == "paired" and cfg["label"] == method and cfg["spec"]["seed"] in seeds else fid


def test_a_bound_counts_for_what_it_supports(tmp_path):
    """A baseline or two of six that miss the target make the speedup over them larger still, as the verdicts say."""
    found = verdicts(tmp_path / "a", {"inv_sqrt2": 1.3, "constant": 1.7}, edit=never("none", (0,)))
    assert found["C-order"]["verdict"] == "supported" and "inv_sqrt2 over none ≥ 1." in found["C-order"]["evidence"]
    found = verdicts(tmp_path / "b", {"inv_sqrt2": 1.3, "constant": 1.7}, edit=never("constant", (0,)))
    assert found["C-order"]["verdict"] == "inconclusive" and "constant over inv_sqrt2 ≤" in found["C-order"]["evidence"]
    found = verdicts(tmp_path / "c", {"inv_sqrt2": 1.3, "constant": 0.7}, edit=never("constant", (0,)))
    assert found["C-order"]["verdict"] == "contradicted"


def test_a_baseline_that_misses_the_target_leaves_a_lower_bound(tmp_path):
    """At 0.4 of the speed none reaches what is reached at 0.6 of the budget: the ratio is at least that of min(T, tau)."""
    rates = {"none @ lr 2": 1.0, "none @ lr 0.5": 0.4, "constant": 1.5}
    claim = verdicts(tmp_path / "a", rates, name="lr")["C-lr (constant)"]
    assert claim["verdict"] == "supported" and "constant over none @ lr 0.5 ≥ 2." in claim["evidence"]
    claim = verdicts(tmp_path / "b", rates, name="lr", edit=never("constant", (0,)))["C-lr (constant)"]  # both sides miss it: no number
    assert claim["verdict"] == "inconclusive" and "constant over none @ lr 0.5: no number" in claim["evidence"]
    claim = verdicts(tmp_path / "c", rates | {"none @ lr 2": 3.0}, name="lr", edit=never("constant", (0,)))["C-lr (constant)"]
    assert claim["verdict"] == "contradicted"


def test_a_claim_says_over_how_many_cells_and_how_many_runs_diverged(tmp_path):
    def drop(cfg, fid):
        return None if cfg["label"] == "constant" and cfg["spec"]["backbone"] == "unet-xs" else fid

    folder = synthetic.suite(tmp_path, {"inv_sqrt2": 1.2, "constant": 1.5}, edit=drop)
    synthetic.change(synthetic.find(folder, "constant", 0), lambda r: r.update(status="diverged"))
    found = {c["id"]: c["evidence"] for c in json.loads((reports.write(tmp_path, "s").parent / "report.json").read_text())["claims"]}
    assert found["C-speed (constant)"].endswith("over 1 of 2 cells; 1 run diverged")
    assert found["C-final (constant)"].endswith("over 1 of 2 cells; 1 run diverged and left out")
    assert found["C-order"].count("over 1 of 2 cells") == 1 and found["C-order"].endswith("; 1 run diverged")
    assert not any(what in found["C-final (inv_sqrt2)"] for what in ("of 2 cells", "diverged"))


def test_two_pairs_are_points(tmp_path):
    found = verdicts(tmp_path, {"inv_sqrt2": 1.2, "constant": 1.5}, n=2)
    for name in ("C-speed (constant)", "C-final (constant)", "C-order", "C-cost-time (learnable)"):
        assert found[name]["verdict"] == ("points only" if "learnable" not in name else "not tested"), found[name]
    assert re.search(r"speedup 1\.\d\dx \(2 seeds\)$", found["C-speed (constant)"]["evidence"])
    report = json.loads((tmp_path / "s" / "report" / "report.json").read_text())
    assert all(row["word"] == "points only" for row in report["pooled"])
    assert report["verdicts"][0]["text"].startswith("inv_sqrt2: points only at mini scale. digits/uvit-xs, digits/unet-xs: points only, 2 pairs")


def test_what_has_no_number_says_why_and_not_a_word(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 0.8})
    for run in synthetic.runs_of(folder):
        if "-constant-" in run.name:
            synthetic.change(run, lambda r: r.update(status="diverged"))
    found = {c["id"]: c for c in json.loads((reports.write(tmp_path, "s").parent / "report.json").read_text())["claims"]}
    claim = found["C-final (constant)"]
    assert claim["verdict"] == "inconclusive"
    assert claim["evidence"] == "no number to judge by: no pair of runs that came to the end and passed the gates; 12 runs diverged and left out"
    found = verdicts(tmp_path / "b", {"constant": 0.8}, edit=lambda cfg, fid: fid * 0 + 1000.0 if cfg["role"] == "paired" else fid)
    assert "no headline, 0 of 6 runs of none and 0 of the arm reached the target" in found["C-speed (constant)"]["evidence"]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "supported"), (1.2, "inconclusive"), (0.8, "inconclusive")])
def test_seconds_are_judged_on_a_quiet_machine_only(tmp_path, factor, verdict):
    """The null runs are the same networks as the baseline: what they take is the machine's doing."""
    folder = synthetic.suite(tmp_path, {"learnable": 1.0})
    for run in synthetic.runs_of(folder):
        role = json.loads((run / "config.json").read_text())["role"]
        synthetic.change(run, lambda r, role=role: r.update(seconds=r["seconds"] * (factor if role == "null" else 1)))
    found = {c["id"]: c for c in json.loads((reports.write(tmp_path, "s").parent / "report.json").read_text())["claims"]}
    claim = found["C-cost-time (learnable)"]
    assert claim["verdict"] == verdict and claim["evidence"].startswith("seconds per image, arm / baseline 1.00x")
    assert (f"the machine was not quiet: A/A {factor:.2f}x" in claim["evidence"]) is (factor != 1)


def test_evidence_names_every_parameter_of_the_arm_it_means(tmp_path, monkeypatch):
    plain = synthetic.config

    def config(role, method, *rest):
        cfg = plain(role, method, *rest)
        cfg["spec"]["method"] |= {"name": "constant", "kappa": 0.5} if method.startswith("constant") else {}
        return cfg | {"hash": hashlib.sha256(json.dumps(cfg["spec"], sort_keys=True, separators=(",", ":")).encode()).hexdigest()}

    monkeypatch.setattr(synthetic, "config", config)
    found = verdicts(tmp_path, {"constant": 1.5, "constant @ lr 2": 1.5}, name="lr")
    assert found["C-speed (constant)"]["evidence"].startswith("constant(kappa=0.5): speedup 1.")


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
