"""The section on stability: known exponents, responses and correlations, and the claims that read them."""

import json
import math

import numpy as np
import pytest
import synthetic

import reports
from reports.records.suite_records import read
from reports.report import tree
from reports.report.build import build
from reports.report.stability import exponents, family, stability

CELLS = {"digits/uvit-xs": 4, "digits/uvit-xs-d12": 6, "digits/uvit-xs-d16": 8}
ARMS = {
    "none": [1.0, 1.0],
    "inv_sqrt2": [0.5, 0.8],
    "constant(kappa=0.5)": [0.0, 0.5],
    "constant(kappa=0.7)": [0.2, 0.6],
}  # exponent of depth, level
KAPPAS = {
    "none": lambda n: [1.0] * n,
    "inv_sqrt2": lambda n: [2**-0.5] * n,
    "constant(kappa=0.5)": lambda n: [0.5**k for k in range(n)],
    "constant(kappa=0.7)": lambda n: [0.7**k for k in range(n)],
}
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
                synthetic.write_run(
                    folder, cfg, [*log[:-1], *(probe_events(norm, skips, method) if probes else []), log[-1]]
                )
    synthetic.write_suite(
        folder, list(cells), listed, [], arms=list(ARMS), seeds={"paired": list(seeds), "pilots": [], "null": []}
    )
    return folder


def probe_events(norm, skips, method):
    base = {"event": "probe", "images": synthetic.TAU, "time": 3.0}
    norms = [
        base
        | {
            "probe": "norms",
            "images": 1000 * (k + 1),
            "features": [norm * (1 + 0.1 * (k % 2))] * skips,
            "gradient": norm,
        }
        for k in range(POINTS)
    ]
    norms[0] |= {"features": [norm * skips**START] * skips, "images": BATCH}  # the first step
    if method != "none":
        for k, probe in enumerate(norms):
            probe["gates"] = [[0.4, 0.5, 0.6 + 0.1 * k / POINTS]] * skips
    levels = [{"t": t, "random": norm / 2, "worst": norm} for t in (0.1, 0.5, 0.9)]
    values = {
        "feature_norm": norm,
        "feature_oscillation": 0.05 * norm,
        "gradient_oscillation": 0.1 * norm,
        "input_sensitivity": norm,
        "loss_spikes": 0.0,
    }
    blocks = {
        "feature_norm": [norm / (i + 1) for i in range(skips)],
        "feature_oscillation": [0.05 * norm] * skips,
        "gradient_norm": [norm] * (2 * skips + 1),
        "gradient_oscillation": [0.1 * norm] * (2 * skips + 1),
    }
    values |= {
        "gradient_norm": norm,
        "feature_oscillation_relative": 0.05,
        "gradient_oscillation_relative": 0.1,
        "update_ratio": 0.001,
    }
    return [
        *norms,
        base | {"probe": "response", "value": norm, "levels": levels, "shares": [0.5] * skips},
        *(
            base | {"probe": name, "value": value} | ({"blocks": blocks[name]} if name in blocks else {})
            for name, value in values.items()
        ),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = probed(tmp_path_factory.mktemp("stability"))
    reports.write(made.parent, "stability")
    return made


@pytest.fixture(scope="module")
def report(folder):
    return tree.decode(folder / "report" / "report.json")


def judged(folder):
    """The claims by id and method."""
    return {(one.id, one.method): one for one in build(read(folder.parent, folder.name)).claims}


def test_exponents_are_recovered(report):
    found = {one.method: one for one in report.growth}
    for method, (exponent, _) in ARMS.items():
        late, start = (found[method].exponents[key] for key in ("late", "start"))
        assert (
            late.low <= exponent <= late.high
            and late.value == pytest.approx(exponent, abs=0.08)
            and found[method].n == 6
        )
        assert start.low <= exponent + START <= start.high and start.value == pytest.approx(late.value + START)
        lines = [line for line in report.lines if line.what == "growth" and line.method == method]
        assert [line.cell for line in lines] == ["digits/uvit, at the start", "digits/uvit"] and lines[0].x == lines[
            1
        ].x == [4, 6, 8]
    predicted = [round(found[method].predicted, 2) for method in ARMS]
    assert predicted == [0.5, 0.5, 0.0, 0.04]  # of (sum_j kappa_j^2)^(1/2): ln(1.3980 / 1.3594) / ln 2 for 0.7


def forget(run):
    (run / "result.json").unlink()
    (run / "events.jsonl").unlink()


def label(run):
    return json.loads((run / "config.json").read_text())["label"]


def test_an_exponent_needs_every_depth_of_a_seed(tmp_path):
    made = probed(tmp_path)
    [forget(run) for run in synthetic.runs_of(made) if "uvit-xs-d12-none-s1" in run.name]
    assert set(exponents(read(tmp_path, "stability"), "digits/uvit", "none", "late")) == {0, 2, 3, 4, 5}


def test_rows_correlations_and_lines(report):
    row = next(one for one in report.probed if one.cell == "digits/uvit-xs" and one.method == "constant(kappa=0.5)")
    assert (
        row.sum_squares == 1 + 0.25 + 0.0625 + 0.015625
        and row.bound == 1 + 0.5 + 0.25 + 0.125 + 1
        and (row.skips, row.n) == (4, 6)
    )
    assert row.values["feature_oscillation_relative"] == pytest.approx(0.05) and row.values[
        "update_ratio"
    ] == pytest.approx(0.001)
    assert row.largest_spike == 1 and row.spikes == 0
    *cells, mean = report.correlations.items()
    assert mean[0] == "mean" and len(cells) == 3
    for _, rho in cells:
        each = {**rho}.pop("feature_norm_of_each_block")
        assert 0.5 < each < 1 and sorted({*rho.values()} - {each}) == [1.0] and len(rho) == 6
    assert mean[1]["feature_shallowest"] == 1.0 and len(mean[1]) == 6


def lines(report, what, cell="digits/uvit-xs", method="constant(kappa=0.5)"):
    return [line for line in report.lines if (line.what, line.cell, line.method) == (what, cell, method)]


def test_what_the_figures_draw(report):
    (norm,) = lines(report, "feature")  # of each seed 1 and 1.1 in turn: every window has both
    three = list(zip(norm.low, norm.middle, norm.high, strict=True))[1:]
    assert all(low < middle < high and high / low > 1.09 for low, middle, high in three) and len(norm.x) == POINTS
    (blocks,), (gradients,), (shares,) = (lines(report, what) for what in ("blocks", "gradient-blocks", "shares"))
    assert (
        blocks.middle == sorted(blocks.middle, reverse=True)
        and len(gradients.middle) == 9
        and shares.middle == [0.5] * 4
    )
    assert all(low < middle < high for low, middle, high in zip(blocks.low, blocks.middle, blocks.high, strict=True))
    (worst,), (random,) = lines(report, "worst"), lines(report, "random")
    assert worst.x == [0.1, 0.5, 0.9] and all(a > b for a, b in zip(worst.middle, random.middle, strict=True))
    gates = lines(report, "gates", "digits/uvit-xs-d12, inv_sqrt2", "inv_sqrt2")
    assert [line.name for line in gates] == [f"skip {k}" for k in range(1, 7)] and set(gates[0].middle) == {0.5}
    assert gates[0].x[-1] == 1000 * POINTS and 16 <= len(gates[0].x) <= 20 and gates[0].high == sorted(gates[0].high)


def test_claims_have_verdicts_with_intervals(folder):
    claims = judged(folder)
    for name in ("C-features", "C-gradients", "C-robustness", "C-depth", "C-depth-start"):
        for method in ("inv_sqrt2", "constant"):
            claim = claims[name, method]
            assert (
                claim.verdict == "supported"
                and "[" in claim.estimate
                and claim.runs
                and claim.estimate in claim.evidence
            ), claim
    assert "exponent of depth, arm - baseline: -0." in claims["C-depth", "inv_sqrt2"].evidence
    assert claims["C-kappa-features", ""].verdict == "supported"
    assert all(f"kappa {kappa} 0." in claims["C-kappa-features", ""].evidence for kappa in (0.5, 0.7))
    for name in ("C-features-relative", "C-gradients-relative"):  # every arm's band is the same share of its norm
        assert claims[name, "constant"].verdict == "inconclusive"


def test_one_value_that_widens_the_band_contradicts_the_range(tmp_path, monkeypatch):
    monkeypatch.setitem(ARMS, "constant(kappa=0.7)", [1.0, 2.0])
    claims = judged(probed(tmp_path))
    assert (
        claims["C-kappa-features", ""].verdict == "contradicted"
        and claims["C-features", "constant"].verdict == "supported"
    )
    assert claims["C-kappa-features", ""].estimate.startswith("2.0")  # the number that decides


def diverge(folder, method, cell=""):
    for run in synthetic.runs_of(folder):
        if label(run) == method and run.name.startswith(cell):
            synthetic.change(run, lambda r: r.update(status="diverged"))


def test_two_depths_have_a_slope(tmp_path):
    """As in the paper's setting: depth 12 and 16."""
    made = probed(tmp_path, cells={"digits/uvit-xs-d12": 6, "digits/uvit-xs-d16": 8}, wobble=0.005)
    assert judged(made)["C-depth", "constant"].verdict == "supported"
    found = {one.method: one for one in stability(read(tmp_path, "stability"))[1]}
    assert (
        len(found) == len(ARMS)
        and found["none"].exponents["late"].value == pytest.approx(1, abs=0.05)
        and found["none"].n == 6
    )


@pytest.mark.parametrize(("exponent", "verdict"), [(0.0, "supported"), (0.1, "inconclusive"), (0.5, "contradicted")])
def test_boundedness_is_judged_by_the_exponent_of_the_arm_itself(tmp_path, monkeypatch, exponent, verdict):
    monkeypatch.setitem(ARMS, "constant(kappa=0.5)", [exponent, 0.5])
    claims = judged(probed(tmp_path))
    bounded = claims["C-depth-bounded", "constant"]
    assert bounded.verdict == verdict and bounded.evidence.startswith(
        "constant(kappa=0.5): exponent of depth, digits/uvit "
    )
    assert " of " not in bounded.evidence.partition("digits/uvit")[2]
    assert claims["C-depth", "constant"].verdict == "supported"  # slower than without scaling all the same


def test_a_baseline_that_diverged_at_a_depth_is_said(tmp_path):
    made = probed(tmp_path)
    diverge(made, "none", "digits-uvit-xs-d16")
    report = build(read(tmp_path, "stability"))
    claims = {(one.id, one.method): one for one in report.claims}
    assert claims["C-depth", "constant"].verdict == "inconclusive"
    assert claims["C-depth", "constant"].evidence == (
        "constant(kappa=0.5): no number to judge by: no seed with every depth of a family, or a single depth; "
        "6 runs diverged and left out"
    )
    assert claims["C-features", "constant"].evidence.endswith("; 6 runs diverged and left out")
    assert " over 2 of 3 cells, " in claims["C-features", "constant"].evidence
    assert "no pair to judge by in digits/uvit-xs-d16" in claims["C-features", "constant"].evidence
    assert claims["C-features", "constant"].verdict == "inconclusive"  # no cell is left out for what happened in it
    assert (
        claims["C-depth-bounded", "constant"].verdict == "supported"
        and "diverged" not in claims["C-depth-bounded", "constant"].evidence
    )
    assert "6 runs diverged and are left out." in [note.text for note in report.notes]


def test_a_value_whose_runs_all_diverged_leaves_a_range_open(tmp_path):
    made = probed(tmp_path)
    diverge(made, "constant(kappa=0.7)")
    claim = judged(made)["C-kappa-features", ""]
    assert claim.verdict == "inconclusive"
    assert "no number to judge by: kappa 0.7; 18 runs diverged and left out" in claim.evidence


def test_one_depth_has_measures_and_no_growth(tmp_path):
    claims = judged(probed(tmp_path, cells={"digits/uvit-xs": 4}))
    assert claims["C-features", "constant"].verdict == "supported"
    for name in ("C-depth", "C-depth-start", "C-depth-bounded"):
        assert (
            claims[name, "constant"].verdict == "inconclusive" and "a single depth" in claims[name, "constant"].evidence
        )


def test_an_arm_without_its_baseline_is_no_arm_without_runs(tmp_path):
    made = probed(tmp_path)
    [forget(run) for run in synthetic.runs_of(made) if label(run) == "none"]
    claim = judged(made)["C-features", "inv_sqrt2"]
    assert claim.verdict == "inconclusive" and claim.evidence.startswith(
        "no number to judge by: no pair of runs that came to the end"
    )


def test_a_claim_says_how_far_one_pair_moves_it(tmp_path):
    made = probed(tmp_path)
    assert "with any one pair left out" in judged(made)["C-features", "inv_sqrt2"].evidence

    def explode(record):
        next(p for p in record["probes"] if p["probe"] == "feature_oscillation")["value"] *= 100

    synthetic.change(next(run for run in synthetic.runs_of(made) if label(run) == "inv_sqrt2"), explode)
    said = judged(made)["C-features", "inv_sqrt2"].evidence
    low, high = (float(end.removesuffix("x")) for end in said.split(", ")[-1].split(" with")[0].split(" to "))
    assert high / low > 1.25  # 100^(1/18), of 18 pairs


def test_few_seeds_are_preliminary(tmp_path):
    assert judged(probed(tmp_path, seeds=(0, 1, 2)))["C-features", "constant"].verdict == "preliminary"


def test_norms_that_are_not_finite_are_left_out_of_the_lines(tmp_path):
    """A gradient may overflow at a probed step of a run that comes to its end."""
    made = probed(tmp_path)
    for run in (run for run in synthetic.runs_of(made) if label(run) == "inv_sqrt2"):
        synthetic.change(run, lambda record: record["stability"]["gradient"].__setitem__(3, "inf"))
    rows, *_, lines = stability(read(tmp_path, "stability"))
    assert {line.method for line in lines if line.what == "feature"} == set(ARMS) - {"inv_sqrt2"} and len(rows) == 12


def test_arms_of_half_a_sweep_are_compared_over_the_same_seeds(tmp_path):
    made = probed(tmp_path)
    [
        forget(run)
        for run in synthetic.runs_of(made)
        if run.name.startswith("digits-uvit-xs-none-s") and "none-s0" not in run.name
    ]
    rows = [one for one in stability(read(tmp_path, "stability"))[0] if one.cell == "digits/uvit-xs"]
    assert {one.n for one in rows} == {1} and all("-s0-" in one.runs[0] for one in rows)


def test_records_whose_first_step_was_not_probed_have_no_start(tmp_path):
    made = probed(tmp_path)
    for run in synthetic.runs_of(made):
        synthetic.change(run, lambda record: record["stability"]["images"].__setitem__(0, 5 * BATCH))
    claims = judged(made)
    assert (
        claims["C-depth-start", "constant"].verdict == "inconclusive"
        and claims["C-depth", "constant"].verdict == "supported"
    )
    rows, growth, _, lines = stability(read(tmp_path, "stability"))
    assert all(math.isnan(row.values["feature_start"]) for row in rows)
    assert all(math.isnan(one.exponents["start"].value) for one in growth)
    assert not [line for line in lines if "at the start" in line.cell]


def test_spikes_are_counted_by_the_plain_mean(tmp_path):
    made = probed(tmp_path, seeds=(0, 1, 2))

    def spikes(record):
        next(p for p in record["probes"] if p["probe"] == "loss_spikes")["value"] = float(4 ** record["seed"])

    for run in synthetic.runs_of(made):
        synthetic.change(run, spikes)
    assert {row.spikes for row in stability(read(tmp_path, "stability"))[0]} == {7.0}


def test_records_without_blocks_have_no_figure_of_them(tmp_path):
    """As written before blocks were recorded."""
    made = probed(tmp_path)
    for file in (run / name for run in synthetic.runs_of(made) for name in ("events.jsonl", "result.json")):
        file.write_text(file.read_text().replace('"blocks"', '"other"'))
    found = {line.what for line in stability(read(tmp_path, "stability"))[3]}
    assert "blocks" not in found and "feature" in found


def test_the_page_shows_the_section_and_no_comparison(folder):
    page = (folder / "report" / "index.html").read_text()
    assert '<section id="stability">' in page and "A suite of measurements, without pilots" in page
    for name in ("norms", "gradients", "response", "blocks", "shares", "gradient-blocks"):
        assert page.count(f'<figure id="figure-{name}-') == 3
    assert 'id="pairs"' not in page and "#pairs" not in page and "figure-forest" not in page
    assert 'id="figure-growth-digits-uvit"' in page and 'id="figure-growth-digits-uvit-at-the-start"' in page
    assert all(
        f'id="table-{name}"' in page
        for name in ("measured", "probed", "growth", "growth-mean", "correlations", "responses")
    )
    titles = [line for line in (folder / "report" / "report.md").read_text().splitlines() if line.startswith("## ")]
    assert "## Stability" in titles and "## Pair by pair" not in titles and "## The numbers" not in titles
    for name in ("norms-digits-uvit-xs", "gates-digits-uvit-xs-inv-sqrt2"):
        assert (folder / "report" / "figures" / f"{name}.svg").is_file()


def test_a_suite_without_probes_has_no_section(tmp_path):
    made = probed(tmp_path, probes=False)
    assert stability(read(tmp_path, "stability")) == ([], [], {}, [])
    assert 'id="stability"' not in reports.write(tmp_path, made.name).read_text()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("digits/uvit-xs", "digits/uvit"), ("cifar10/uvit-s-2-deep", "cifar10/uvit"), ("a/unet-xs-n4", "a/unet")],
)
def test_families(cell, expected):
    assert family(cell) == expected
