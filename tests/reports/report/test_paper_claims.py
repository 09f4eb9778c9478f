"""The claims of the paper: data that is checked, verdicts that follow the evidence, tags that are kept apart."""

import hashlib
import json
import re

import pytest
import synthetic
import yaml

import reports
from reports.records.suite_records import read
from reports.report import claims, tree
from reports.report.build import build


def judged(folder):
    """The claims by id and method."""
    return {
        f"{one.id} ({one.method})" if one.method else one.id: one
        for one in build(read(folder.parent, folder.name)).claims
    }


def verdicts(tmp_path, speedups, **changes):
    """Verdict by claim on a synthetic suite."""
    return judged(synthetic.suite(tmp_path, speedups, **changes))


def test_the_shipped_claims_are_whole():
    found = claims.load()
    names = {claim.id for claim, _ in found.rows()}
    assert {"C-speed", "C-final", "C-order", "C-kappa", "C-shared", "C-cost-parameters", "C-cost-time", "C-lr"} <= names
    assert {"C-features", "C-gradients", "C-robustness", "C-depth", "C-depth-bounded"} <= names
    grid = {f"{d}-{b}" for d in ("cifar10", "celeba64", "imagenet64", "coco256") for b in ("uvit", "unet")}
    assert {f"{kind}-{row}" for kind in ("C-speed", "C-final") for row in grid} <= names
    shown = {figure for claim, _ in found.rows() for method in claim.methods for figure in found.beside(claim, method)}
    assert all(any(one.text in figure for figure in shown) for one in found.published)  # each stands beside a claim


def test_what_is_recalled_is_called_unverified_everywhere(tmp_path):
    reports.write(synthetic.suite(tmp_path, {"constant": 1.3}).parent, "s")
    section = (tmp_path / "s" / "report" / "index.html").read_text().partition('id="claims"')[2]
    for figure in claims.load().published:
        if figure.tag == "U" and figure.text in section:
            assert f"unverified: {figure.text}" in section and f"published: {figure.text}" not in section
    assert "unverified: FID 2.98, constant" in section and "published: FID 3.11, none" in section


@pytest.mark.parametrize(
    ("speedup", "verdict"), [(1.5, "supported"), (1.2, "weaker"), (2.0, "stronger"), (0.8, "contradicted")]
)
def test_a_speedup_is_judged_against_its_number(tmp_path, speedup, verdict):
    claim = verdicts(tmp_path, {"constant": speedup})["C-speed (constant)"]
    assert claim.verdict == verdict and claim.estimate in claim.evidence and claim.level == 0.95


DIT = ("digits/dit-xs", "shapes/dit-xs-class")


def test_claims_about_a_baseline_are_judged_over_it_alone(tmp_path):
    """Skip-DiT's over `plain`; ScaleLong's are about scaling skips that are there, and not tested."""
    arms = {"norm_cat": 2.0, "none": 1.9, "constant": 2.9}
    found = verdicts(tmp_path, arms, name="skip-dit", baseline="plain", cells=DIT)
    one, scaled = found["C-skip-dit (norm_cat)"], found["C-skip-dit-scaled"]
    assert one.verdict == "weaker" and one.estimate in one.evidence
    assert any(figure.startswith("published: 4.4 times training") for figure in one.published)
    assert scaled.verdict == "supported" and scaled.evidence.startswith("speedup 1.")
    assert found["C-speed (constant)"].evidence == found["C-order"].evidence == "needs the baseline none"
    assert {name for name, claim in found.items() if claim.runs} == {"C-skip-dit (norm_cat)", "C-skip-dit-scaled"}
    quick = verdicts(tmp_path, {"constant": 1.3})
    assert quick["C-skip-dit (norm_cat)"].evidence == "needs the suite skip-dit*"


def test_the_number_of_the_pooled_table_is_that_of_the_claim(tmp_path):
    found = {
        claim.baseline: claim.about
        for claim, _ in reversed(claims.load().rows())
        if getattr(claim, "about", None) and not claim.order
    }
    assert found == {baseline: number for baseline, (number, *_) in tree.CLAIMED.items()}


def test_an_interval_below_the_number_excludes_it(tmp_path):
    assert verdicts(tmp_path, {"constant": 1.0}, sigma=0.2)["C-speed (constant)"].verdict == "excluded"


def test_what_no_run_tests_is_not_tested(tmp_path):
    found = verdicts(tmp_path, {"constant": 1.3})
    assert found["C-speed (learnable)"].verdict == found["C-speed-cifar10-uvit (constant)"].verdict == "not tested"
    assert found["C-features (constant)"].evidence == "needs the suite stability*"


def test_claims_about_a_part_of_the_cells_are_a_family_of_their_own(tmp_path):
    cells = ("cifar10/uvit-s-2", "cifar10/unet-cifar10-matched", "celeba64/uvit-s-4")
    folder = synthetic.suite(tmp_path, {"constant": 1.5, "learnable": 1.5}, name="paper", cells=cells)
    found = judged(folder)
    tested = [one for name, one in found.items() if re.match(r"C-(speed|final)-", name) and one.runs]
    rows = {one.id for one in tested}
    assert rows == {
        f"C-{kind}-{cell}" for kind in ("speed", "final") for cell in ("cifar10-uvit", "cifar10-unet", "celeba64-uvit")
    }
    assert {one.level for one in tested} == {1 - 0.05 / (2 * 6)} and found["C-speed (constant)"].level == 1 - 0.05 / 2
    assert (
        found["C-speed-cifar10-uvit (constant)"].text
        == "Training reaches the same quality about 1.5 times sooner: CIFAR-10 with U-ViT."
    )
    part = found["C-final-cifar10-uvit (constant)"]
    assert len(part.runs) == 12 and "published: FID 3.11, none, 500K iterations, batch 128 (UV)" in part.published
    assert not any("learnable" in figure for figure in part.published)


def test_few_seeds_are_preliminary_and_two_are_points(tmp_path):
    assert verdicts(tmp_path / "a", {"constant": 1.5}, n=3, sigma=0.01)["C-speed (constant)"].verdict == "preliminary"
    found = verdicts(tmp_path / "b", {"inv_sqrt2": 1.2, "constant": 1.5}, n=2)
    for name in ("C-speed (constant)", "C-final (constant)", "C-order"):
        assert found[name].verdict == "points only", found[name]
    assert found["C-cost-time (learnable)"].verdict == "not tested"
    assert re.search(r"speedup 1\.\d\dx \(2 seeds\)$", found["C-speed (constant)"].evidence)


def test_a_range_of_kappa_needs_two_values_and_all_of_them(tmp_path):
    assert "needs at least two" in verdicts(tmp_path / "a", {"constant": 1.3})["C-kappa"].evidence
    assert verdicts(tmp_path / "b", {"constant": 1.3, "constant(kappa=0.9)": 1.2})["C-kappa"].verdict == "supported"
    assert verdicts(tmp_path / "c", {"constant": 1.3, "constant(kappa=0.9)": 0.8})["C-kappa"].verdict == "contradicted"


def test_the_same_is_within_ten_per_cent(tmp_path):
    arms = {"learnable": 1.2, "learnable_per_skip": 1.2}
    assert verdicts(tmp_path / "a", arms, sigma=0.01)["C-shared"].verdict == "supported"
    assert verdicts(tmp_path / "b", arms | {"learnable": 1.6})["C-shared"].verdict == "contradicted"


TUNED = {"none @ lr 0.5": 0.8, "none": 1.0, "none @ lr 2": 1.3, "constant": 1.2, "constant @ lr 2": 1.4}


def test_a_speedup_must_survive_the_best_learning_rate_of_both(tmp_path):
    arms = {"none @ lr 2": 1.2, "constant": 1.5, "constant @ lr 2": 1.7}
    found = verdicts(tmp_path / "a", arms, name="lr", tuning=TUNED)["C-lr (constant)"]
    assert found.verdict == "supported" and found.evidence.startswith("constant @ lr 2 over none @ lr 2 1.")
    slower = arms | {"none @ lr 2": 2.0}
    assert verdicts(tmp_path / "b", slower, name="lr", tuning=TUNED)["C-lr (constant)"].verdict == "contradicted"


def test_without_tuning_runs_or_an_arm_at_the_best_rate_the_claim_is_not_tested(tmp_path):
    for name, arms, tuning in (
        ("a", {"constant": 1.5}, None),
        ("b", {"constant": 1.5, "none @ lr 2": 1.2}, TUNED),
        ("c", {"constant": 1.5, "none @ lr 2": 1.2}, {"none": 1.0, "none @ lr 2": 1.3}),
    ):
        found = verdicts(tmp_path / name, arms, name="lr", tuning=tuning)["C-lr (constant)"]
        assert found.verdict == "not tested" and "needs tuning runs" in found.evidence


def test_a_bare_name_means_the_arm_at_the_learning_rate_of_the_suite(tmp_path):
    found = verdicts(tmp_path / "a", {"constant @ lr 2": 2.0, "constant(kappa=0.7)": 1.2})
    assert found["C-speed (constant)"].verdict == "weaker"
    assert verdicts(tmp_path / "b", {"constant @ lr 2": 2.0})["C-speed (constant)"].verdict == "not tested"


def test_nothing_is_contradicted_where_the_budget_was_too_short(tmp_path):
    def late(cfg, fid):
        return fid * 1.6 if cfg["role"] == "paired" else fid

    found = verdicts(tmp_path, {"inv_sqrt2": 0.9, "constant": 0.7}, edit=late, sigma=0.02)
    assert found["C-order"].verdict == found["C-speed (constant)"].verdict == "inconclusive: budget too short"


def test_a_cell_without_a_pair_at_the_end_leaves_the_claim_on_the_end_open(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.5, "inv_sqrt2": 1.5})
    for seed in range(6):
        run = synthetic.find(folder, "constant", seed)
        synthetic.change(run, lambda r: r.update(status="diverged"))
    rows = {f"{claim.id} ({claim.method})": claim for claim in build(read(tmp_path, "s")).claims}
    lost = rows["C-final (constant)"]
    assert lost.verdict == "inconclusive" and "no pair to judge by in digits/uvit-xs" in lost.evidence
    assert rows["C-final (inv_sqrt2)"].verdict == "supported"


def test_a_claim_says_over_how_many_cells_and_how_many_runs_diverged(tmp_path):
    def drop(cfg, fid):
        return None if cfg["label"] == "constant" and cfg["spec"]["backbone"] == "unet-xs" else fid

    folder = synthetic.suite(tmp_path, {"inv_sqrt2": 1.2, "constant": 1.5}, edit=drop)
    synthetic.change(synthetic.find(folder, "constant", 0), lambda r: r.update(status="diverged"))
    found = {name: one.evidence for name, one in judged(folder).items()}
    assert found["C-speed (constant)"].startswith("no number to judge by")  # one cell alone would drop the other
    assert found["C-speed (constant)"].endswith("; 1 run diverged")
    assert "over 1 of 2 cells" in found["C-final (constant)"] and found["C-final (constant)"].endswith(
        "; no pair to judge by in digits/unet-xs; 1 run diverged and left out"
    )
    assert found["C-order"].count("no number to judge by") == 1 and found["C-order"].endswith("; 1 run diverged")
    assert not any(what in found["C-final (inv_sqrt2)"] for what in ("of 2 cells", "diverged"))


def test_what_has_no_number_says_why_and_not_a_word(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 0.8})
    for run in synthetic.runs_of(folder):
        if "-constant-" in run.name:
            synthetic.change(run, lambda r: r.update(status="diverged"))
    found = judged(folder)
    assert (
        found["C-final (constant)"].verdict == "inconclusive"
        and "no number to judge by" in found["C-final (constant)"].evidence
    )
    assert found["C-speed (constant)"].verdict == "contradicted"  # they count as not reaching the band


def test_a_cell_in_which_the_arm_diverged_leaves_the_final_distance_open(tmp_path):
    """The other cell alone would say that the arm is better."""
    folder = synthetic.suite(tmp_path, {"constant": 1.5})
    assert judged(folder)["C-final (constant)"].verdict == "supported"
    for run in synthetic.runs_of(folder):
        if "unet-xs-constant-" in run.name:
            synthetic.change(run, lambda r: r.update(status="diverged"))
    claim = judged(folder)["C-final (constant)"]
    assert claim.verdict == "inconclusive" and "no pair to judge by in digits/unet-xs" in claim.evidence


def test_a_last_distance_that_is_not_finite_is_said(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.5})
    run = synthetic.find(folder, "constant", 0)
    synthetic.change(run, lambda r: r["evaluations"][-1].update(fid="nan"))
    claim = judged(folder)["C-final (constant)"]
    assert claim.evidence.endswith("; 1 run without a finite number and left out") and run.name in claim.runs
    assert claim.verdict == "preliminary"  # five pairs are left


@pytest.mark.parametrize(("factor", "verdict"), [(1, "supported"), (1.2, "inconclusive")])
def test_time_is_judged_only_on_a_quiet_machine(tmp_path, factor, verdict):
    """The null arm trains the same networks: where it takes another time, the machine was not quiet."""
    folder = synthetic.suite(tmp_path, {"learnable": 1.2})
    for run in synthetic.runs_of(folder):
        role = json.loads((run / "config.json").read_text())["role"]
        synthetic.change(run, lambda r, role=role: r.update(seconds=r["seconds"] * (factor if role == "null" else 1)))
    claim = judged(folder)["C-cost-time (learnable)"]
    assert claim.verdict == verdict and claim.evidence.startswith("seconds per image, arm / baseline, 1.00x")
    assert (f"the machine was not quiet: null arm {factor:.2f}x" in claim.evidence) is (factor != 1)


def test_evidence_names_every_parameter_of_the_arm_it_means(tmp_path, monkeypatch):
    plain = synthetic.config

    def config(role, method, *rest):
        cfg = plain(role, method, *rest)
        cfg["spec"]["method"] |= {"name": "constant", "kappa": 0.5} if method.startswith("constant") else {}
        return cfg | {
            "hash": hashlib.sha256(json.dumps(cfg["spec"], sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        }

    monkeypatch.setattr(synthetic, "config", config)
    found = verdicts(tmp_path, {"constant": 1.5, "constant @ lr 2": 1.5}, name="lr")
    assert found["C-speed (constant)"].evidence.startswith("constant(kappa=0.5): speedup 1.")


def test_cost_in_parameters_is_read_from_the_records(tmp_path):
    """The synthetic gate adds 10 parameters to 10,000: 0.1 %."""
    claim = verdicts(tmp_path, {"learnable(r=4)": 1.2})["C-cost-parameters (learnable)"]
    assert "0.10 %" in claim.evidence and claim.verdict == "supported" and len(claim.runs) == 2


MINE = {
    "id": "C-mine",
    "text": "Mine.",
    "source": "here",
    "tag": "U",
    "test": "speedup",
    "about": 1.2,
    "rule": "About.",
    "methods": ["constant"],
}


def file(tmp_path, entry):
    content = yaml.safe_load(claims.FILE.read_text())
    content["claims"].append({key: value for key, value in entry.items() if value is not None})
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "claims.yaml"


def test_a_claim_is_added_without_code(tmp_path, monkeypatch):
    found = claims.load(file(tmp_path, MINE))
    monkeypatch.setattr(claims, "load", lambda: found)
    assert verdicts(tmp_path, {"constant": 1.2})["C-mine (constant)"].verdict == "supported"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"test": "guess"},
            "claims.yaml: C-mine: .*'guess' .* expected tags: 'speedup', 'ratio', 'exponent', 'parameters'",
        ),
        ({"tag": "X"}, "claims.yaml: C-mine: speedup.tag: Input should be 'V', 'C' or 'U'"),
        ({"rule": None}, "claims.yaml: C-mine: speedup.rule: Field required"),
        ({"source": None}, "claims.yaml: C-mine: speedup.source: Field required"),
        ({"nubmer": 3}, "claims.yaml: C-mine: speedup.nubmer: Extra inputs are not permitted"),
        ({"id": "C-speed"}, "claims.yaml: claims: id 'C-speed' is given twice"),
    ],
)
def test_a_bad_claim_is_one_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        claims.load(file(tmp_path, MINE | change))
    assert "\n" not in str(caught.value)
