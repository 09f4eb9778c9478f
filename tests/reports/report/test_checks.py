"""Every check fails on what it guards, naming the runs and the field, and its number is withheld."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import synthetic

import reports
from bench.cli.parser import main
from reports.records.suite_records import read
from reports.report.build import build

ARM, NULL, FLOOR = ("constant", 2, "paired"), ("none", 10_002, "null"), ("none", 2, "floor")  # method, seed, role


@pytest.fixture
def folder(tmp_path):
    return synthetic.suite(tmp_path, {"constant": 1.2}, cells=("digits/uvit-xs",))


def find(folder, run):
    return synthetic.find(folder, run[0], run[1], role=run[2])


def test_a_clean_suite_passes(folder):
    assert reports.check(folder.parent, "s") == []


def respecify(result, **changes):
    """Another configuration, and its own hash."""
    result["spec"] |= changes
    canonical = json.dumps(result["spec"], sort_keys=True, separators=(",", ":"))
    result["hash"] = result["start"]["hash"] = hashlib.sha256(canonical.encode()).hexdigest()


def repeat(result):
    result["evaluations"].insert(3, dict(result["evaluations"][2]))


@pytest.mark.parametrize(
    ("run", "edit", "field"),
    [
        (ARM, lambda r: r["start"].update(init_digest="x" * 64), "initial weights: init_digest"),
        (ARM, lambda r: r["start"].update(init_digest=None), "initial weights: init_digest"),
        (ARM, lambda r: r["start"].update(device="cuda"), "device: device"),
        (ARM, lambda r: r["start"].update(data_digest="x" * 64), "data: data_digest"),
        (ARM, lambda r: r["start"].update(extractor_digest="x" * 64), "extractor: extractor_digest"),
        (ARM, lambda r: r["start"].update(beside={"cifar-net": "x" * 64}), "further extractors: beside"),
        (ARM, lambda r: r["start"].update(extractor="inception"), "extractor: extractor"),
        (ARM, lambda r: r["start"].update(reference_digest="x" * 64), "reference: reference_digest"),
        (ARM, lambda r: r["start"].update(protocol=3), "protocol: protocol"),
        (ARM, lambda r: respecify(r, batch=20), "configurations: batch"),
        (
            ARM,
            lambda r: respecify(r, evaluation=r["spec"]["evaluation"] | {"steps": 7}),
            "configurations: evaluation.steps",
        ),
        (ARM, lambda r: r["evaluations"][5].update(draws="other"), "draws: draws up to"),
        (ARM, lambda r: r["evaluations"][0].update(samples=256), "samples: samples"),
        (ARM, repeat, "evaluations: images"),
        (ARM, lambda r: r["evaluations"].pop(), "evaluations: images"),
        (NULL, lambda r: r["start"].update(init_digest=synthetic.digest_of("init", 2, False)), "null arm: init_digest"),
        (NULL, lambda r: r["evaluations"][0].update(draws=synthetic.digest_of("draws", 2, 10_000)), "null arm: draws"),
        (FLOOR, lambda r: r["start"].update(init_change=0.0), "noise floor: init_change"),
        (FLOOR, lambda r: r["start"].update(init_change=1e-3), "noise floor: init_change"),
        (FLOOR, lambda r: r["evaluations"][5].update(draws="other"), "draws: draws up to"),
        (ARM, lambda r: r["spec"].update(batch=20), "identity: hash"),
    ],
)
def test_a_failed_check_names_runs_and_field_and_hides_the_number(folder, run, edit, field):
    where = find(folder, run)
    synthetic.change(where, edit)
    if "configurations" in field:  # as it would be if it had been trained so
        changed, config = (json.loads((where / name).read_text()) for name in ("result.json", "config.json"))
        (where / "config.json").write_text(json.dumps(config | {key: changed[key] for key in ("spec", "hash")}))
    (line, *_) = reports.check(folder.parent, "s")
    assert field in line and where.name in line
    report = build(read(folder.parent, "s"))
    label = {NULL: "null arm", FLOOR: "noise floor"}.get(run, "constant")
    row = next(arm for arm in report.comparisons if arm.method == label)
    assert row.result is None and row.withheld == "check failed: " + field.partition(":")[0]
    assert all(arm.result for arm in report.comparisons if arm.method != label)


def test_a_failed_check_leaves_a_gap_over_cells_instead_of_the_other_cells(tmp_path):
    folder = synthetic.suite(tmp_path, {"constant": 1.2, "rezero": 1.2})
    synthetic.change(find(folder, ARM), lambda r: r["start"].update(device="cuda"))
    pools = {pool.method: pool for pool in build(read(tmp_path, "s")).pooled}
    assert pools["constant"].result is None and pools["constant"].withheld == "digits/uvit-xs: check failed: device"
    assert pools["rezero"].result.cells == ("digits/uvit-xs", "digits/unet-xs")


def test_processes_that_differ_within_a_pair_are_said_and_no_failure(folder):
    synthetic.change(find(folder, ARM), lambda r: r["start"].update(processes=2))
    assert reports.check(folder.parent, "s") == []
    report = build(read(folder.parent, "s"))
    assert any(note.text == "digits/uvit-xs: processes differs within 1 of 15 pairs." for note in report.notes)
    assert report.comparisons[0].result


@pytest.mark.parametrize(
    ("scale", "more", "refused"), [("mini", {}, True), ("mini", {"trial": True}, False), ("full", {}, False)]
)
def test_a_miniature_cell_must_have_fallen_to_a_third(tmp_path, scale, more, refused):
    """Each cell, whatever the number of seeds; not one of a trial, nor where a tenth of the budget is a long way."""

    def edit(cfg, fid):
        return np.geomspace(100, 40 if cfg["spec"]["backbone"] == "unet-xs" else 30, len(fid))

    folder = synthetic.suite(tmp_path, {"constant": 1.0}, n=3, edit=edit, scale=scale)
    path = folder / "suite.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    said = "digits/unet-xs: progress: the distance at the end is 0.40 of that after a tenth of the budget"
    assert said in reports.progress(tmp_path, "s") and len(reports.progress(tmp_path, "s")) == 2
    found = [line for line in reports.check(tmp_path, "s") if "progress" in line]
    assert found == ([f"{said}; more than a third is too small a suite"] if refused else [])


def test_a_last_distance_that_is_not_finite_hides_no_progress(tmp_path):
    """The other baselines tell it, and that one is left out is said."""

    def edit(cfg, fid):
        one = cfg["role"] == "paired" and cfg["label"] == "none" and cfg["spec"]["seed"] == 0
        return np.append(np.geomspace(100, 40, len(fid) - 1), np.nan if one else 40.0)

    synthetic.suite(tmp_path, {"constant": 1.0}, n=3, edit=edit, cells=("digits/uvit-xs",))
    left_out = "digits/uvit-xs: progress: 1 baseline left out, without a finite distance"
    assert reports.progress(tmp_path, "s")[1] == left_out and "is 0.40 of that" in reports.progress(tmp_path, "s")[0]
    assert any("more than a third" in line for line in reports.check(tmp_path, "s"))
    assert any(note.text.startswith(left_out) for note in build(read(tmp_path, "s")).notes)


def test_a_failed_check_keeps_an_arm_out_of_the_curves(folder):
    synthetic.change(find(folder, ARM), lambda r: [e.update(samples=256) for e in r["evaluations"]])
    page = reports.write(folder.parent, "s")
    svg = (page.parent / "figures" / "curves-digits-uvit-xs.svg").read_text()
    assert "not drawn, a check failed: constant" in svg and "constant" not in svg.replace(
        "not drawn, a check failed: constant", ""
    )
    assert "check failed: samples" in page.read_text() and find(folder, ARM).name in page.read_text()


def test_a_run_without_a_result_is_named_with_its_state(folder):
    names = [find(folder, ("constant", seed, "paired")) for seed in (0, 1, 2)]
    for run in names:
        (run / "result.json").unlink()
    (names[0] / "error.json").write_text('{"error": "ValueError: no"}')
    (names[1] / "events.jsonl").unlink()
    found = {run.name: state for run, state in zip(names, ("failed", "missing", "stopped"), strict=True)}
    assert reports.unfinished(folder.parent, "s") == found


def test_check_and_report_say_which_run_failed_why_and_where_its_traceback_is(folder, capsys):
    run, where = find(folder, ARM), ["s", "--root", str(folder.parent)]
    (run / "result.json").unlink()
    assert main(["check", *where]) == 0  # stopped; it may be resumed
    said = capsys.readouterr().out
    assert f"{run.name}: stopped\n" in said
    assert said.endswith("\nthe checks that could be made passed; 1 of 24 runs stopped\n")
    (run / "error.json").write_text('{"error": "ValueError: no"}')
    told = f"{run.name}: failed: ValueError: no; its traceback is in {run / 'error.json'}\n"
    for words in (where, [str(run)]):
        assert main(["check", *words]) == 1
        said = capsys.readouterr().out
        assert told in said and said.endswith("\n1 run and 0 checks failed\n") and "passed" not in said
    assert main(["report", *where]) == 0
    said = capsys.readouterr()
    assert said.err == told and said.out.startswith("report: ")


def test_where_all_that_began_failed_check_and_report_end_with_1(folder, capsys):
    where = ["s", "--root", str(folder.parent)]
    for run in folder.glob("*/result.json"):
        shutil.rmtree(run.parent)
    assert main(["report", *where]) == 2 and "has no run in" in capsys.readouterr().err
    find(folder, ARM).mkdir()
    (find(folder, ARM) / "error.json").write_text('{"error": "ValueError: no"}')
    for verb in ("check", "report"):
        assert main([verb, *where]) == 1
        said = "".join(capsys.readouterr())
        assert (
            "failed: ValueError: no; its traceback is in " in said and "passed" not in said and "start it" not in said
        )


@pytest.mark.parametrize("key", ["extractor_digest", "resize", "data_digest", "reference_size", "protocol"])
def test_a_pilot_that_differs_hides_every_arm_of_its_cell(folder, key):
    """The band is read from it."""
    synthetic.change(synthetic.find(folder, "none", 100), lambda r: r["start"].update({key: "another"}))
    report = build(read(folder.parent, "s"))
    assert all(arm.withheld.startswith("check failed") for arm in report.comparisons)
    assert {failure.field for failure in report.failures} == {key}


def test_the_learning_rate_may_differ_as_the_label_says_and_no_further(folder):
    assert reports.check(synthetic.suite(folder.parent, {"constant @ lr 2": 1.2}, name="rates").parent, "rates") == []
    for method, rate in (("constant @ lr 2", 1e-3), ("none", 2e-3)):
        run = synthetic.find(folder.parent / "rates", method, 1)
        kept = {path: path.read_text() for path in (run / "config.json", run / "result.json")}
        synthetic.change(run, lambda r, rate=rate: respecify(r, optimizer={"lr": rate}))
        (run / "config.json").unlink()
        assert "configurations: optimizer.lr" in "".join(reports.check(folder.parent, "rates"))
        for path, text in kept.items():
            path.write_text(text)


def test_one_seed_in_two_roles_fails(folder):
    suite = json.loads((folder / "suite.json").read_text())
    where = find(folder, NULL)
    next(e for e in suite["runs"] if e["run"] == where.name)["seed"] = 2
    (folder / "suite.json").write_text(json.dumps(suite))
    synthetic.change(where, lambda r: r.update(seed=2))
    assert any("seed: 2 is used twice" in line for line in reports.check(folder.parent, "s"))
