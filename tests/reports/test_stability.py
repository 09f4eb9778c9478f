"""The section on stability: known exponents, responses and ranks, and the claims that read them."""

import json
import math

import numpy as np
import pytest
import synthetic

import reports
from reports.records.suite_records import read
from reports.stability import exponents, family, stability

CELLS = {"digits/uvit-xs": 4, "digits/uvit-xs-d12": 6, "digits/uvit-xs-d16": 8}
ARMS = {"none": [1.0, 1.0], "inv_sqrt2": [0.5, 0.8], "constant(kappa=0.5)": [0.0, 0.5], "constant(kappa=0.7)": [0.2, 0.6]}  # exponent of depth, level
KAPPAS = {"none": lambda n: [1.0] * n, "inv_sqrt2": lambda n: [2**-0.5] * n, "constant(kappa=0.5)": lambda n: [0.5**k for k in range(n)],
          "constant(kappa=0.7)": lambda n: [0.7**k for k in range(n)]}
POINTS = 40
START = 0.3  # how much faster norms grow with depth at the initial weights
BATCH = 10  # of the synthetic runs


def probed(root, name="stability", seeds=tuple(range(6)), wobble=0.02, probes=True, cells=CELLS):
    """Norms that follow level x N^exponent with some noise per seed; everything else in proportion to them."""
    rng, listed, folder = np.random.default_rng(0), [], root / name
    for cell, skips in cells.items():
        for method, (exponent, level) in ARMS.items():
            for seed in seeds:
                cfg = synthetic.config("paired", method, seed, seed, cell) | {"suite": name}
                listed.append(synthetic.entry(cfg))
                norm = level * skips**exponent * math.exp(wobble * rng.standard_normal())
                log = synthetic.events(cfg, synthetic.distances(1.0, rng))
                log[0] |= {"skips": skips, "kappas": KAPPAS[method](skips)}
                synthetic.write_run(folder, cfg, [*log[:-1], *(probe_events(norm, skips, method) if probes else []), log[-1]])
    synthetic.write_suite(folder, list(cells), listed, [], arms=list(ARMS), seeds={"paired": list(seeds), "pilots": [], "null": []})
    return folder


def probe_events(norm, skips, method):
    base = {"event": "probe", "images": synthetic.TAU, "time": 3.0}
    norms = [base | {"probe": "norms", "images": 1000 * (k + 1), "features": [norm * (1 + 0.1 * (k % 2))] * skips, "gradient": norm}
             for k in range(POINTS)]
    norms[0] |= {"features": [norm * skips**START] * skips, "images": BATCH}  # the first step
    if method != "none":
        for k, probe in enumerate(norms):
            probe["gates"] = [[0.4, 0.5, 0.6 + 0.1 * k / POINTS]] * skips
    levels = [{"t": t, "random": norm / 2, "worst": norm} for t in (0.1, 0.5, 0.9)]
    values = {"feature_norm": norm, "feature_oscillation": 0.05 * norm, "gradient_oscillation": 0.1 * norm, "input_sensitivity": norm,
              "loss_spikes": 0.0}
    blocks = {"feature_norm": [norm / (i + 1) for i in range(skips)], "feature_oscillation": [0.05 * norm] * skips,
              "gradient_norm": [norm] * (2 * skips + 1), "gradient_oscillation": [0.1 * norm] * (2 * skips + 1)}
    values |= {"gradient_norm": norm, "feature_oscillation_relative": 0.05, "gradient_oscillation_relative": 0.1, "update_ratio": 0.001}
    return [*norms, base | {"probe": "response", "value": norm, "levels": levels, "shares": [0.5] * skips},
            *(base | {"probe": name, "value": value} | ({"blocks": blocks[name]} if name in blocks else {}) for name, value in values.items())]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("stability")
    folder = probed(root)
    reports.write(root, "stability", folder / "report", None)
    return folder / "report"


def content(report):
    return json.loads((report / "report.json").read_text())


def test_exponents_are_recovered(report):
    found = {g["method"]: g for g in content(report)["stability"]["growth"]}
    for method, (exponent, _) in ARMS.items():
        assert found[method]["low"] <= exponent <= found[method]["high"], found[method]
        assert found[method]["exponent"] == pytest.approx(exponent, abs=0.08) and found[method]["n"] == 6
        assert [n for n, _ in found[method]["points"]] == [n for n, _ in found[method]["start_points"]] == [4, 6, 8]
        start = found[method]["start"]
        assert start["low"] <= exponent + START <= start["high"] and start["exponent"] == pytest.approx(found[method]["exponent"] + START)
    assert [round(found[method]["predicted"], 2) for method in ARMS] == [0.5, 0.5, 0.0, 0.04]  # of (sum_j kappa_j^2)^(1/2): ln(1.3980 / 1.3594) / ln 2 for 0.7


def test_an_exponent_needs_every_depth_of_a_seed(tmp_path):
    folder = probed(tmp_path)
    for run in synthetic.runs_of(folder):
        if "uvit-xs-d12-none-s1" in run.name:
            (run / "result.json").unlink()
            (run / "events.jsonl").unlink()
    assert set(exponents(read(tmp_path, "stability"), "digits/uvit", "none")) == {0, 2, 3, 4, 5}


def test_rows_ranks_and_series(report):
    found = content(report)["stability"]
    row = next(r for r in found["rows"] if r["cell"] == "digits/uvit-xs" and r["method"] == "constant(kappa=0.5)")
    assert row["sum_squares"] == 1 + 0.25 + 0.0625 + 0.015625 and row["bound"] == 1 + 0.5 + 0.25 + 0.125 + 1 and row["skips"] == 4 and row["n"] == 6 and row["shares"] == [0.5] * 4
    series = found["series"][0]["feature"]  # of each seed 1 and 1.1 in turn: every window has both
    assert all(low < mean < high and high / low > 1.09 for low, mean, high in zip(series["low"], series["mean"], series["high"], strict=True))
    ranks = {quantity: [r["rho"] for r in found["rank"] if r["quantity"] == quantity] for quantity in {r["quantity"] for r in found["rank"]}}
    each = ranks.pop("feature_norm_of_each_block")
    assert set(sum(ranks.values(), [])) == {1.0} and {len(r) for r in ranks.values()} == {3} and len(ranks) == 5
    assert len(each) == 3 and all(0.5 < rho < 1 for rho in each)
    assert {one["quantity"]: (one["rho"], one["cells"]) for one in found["rank_means"]}["feature_shallowest"] == (1.0, 3) and len(found["rank_means"]) == 6
    assert row["blocks"]["feature"]["norm"] == sorted(row["blocks"]["feature"]["norm"], reverse=True) and len(row["blocks"]["gradient"]["norm"]) == 9
    assert row["feature_oscillation_relative"] == pytest.approx(0.05) and row["update_ratio"] == pytest.approx(0.001) and row["largest_spike"] == 1
    assert all(len(s["images"]) == len(s["feature"]["mean"]) == POINTS for s in found["series"]) and len(found["series"]) == 12
    assert {g["method"] for g in found["gates"]} == {"inv_sqrt2", "constant(kappa=0.5)", "constant(kappa=0.7)"} and set(found["gates"][0]["middle"]) == {0.5}
    assert found["gates"][0]["images"][-1] == 1000 * POINTS and 16 <= len(found["gates"][0]["images"]) <= 20
    assert found["gates"][0]["high"] == sorted(found["gates"][0]["high"])
    assert len([g for g in found["gates"] if g["cell"] == "digits/uvit-xs-d12" and g["method"] == "inv_sqrt2"]) == 6
    assert {r["t"] for r in found["response"]} == {0.1, 0.5, 0.9} and all(r["worst_low"] <= r["worst"] <= r["worst_high"] for r in found["response"])


def test_claims_have_verdicts_with_intervals(report):
    claims = {c["id"]: c for c in content(report)["claims"]}
    for name in ("C-features", "C-gradients", "C-robustness", "C-depth", "C-depth-start"):
        for method in ("inv_sqrt2", "constant"):
            claim = claims[f"{name} ({method})"]
            assert claim["verdict"] == "supported", claim
            assert "[" in claim["evidence"] and claim["runs"]
    assert "exponent of depth, arm - baseline: -0." in claims["C-depth (inv_sqrt2)"]["evidence"]
    assert claims["C-kappa-features"]["verdict"] == "supported"
    assert all(f"kappa {kappa} 0." in claims["C-kappa-features"]["evidence"] for kappa in (0.5, 0.7)), claims["C-kappa-features"]
    for name in ("C-features-relative", "C-gradients-relative"):  # every arm's band is the same share of its norm
        assert claims[f"{name} (constant)"]["verdict"] == "inconclusive"


def test_one_value_that_widens_the_band_contradicts_the_range(tmp_path, monkeypatch):
    monkeypatch.setitem(ARMS, "constant(kappa=0.7)", [1.0, 2.0])
    folder = probed(tmp_path)
    reports.write(tmp_path, "stability", folder / "report", None)
    claims = {c["id"]: c for c in content(folder / "report")["claims"]}
    assert claims["C-kappa-features"]["verdict"] == "contradicted" and claims["C-features (constant)"]["verdict"] == "supported"


def written(folder):
    """The claims of a report by id."""
    reports.write(folder.parent, folder.name, folder / "report", None)
    return {c["id"]: c for c in content(folder / "report")["claims"]}


def diverge(folder, method, cell=""):
    for run in synthetic.runs_of(folder):
        if json.loads((run / "config.json").read_text())["label"] == method and run.name.startswith(cell):
            synthetic.change(run, lambda r: r.update(status="diverged"))


def test_two_depths_have_a_slope(tmp_path):
    """As in the paper's setting: depth 12 and 16."""
    folder = probed(tmp_path, cells={"digits/uvit-xs-d12": 6, "digits/uvit-xs-d16": 8}, wobble=0.005)
    claims = written(folder)
    assert claims["C-depth (constant)"]["verdict"] == "supported"
    found = {g["method"]: g for g in content(folder / "report")["stability"]["growth"]}
    assert len(found) == len(ARMS) and found["none"]["exponent"] == pytest.approx(1, abs=0.05) and found["none"]["n"] == 6


@pytest.mark.parametrize(("exponent", "verdict"), [(0.0, "supported"), (0.1, "inconclusive"), (0.5, "contradicted")])
def test_boundedness_is_judged_by_the_exponent_of_the_arm_itself(tmp_path, monkeypatch, exponent, verdict):
    monkeypatch.setitem(ARMS, "constant(kappa=0.5)", [exponent, 0.5])
    claims = written(probed(tmp_path))
    assert claims["C-depth-bounded (constant)"]["verdict"] == verdict, claims["C-depth-bounded (constant)"]
    assert claims["C-depth-bounded (constant)"]["evidence"].startswith("constant(kappa=0.5): exponent of depth, digits/uvit ")
    assert " of " not in claims["C-depth-bounded (constant)"]["evidence"].partition("digits/uvit")[2]
    assert claims["C-depth (constant)"]["verdict"] == "supported"  # slower than without scaling all the same


def test_a_baseline_that_diverged_at_a_depth_is_said(tmp_path):
    folder = probed(tmp_path)
    diverge(folder, "none", "digits-uvit-xs-d16")
    claims = written(folder)
    assert claims["C-depth (constant)"]["verdict"] == "inconclusive"
    assert claims["C-depth (constant)"]["evidence"] == ("constant(kappa=0.5): no number to judge by: no seed with every depth of a family, or a "
                                                          "single depth; 6 runs diverged and left out")
    assert claims["C-features (constant)"]["evidence"].endswith("; 6 runs diverged and left out")
    assert " over 2 of 3 cells, " in claims["C-features (constant)"]["evidence"]
    assert claims["C-depth-bounded (constant)"]["verdict"] == "supported" and "diverged" not in claims["C-depth-bounded (constant)"]["evidence"]
    said = [v["text"] for v in content(folder / "report")["verdicts"]]
    assert "6 runs diverged and are left out." in said and not any("target." in text for text in said if "diverged" in text)


def test_a_value_whose_runs_all_diverged_leaves_a_range_open(tmp_path):
    folder = probed(tmp_path)
    diverge(folder, "constant(kappa=0.7)")
    claim = written(folder)["C-kappa-features"]
    assert claim["verdict"] == "inconclusive" and "kappa 0.7: no number; 18 runs diverged and left out" in claim["evidence"]


def edit(folder, change, label=""):
    """Change the probes of runs, in the log and in the result."""
    for run in synthetic.runs_of(folder):
        if label in ("", json.loads((run / "config.json").read_text())["label"]):
            synthetic.change(run, change)


def test_one_depth_has_measures_and_no_growth(tmp_path):
    claims = written(probed(tmp_path, cells={"digits/uvit-xs": 4}))
    assert claims["C-features (constant)"]["verdict"] == "supported"
    for name in ("C-depth", "C-depth-start", "C-depth-bounded"):
        assert claims[f"{name} (constant)"]["verdict"] == "inconclusive" and "a single depth" in claims[f"{name} (constant)"]["evidence"]


def test_an_arm_without_its_baseline_is_no_arm_without_runs(tmp_path):
    folder = probed(tmp_path)
    for run in synthetic.runs_of(folder):
        if json.loads((run / "config.json").read_text())["label"] == "none":
            (run / "result.json").unlink()
            (run / "events.jsonl").unlink()
    claims = written(folder)
    assert claims["C-features (inv_sqrt2)"]["evidence"] == "no number to judge by: no pair of runs that measured it"


def test_a_claim_says_how_far_one_pair_moves_it(tmp_path):
    folder = probed(tmp_path)
    before = written(folder)["C-features (inv_sqrt2)"]["evidence"]
    assert "with any one pair left out" in before
    run = next(run for run in synthetic.runs_of(folder) if json.loads((run / "config.json").read_text())["label"] == "inv_sqrt2")

    def explode(record):
        next(p for p in record["probes"] if p["probe"] == "feature_oscillation")["value"] *= 100

    synthetic.change(run, explode)
    low, high = (float(end.removesuffix("x")) for end in written(folder)["C-features (inv_sqrt2)"]["evidence"].split(", ")[-1].split(" with")[0].split(" to "))
    assert high / low > 1.25  # 100^(1/18), of 18 pairs


def test_norms_that_are_not_finite_are_left_out_of_the_series(tmp_path):
    """A gradient may overflow at a probed step of a run that comes to its end."""
    folder = probed(tmp_path)
    edit(folder, lambda record: record["stability"]["gradient"].__setitem__(3, "inf"), "inv_sqrt2")
    written(folder)
    found = content(folder / "report")["stability"]
    assert {s["method"] for s in found["series"]} == set(ARMS) - {"inv_sqrt2"} and len(found["rows"]) == 12


def test_arms_of_half_a_sweep_are_compared_over_the_same_seeds(tmp_path):
    folder = probed(tmp_path)
    for run in synthetic.runs_of(folder):
        if run.name.startswith("digits-uvit-xs-none-s") and "none-s0" not in run.name:
            (run / "result.json").unlink()
            (run / "events.jsonl").unlink()
    written(folder)
    rows = [r for r in content(folder / "report")["stability"]["rows"] if r["cell"] == "digits/uvit-xs"]
    assert {r["n"] for r in rows} == {1} and all("-s0-" in r["runs"][0] for r in rows)


def test_records_whose_first_step_was_not_probed_have_no_start(tmp_path):
    folder = probed(tmp_path)
    edit(folder, lambda record: record["stability"]["images"].__setitem__(0, 5 * BATCH))
    claims = written(folder)
    assert claims["C-depth-start (constant)"]["verdict"] == "inconclusive" and claims["C-depth (constant)"]["verdict"] == "supported"
    found = content(folder / "report")["stability"]
    assert {row["feature_start"] for row in found["rows"]} == {None} and {g["start"]["exponent"] for g in found["growth"]} == {None}
    assert "at-the-start" not in (folder / "report" / "index.html").read_text()


def test_spikes_are_counted_by_the_plain_mean(tmp_path):
    folder = probed(tmp_path, seeds=(0, 1, 2))

    def spikes(record):
        next(p for p in record["probes"] if p["probe"] == "loss_spikes")["value"] = float(4 ** record["seed"])

    edit(folder, spikes)
    written(folder)
    assert {row["loss_spikes"] for row in content(folder / "report")["stability"]["rows"]} == {7.0}


def test_records_without_blocks_have_no_figure_of_them(tmp_path):
    """As written before blocks were recorded."""
    folder = probed(tmp_path)
    for run in synthetic.runs_of(folder):
        for file in ("events.jsonl", "result.json"):
            if (run / file).is_file():
                (run / file).write_text((run / file).read_text().replace('"blocks"', '"other"'))
    reports.write(tmp_path, "stability", folder / "report", None)
    page = (folder / "report" / "index.html").read_text()
    assert "figure-blocks-" not in page and "figure-norms-" in page


def test_the_page_shows_the_section(report):
    page = (report / "index.html").read_text()
    assert '<section id="stability">' in page
    for name in ("norms", "gradients", "response", "blocks", "shares", "gradient-blocks"):
        assert page.count(f'<figure id="figure-{name}-') == 3
    assert 'id="speedup"' not in page and "#speedup" not in page  # nothing is compared with a target here
    assert 'id="figure-growth-digits-uvit"' in page and 'id="figure-growth-digits-uvit-at-the-start"' in page
    assert all(f'id="table-{name}"' in page for name in ("measured", "probed", "growth", "ranks", "learnt"))
    assert {path.stem for path in (report / "tables").glob("*.md")} >= {"probed", "growth", "ranks", "learnt"}


def test_markdown_has_the_section_and_no_comparison(report):
    text = (report / "report.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert "## Stability" in titles and "## Speedup to target" not in titles and "## A/A" not in titles
    for name in ("norms-digits-uvit-xs", "gates-digits-uvit-xs-inv-sqrt2"):
        assert f"figures/{name}.svg" in text and (report / "figures" / f"{name}.svg").is_file()


def test_a_suite_without_probes_has_no_section(tmp_path):
    folder = probed(tmp_path, probes=False)
    assert stability(read(tmp_path, "stability")) is None
    reports.write(tmp_path, "stability", folder / "report", None)
    page = (folder / "report" / "index.html").read_text()
    assert 'id="stability"' not in page and "without pilots" in page


@pytest.mark.parametrize(("cell", "expected"), [("digits/uvit-xs", "digits/uvit"), ("cifar10/uvit-s-2-deep", "cifar10/uvit"), ("a/unet-xs-n4", "a/unet")])
def test_families(cell, expected):
    assert family(cell) == expected
