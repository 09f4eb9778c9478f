"""The tree of a report: whole, half and odd suites; and that report.json is the tree, with a comment for every key."""

import dataclasses
import json
import math
import re
import typing
from pathlib import Path

import numpy as np
import pytest
import synthetic

import reports
from reports.analysis.findings import resembles
from reports.records.suite_records import read
from reports.report import tree
from reports.report.build import build
from reports.report.sections import table

ROOT = Path(__file__).parents[3]
METHODS = {"inv_sqrt2": 1.0, "constant": 1.3, "learnable(r=4)": 1.5}
ONE = ("digits/uvit-xs",)
COLUMNS = ("status", "images", "final_fid", "seconds", "params", "flops")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return synthetic.built(tmp_path_factory.mktemp("whole"), METHODS)


def pools(report):
    return {pool.method: pool for pool in report.pooled}


def arm(report, method="constant", cell="digits/uvit-xs"):
    return next(one for one in report.comparisons if (one.method, one.cell) == (method, cell))


def never(method, backbone="", seeds=range(6)):
    """An edit that keeps runs of a method from the band."""

    def edit(cfg, fid):
        mine = cfg["role"] == "paired" and cfg["label"] == method and cfg["spec"]["seed"] in seeds
        return fid * 0 + 1000.0 if mine and backbone in cfg["spec"]["backbone"] else fid

    return edit


def test_the_conclusions_are_those_that_were_put_in(whole):
    for method, truth in METHODS.items():
        one = pools(whole)[method].result
        assert one.low <= truth <= one.high and one.level == pytest.approx(1 - 0.05 / 3) == whole.level
        assert len(pools(whole)[method].runs) == 24
    assert [pool.result.verdict for pool in whole.pooled[1:]] == ["faster", "faster"]
    assert whole.pooled[0].result.verdict in ("equivalent", "inconclusive")
    answers = {note.method: note for note in whole.answers}
    assert answers["constant"].verdict == "faster at mini scale" and re.match(
        r"1\.\d\dx \[1\.", answers["constant"].text
    )
    assert (
        "excludes speedups below" in answers["constant"].text
        and "About 1.5x: weaker at mini scale." in answers["constant"].text
    )
    assert not whole.null.failed and whole.banner == "" and whole.failures == []
    assert (
        [one.role for one in whole.comparisons].count("null")
        == [one.role for one in whole.comparisons].count("floor")
        == 2
    )


def test_an_arm_that_never_reaches_the_band_in_one_cell_is_in_the_pooled_number(tmp_path, whole):
    """Version 1 left such a cell out."""
    report = synthetic.built(tmp_path, METHODS, edit=never("constant", "unet"))
    one = pools(report)["constant"].result
    assert one.cells == ("digits/uvit-xs", "digits/unet-xs") and one.censored == (pytest.approx(0, abs=0.1), 1.0)
    assert one.speedup < 0.95 < pools(whole)["constant"].result.speedup and one.verdict != "faster"
    assert "100 % by the arm" in {note.method: note for note in report.answers}["constant"].text


def test_another_baseline_turns_the_ratio_over(tmp_path):
    synthetic.suite(tmp_path, METHODS, cells=ONE)
    found = []
    for baseline in (None, "constant"):
        reports.write(tmp_path, "s", tmp_path / "out", baseline=baseline)
        found.append(tree.decode(tmp_path / "out" / "report.json"))
    mine, theirs = arm(found[0]).result, arm(found[1], "none").result
    for a, b in ((mine.speedup, theirs.speedup), (mine.low, theirs.high), (mine.high, theirs.low)):
        assert a * b == pytest.approx(1, abs=1e-12)
    assert (
        found[1].baseline == "constant" and found[0].claims and not found[1].claims
    )  # they are about the suite's own baseline
    with pytest.raises(ValueError, match="--baseline: 'ls' is no arm of s; choose from none, inv_sqrt2, constant"):
        reports.write(tmp_path, "s", tmp_path / "out", baseline="ls")
    pages = [reports.write(tmp_path, "s", baseline=baseline) for baseline in (None, "constant")]
    assert pages == [tmp_path / "s" / name / "index.html" for name in ("report", "report-over-constant")]


def test_what_is_excluded_is_said_and_not_where_the_budget_was_too_short(tmp_path):
    def short(cfg, fid):
        """Paired runs need 1.6 times as long: of the baseline's nine levels about three are not reached."""
        return fid * 1.6 if cfg["role"] == "paired" else fid

    plain = synthetic.built(tmp_path / "a", {"constant": 1.0}, sigma=0.2)
    assert pools(plain)["constant"].claim == "excluded"
    assert "About 1.5x: excluded at mini scale." in plain.answers[0].text
    cut = synthetic.built(tmp_path / "b", {"constant": 1.0}, sigma=0.2, edit=short)
    assert 0.2 < pools(cut)["constant"].result.censored[0] < 0.6
    assert pools(cut)["constant"].claim == "inconclusive: budget too short"
    assert "About 1.5x: inconclusive: budget too short at mini scale." in cut.answers[0].text


def test_below_the_band_from_the_first_evaluation_on(tmp_path):
    report = synthetic.built(
        tmp_path, {"constant": 1.2}, cells=ONE, edit=lambda cfg, fid: fid / 50 if cfg["label"] == "constant" else fid
    )
    one = arm(report).result
    assert one.below == (0.0, 1.0) and one.reached == (6, 6)
    assert [pair.arm for pair in one.pairs] == pytest.approx([math.log(synthetic.IMAGES[0])] * 6)


def test_a_run_that_diverges_after_crossing_counts_as_not_reaching(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    synthetic.change(
        synthetic.find(folder, "constant", 0), lambda r: r.update(status="diverged", reason="the loss is nan")
    )
    report = build(read(tmp_path, "s"))
    one = arm(report).result
    assert (
        one.diverged == ((), (0,))
        and one.reached == (6, 5)
        and one.pairs[0].arm == pytest.approx(math.log(synthetic.TAU))
    )
    assert report.diverged == [synthetic.find(folder, "constant", 0).name]
    assert any("1 run diverged and count as not reaching the band" in note.text for note in report.notes)
    said = "constant in digits/uvit-xs: These pairs look like simulated ones in which an arm fails in some seeds"
    assert any(note.text.startswith(said) and note.runs for note in report.notes)


def test_three_levels_of_nine(tmp_path):
    """The distance stops between the third level and the fourth."""
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE, sigma=0.0, noise=0.0)
    levels = read(tmp_path, "s").frozen["digits/uvit-xs"]["levels"]
    for seed in range(6):
        least = math.sqrt(levels[2] * levels[3])
        edit = lambda r, least=least: [e.update(fid=max(e["fid"], least)) for e in r["evaluations"]]
        synthetic.change(synthetic.find(folder, "constant", seed), edit)
    one = arm(build(read(tmp_path, "s"))).result
    assert one.censored[1] == pytest.approx(6 / 9) and one.reached[1] == 0
    assert [level.censored for level in one.levels] == [(0, 0)] * 3 + [(0, 6)] * 6


def test_identical_pairs_have_no_variance_and_no_p_value(tmp_path):
    report = synthetic.built(tmp_path, {"constant": 1.2}, cells=ONE, sigma=0.0, noise=0.0)
    one = arm(report).result
    assert (
        one.verdict == "no variance"
        and one.sign_flip_method == "no variance"
        and math.isnan(one.sign_flip)
        and math.isnan(one.low)
    )
    assert (
        pools(report)["constant"].result.verdict == "no variance"
        and report.answers[0].verdict == "no variance at mini scale"
    )
    assert one.speedup == pytest.approx(1.2, rel=1e-3)


def test_one_seed_is_points_only(tmp_path):
    report = synthetic.built(tmp_path, {"constant": 1.2}, n=1, cells=ONE)
    assert arm(report).result.verdict == pools(report)["constant"].result.verdict == "points only"
    assert "nothing is excluded" in report.answers[0].text and "1 pair in 1 cell" in report.answers[0].text


def test_a_missing_run_leaves_its_pair_out_by_name(tmp_path):
    def edit(cfg, fid):
        return None if cfg["label"] == "constant" and cfg["spec"]["seed"] in (2, 4) else fid

    report = synthetic.built(tmp_path, {"constant": 1.2}, cells=ONE, edit=edit)
    assert arm(report).result.missing == (2, 4) and arm(report).result.n == 4 and len(report.missing) == 2
    assert any(
        note.text.startswith("2 of 24 runs are missing: ") and note.runs == report.missing for note in report.notes
    )


def test_runs_that_failed_or_stopped_are_named_with_what_to_do(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    failed, stopped = synthetic.find(folder, "constant", 1), synthetic.find(folder, "constant", 2)
    for run in (failed, stopped):
        (run / "result.json").unlink()
    (failed / "events.jsonl").unlink()
    (failed / "error.json").write_text('{"error": "ValueError: no", "traceback": "..."}')
    lines = (stopped / "events.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "events.jsonl").write_bytes(b"".join(lines[:10]))
    report = build(read(tmp_path, "s"))
    notes = {note.text.partition(":")[0]: note for note in report.notes}
    assert notes["1 of 24 runs failed"].runs == [failed.name] and "error.json" in notes["1 of 24 runs failed"].text
    assert notes["1 of 24 runs stopped"].runs == [stopped.name]
    assert {run.run: run.status for run in report.runs}[failed.name] == "failed"


def test_half_a_suite_is_a_report(tmp_path):
    report = synthetic.built(tmp_path, METHODS, done=0.5)
    assert len(report.missing) > 20 and all(one.result.missing for one in report.comparisons if one.role == "null")
    assert set(reports.load(tmp_path, "s").status) == {"complete", "missing"}


def test_the_verdicts_of_added_arms(tmp_path):
    """Each by its own line; the level counts all arms, and the suite's own report knows nothing of them."""
    folder = synthetic.suite(tmp_path, {"constant": 1.0, "inv_sqrt2": 1.6})
    whole = json.loads((folder / "suite.json").read_text())
    (folder / "arms.json").write_text(json.dumps(whole))
    runs = [run for run in whole["runs"] if run["method"] != "inv_sqrt2"]
    (folder / "suite.json").write_text(json.dumps(whole | {"arms": ["none", "constant"], "runs": runs}))
    (line,) = reports.verdicts(tmp_path, "s", ["inv_sqrt2"])
    assert re.fullmatch(r"inv_sqrt2: 1\.\d\dx \[.*\], faster at mini scale", line)
    page = reports.write(tmp_path, "s", listing="arms.json")
    assert (
        page == folder / "report-arms" / "index.html" and "inv_sqrt2" not in reports.load(tmp_path, "s").method.values
    )


def test_where_a_usable_cell_has_no_pair_no_other_gives_the_number(tmp_path):
    """And what has points in a cell is not called untested."""

    def edit(cfg, fid):
        late = cfg["role"] == "null" or cfg["label"] == "constant"
        return None if late and cfg["spec"]["backbone"] == "unet-xs" else fid

    report = synthetic.built(tmp_path, {"constant": 1.3}, edit=edit)
    (answer,), one = report.answers, pools(report)["constant"]
    assert math.isnan(one.result.speedup) and one.claim == one.result.verdict == "points only"
    assert answer.verdict == "no number over cells" and "no pair in digits/unet-xs" in answer.text
    assert report.notes[0].text.startswith("Null arm not tested: in a usable cell no pair has both runs yet")


def test_a_running_run_counts_as_missing(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    run = synthetic.find(folder, "constant", 0)
    (run / "result.json").unlink()
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    (run / "events.jsonl").write_bytes(b"".join(lines[:10]) + lines[10][:20])
    assert arm(build(read(tmp_path, "s"))).result.missing == (0,)
    assert set(reports.load(tmp_path, "s").status) == {"complete", "stopped"}  # nobody holds it


def test_an_unusable_cell_is_shown_and_in_no_pooled_number(tmp_path):
    def late(cfg, fid):
        slow = cfg["role"] == "pilot" and cfg["spec"]["backbone"] == "unet-xs" and cfg["spec"]["seed"] < 102
        return np.maximum(fid, 160.0) if slow else fid

    report = synthetic.built(tmp_path, {"constant": 1.3}, edit=late)
    cell = report.cells[1]
    assert not cell.band.usable and cell.state.startswith("unusable: 2 of 3 pilots do not reach")
    assert arm(report, cell="digits/unet-xs").result.n == 6 and pools(report)["constant"].result.cells == (
        "digits/uvit-xs",
    )
    assert any("digits/unet-xs is unusable" in note.text for note in report.notes)


def test_where_no_cell_is_usable_the_null_arm_says_so_and_no_pair_is_doubted(tmp_path):
    def late(cfg, fid):
        slow = (cfg["role"] == "pilot" or cfg["label"] == "constant") and cfg["spec"]["seed"] % 100 < 2
        return np.maximum(fid, 160.0) if slow else fid

    report = synthetic.built(tmp_path, {"constant": 1.3}, cells=ONE, edit=late)
    assert report.notes[0].text == "Null arm not tested: no cell is usable."
    assert resembles(arm(report).result) and not any("simulated" in note.text for note in report.notes)


def test_without_frozen_bands_there_are_no_numbers(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    (folder / "protocol.json").unlink()
    report = build(read(tmp_path, "s"))
    assert arm(report).result is None and report.answers[0].verdict == "no number over cells"
    assert report.answers[0].text == "digits/uvit-xs: without a band yet: its pilots are not done."


def test_a_null_arm_that_differs_is_a_banner_that_names_what_it_would_catch(tmp_path):
    report = synthetic.built(
        tmp_path, {"constant": 1.2}, edit=lambda cfg, fid: fid * (1.5 if cfg["role"] == "null" else 1)
    )
    assert report.null.failed and "The null arm failed" in report.banner and pools(report)["constant"].result
    assert f"a bias of {report.null.smallest_bias:.2f}x" in report.banner


def test_three_standard_deviations_stand_side_by_side(whole):
    spreads = {(one.method, one.cell): one for one in whole.spreads}
    assert whole.spreads[0].method == "noise floor" and whole.spreads[-1].method == "null arm"
    floor, own, null = (spreads[name, "all cells"].sd for name in ("noise floor", "constant", "null arm"))
    assert (
        floor.value < own.value
        and floor.value < null.value
        and all(one.low < one.value < one.high for one in (floor, own, null))
    )
    assert spreads["noise floor", "digits/uvit-xs"].pairs == synthetic.FLOORS
    assert not any(one.result.missing for one in whole.comparisons if one.role == "floor")


def test_the_positive_control_finds_a_slowdown(whole):
    found = {float(factor): one for factor, one in whole.controls.items()}
    assert (
        set(found) == {1.2, 1.5} and found[1.5].low <= 1.5 <= found[1.5].high * 1.1 and found[1.5].verdict == "faster"
    )
    assert {one.level for one in found.values()} == {whole.level}  # that of the arms, no easier one


def test_the_positive_control_of_a_suite_with_looks_is_decided_at_its_first(tmp_path):
    records = read(tmp_path, synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE).name)
    looks = build(dataclasses.replace(records, suite=dataclasses.replace(records.suite, looks=(6, 12))))
    assert [one.level for one in looks.controls.values()] == [pytest.approx(1 - 0.35 * 0.05)] * 2
    assert "at 98.2 %, as arms are at the first look" in table(looks, "control").caption


def test_a_trial_says_at_the_top_that_it_concludes_nothing(tmp_path):
    records = read(tmp_path, synthetic.suite(tmp_path, {"constant": 1.2}, n=3, cells=ONE).name)
    report = build(dataclasses.replace(records, suite=dataclasses.replace(records.suite, trial=True)))
    assert report.banner == "Trial: concludes nothing."


def test_nan_distances_leave_their_evaluations_out_and_are_said(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    for seed in range(6):
        synthetic.change(
            synthetic.find(folder, "constant", seed), lambda r: [e.update(fid="nan") for e in r["evaluations"]]
        )
    report = build(read(tmp_path, "s"))
    assert arm(report).result.reached == (6, 0) and math.isnan(report.runs[4].final_fid)
    assert "6 runs with 180 evaluations without a finite distance, left out." in [note.text for note in report.notes]


def level(cfg, fid):
    """Seed 2 is hard for every method, and `constant` has not come to it."""
    missing = cfg["role"] == "paired" and cfg["label"] == "constant" and cfg["spec"]["seed"] == 2
    return None if missing else fid * (1.5 if cfg["spec"]["seed"] == 2 else 1)


def curves(report):
    return {line.method: line for line in report.lines if line.what == "distance"}


@pytest.mark.parametrize("late", ["missing", "running"])
def test_curves_of_a_half_finished_sweep_are_over_the_same_seeds(tmp_path, late):
    """`constant` is slower on every seed; averaged over other seeds than the baseline it would look better."""
    hard = lambda cfg, fid: fid * (1.5 if cfg["spec"]["seed"] == 2 else 1)
    folder = synthetic.suite(tmp_path, {"constant": 0.9}, n=3, cells=ONE, edit=level if late == "missing" else hard)
    if late == "running":
        run = synthetic.find(folder, "constant", 2)
        (run / "result.json").unlink()
        (run / "events.jsonl").write_bytes(b"".join((run / "events.jsonl").read_bytes().splitlines(keepends=True)[:10]))
    lines = curves(build(read(tmp_path, "s")))
    assert all(a > b for a, b in zip(lines["constant"].middle, lines["none"].middle, strict=True))
    assert set(lines["none"].seeds) == set(lines["constant"].seeds) == {2} and len(lines["none"].runs) == 2
    assert lines["none"].name == "none (2 of 3 seeds)" and lines["constant"].name == "constant (2 of 3 seeds)"


def test_curves_without_a_common_seed_are_each_over_their_own(tmp_path):
    def edit(cfg, fid):
        return None if cfg["role"] == "paired" and (cfg["label"] == "none") != (cfg["spec"]["seed"] == 0) else fid

    folder = synthetic.suite(tmp_path, {"constant": 0.9}, n=3, cells=ONE, edit=edit)
    reports.write(tmp_path, "s")
    svg = (folder / "report" / "figures" / "curves-digits-uvit-xs.svg").read_text()
    assert "none (1 of 3 seeds)" in svg and "constant (2 of 3 seeds)" in svg and "not all over the same seeds" in svg


def test_an_evaluation_without_a_number_leaves_its_seed_out_of_every_arm(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 0.9}, n=3, cells=ONE)
    synthetic.change(synthetic.find(folder, "constant", 1), lambda r: r["evaluations"][4].update(fid="nan"))
    lines = curves(build(read(tmp_path, "s")))
    assert lines["none"].seeds == lines["constant"].seeds == [3] * 4 + [2] + [3] * 25


def test_seconds_and_flops_follow_the_pace_of_the_runs(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    for seed in range(6):
        synthetic.change(
            synthetic.find(folder, "constant", seed),
            lambda r: (r.update(seconds=2 * r["seconds"]), r["start"].update(flops=4e6)),
        )
    one = arm(build(read(tmp_path, "s")))
    assert one.seconds.value == pytest.approx(one.result.speedup / 2) and one.flops.value == pytest.approx(
        one.result.speedup / 4
    )
    assert one.images[0] / one.images[1] == pytest.approx(one.result.speedup)
    synthetic.change(synthetic.find(folder, "constant", 3), lambda r: r["start"].update(device_name="Another CPU"))
    other = arm(build(read(tmp_path, "s")))  # seconds of two models are no ratio
    assert math.isnan(other.seconds.value) and other.flops == one.flops and other.result.speedup == one.result.speedup


@pytest.mark.parametrize("moved", [{"device_name": ["A CPU", "Another CPU"]}, {"processes": [1, 4]}])
def test_seconds_of_a_run_that_went_on_elsewhere_are_on_no_axis(tmp_path, moved):
    """Nor those of a run that more devices computed."""
    folder = synthetic.suite(tmp_path, {"constant": 1.2}, cells=ONE)
    for method in ("none", "constant"):
        synthetic.change(synthetic.find(folder, method, 3), lambda r: r.update(computed=moved))
    report = build(read(tmp_path, "s"))
    assert math.isnan(arm(report).seconds.value) and arm(report).result.n == 6
    assert any("processes differs within" in note.text for note in report.notes) == ("processes" in moved)


def test_load_has_a_row_per_run(tmp_path):
    folder = synthetic.suite(tmp_path, METHODS)
    frame = reports.load(tmp_path, "s")
    assert list(frame.columns) == ["run", "dataset", "backbone", "method", "seed", "role", *COLUMNS]
    assert (
        len(frame) == 2 * (3 + 24 + 6 + 3)
        and set(frame.role) == {"pilot", "paired", "null", "floor"}
        and set(frame.status) == {"complete"}
    )
    row = frame[frame.run == synthetic.find(folder, "none", 0).name].iloc[0]
    assert row.final_fid == pytest.approx(100, rel=0.3) and row.params == 10_000


# The tree


def test_report_json_is_the_tree_and_comes_back_as_it_went(whole, tmp_path):
    text = tree.encode(whole)
    (tmp_path / "report.json").write_text(text)
    assert tree.encode(tree.decode(tmp_path / "report.json")) == text
    assert "NaN" not in text and "Infinity" not in text and json.loads(text)["schema"] == tree.SCHEMA
    (tmp_path / "old.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match=r"old.json: schema 2, this reader knows 4; make it again with: make tables"):
        tree.decode(tmp_path / "old.json")


def test_every_key_of_the_tree_has_a_comment():
    text = (ROOT / "reports" / "report" / "tree.py").read_text()
    fields = re.findall(r"^    (\w+): (.*)$", text[: text.index("def speedup(")], re.MULTILINE)
    assert len(fields) > 120 and not [name for name, rest in fields if "  # " not in rest]
    kinds = [one for one in vars(tree).values() if dataclasses.is_dataclass(one) and one.__module__ == tree.__name__]
    assert all(one.__doc__ and not one.__doc__.startswith(one.__name__ + "(") for one in kinds)


def dataclasses_of(hint):
    """A type and all dataclasses that it is made of."""
    if dataclasses.is_dataclass(hint):
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from dataclasses_of(inner)
    for inner in typing.get_args(hint):
        yield from dataclasses_of(inner)


def test_everything_in_the_tree_is_a_documented_dataclass():
    found = set(dataclasses_of(tree.Report))
    assert {"Comparison", "Pooled", "NullTest", "Interval", "Pair", "BandLevel", "Band", "ClaimRow"} <= {
        one.__name__ for one in found
    }
    assert all(one.__doc__ and not one.__doc__.startswith(one.__name__ + "(") for one in found)


def test_every_number_names_the_runs_it_was_made_from(whole):
    listed = {run.run for run in whole.runs}
    for entries in (whole.comparisons, whole.pooled, whole.answers, whole.lines, whole.networks):
        assert entries and all(entry.runs and set(entry.runs) <= listed for entry in entries)
