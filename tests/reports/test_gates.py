"""Every gate fails on what it guards, naming the runs and the field, and its number is withheld."""

import hashlib
import json

import numpy as np
import pytest
import synthetic

import reports
from reports.build import build
from reports.records.suite_records import read as records


@pytest.fixture
def folder(tmp_path):
    return synthetic.suite(tmp_path, {"constant": 1.2}, cells=("digits/uvit-xs",))


ARM, NULL = ("constant", 2), ("none", 10_002)  # method and seed


def test_a_clean_suite_passes(folder):
    assert reports.check(folder.parent, "s") == []


def respecify(result, **changes):
    """Another configuration, and its own hash."""
    result["spec"] |= changes
    canonical = json.dumps(result["spec"], sort_keys=True, separators=(",", ":"))
    result["hash"] = result["start"]["hash"] = hashlib.sha256(canonical.encode()).hexdigest()


def repeat(result):
    result["evaluations"].insert(3, dict(result["evaluations"][2]))


@pytest.mark.parametrize(("run", "edit", "field"), [
    (ARM, lambda r: r["start"].update(init_digest="x" * 64), "initial weights: init_digest"),
    (ARM, lambda r: r["start"].update(init_digest=None), "initial weights: init_digest"),
    (ARM, lambda r: r["start"].update(device="cuda"), "device: device"),
    (ARM, lambda r: r["start"].update(data_digest="x" * 64), "data: data_digest"),
    (ARM, lambda r: r["start"].update(extractor_digest="x" * 64), "extractor: extractor_digest"),
    (ARM, lambda r: r["start"].update(extractor="inception"), "extractor: extractor"),
    (ARM, lambda r: r["start"].update(reference_digest="x" * 64), "reference: reference_digest"),
    (ARM, lambda r: r["start"].update(protocol=2), "protocol: protocol"),
    (ARM, lambda r: respecify(r, batch=20), "configurations: batch"),
    (ARM, lambda r: respecify(r, evaluation=r["spec"]["evaluation"] | {"steps": 7}), "configurations: evaluation.steps"),
    (ARM, lambda r: r["evaluations"][5].update(draws="other"), "draws: draws up to"),
    (ARM, lambda r: r["evaluations"][0].update(samples=256), "samples: samples"),
    (ARM, repeat, "evaluations: images"),
    (ARM, lambda r: r["evaluations"].pop(), "evaluations: images"),
    (NULL, lambda r: r["start"].update(init_digest=synthetic.digest_of("init", 2)), "null arm: init_digest"),
    (ARM, lambda r: r["spec"].update(batch=20), "identity: hash"),
])
def test_a_failed_gate_names_runs_and_field_and_hides_the_number(folder, run, edit, field):
    role, where = run, synthetic.find(folder, *run)
    run = where.name
    synthetic.change(where, edit)
    if "configurations" in field:  # as it would be if it had been trained so
        changed = json.loads((where / "result.json").read_text())
        config = json.loads((where / "config.json").read_text())
        (where / "config.json").write_text(json.dumps(config | {key: changed[key] for key in ("spec", "hash")}))
    (line, *_) = reports.check(folder.parent, "s")
    assert field in line and run in line
    row = next(c for c in build(records(folder.parent, "s"))["comparisons"] if c["method"] == ("A/A" if role == NULL else "constant"))
    assert row["withheld"].startswith("gate failed: " + field.partition(":")[0])


@pytest.mark.parametrize(("scale", "more", "refused"), [("mini", {}, True), ("mini", {"trial": True}, False), ("full", {}, False)])
def test_a_miniature_cell_must_have_fallen_to_a_third(tmp_path, scale, more, refused):
    """Each cell of it, whatever the number of seeds; not one of a trial, and not where a tenth of the budget is a long way."""
    def edit(cfg, fid):
        return np.geomspace(100, 40 if cfg["spec"]["backbone"] == "unet-xs" else 30, len(fid))

    folder = synthetic.suite(tmp_path, {"constant": 1.0}, n=3, edit=edit, scale=scale)
    path = folder / "suite.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    said = "digits/unet-xs: progress: the distance at the end is 0.40 of that after a tenth of the budget"
    assert said in reports.progress(tmp_path, "s") and len(reports.progress(tmp_path, "s")) == 2
    found = [line for line in reports.check(tmp_path, "s") if "progress" in line]
    assert found == ([f"{said}; more than a third is too small a suite"] if refused else [])


def test_a_failed_gate_keeps_an_arm_out_of_the_curves_and_the_profile(folder):
    before = build(records(folder.parent, "s"))
    assert before["profile"]
    synthetic.change(synthetic.find(folder, *ARM), lambda r: [e.update(samples=256) for e in r["evaluations"]])
    page = reports.write(folder.parent, "s")
    report = json.loads((page.parent / "report.json").read_text())
    band = next(b for b in report["curves"] if b["method"] == "constant")
    assert synthetic.find(folder, *ARM).name not in band["runs"] and len(band["runs"]) == 5  # another sample count shares no curve
    assert report["profile"] == [] and "constant" not in {p["method"] for p in report["pooled"] if p["cells"]}
    svg = (page.parent / "figures" / "curves-digits-uvit-xs.svg").read_text()
    assert "Not drawn (gate failed: samples): constant" in svg and "constant at" not in svg and "constant, seed" not in svg
    assert "gate failed: samples" in page.read_text() and report["failures"][0]["runs"][0] in page.read_text()


@pytest.mark.parametrize("key", ["extractor_digest", "resize", "data_digest", "reference_size", "protocol"])
def test_a_pilot_that_differs_hides_every_arm_of_its_cell(folder, key):
    """The target is read from it."""
    synthetic.change(synthetic.find(folder, "none", 100), lambda r: r["start"].update({key: "another"}))
    report = build(records(folder.parent, "s"))
    assert all(c["withheld"].startswith("gate failed") for c in report["comparisons"]) and {f["field"] for f in report["failures"]} == {key}


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
    where = synthetic.find(folder, *NULL)
    entry = next(e for e in suite["runs"] if e["run"] == where.name)
    entry["seed"] = 2
    (folder / "suite.json").write_text(json.dumps(suite))
    synthetic.change(where, lambda r: r.update(seed=2))
    assert any("seed: 2 is used twice" in line for line in reports.check(folder.parent, "s"))
