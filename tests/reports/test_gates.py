"""Every gate fails on what it guards, naming the runs and the field, and its number is withheld."""

import json

import pytest
import synthetic

import reports
from reports.build import build
from reports.reading import records


def change(folder, run, edit):
    """Edit the result of a run, as if it had been recorded so."""
    path = folder / run / "result.json"
    result = json.loads(path.read_text())
    edit(result)
    path.write_text(json.dumps(result))


@pytest.fixture
def folder(tmp_path):
    return synthetic.suite(tmp_path, {"constant": 1.2}, backbones=("uvit-xs",))


ARM, BASE, NULL = "digits-uvit-xs-constant-paired-s2", "digits-uvit-xs-none-paired-s2", "digits-uvit-xs-none-null-s10002"


def test_a_clean_suite_passes(folder):
    assert reports.check(folder.parent, "s") == []


def repeat(result):
    result["evaluations"].insert(3, dict(result["evaluations"][2]))


@pytest.mark.parametrize(("run", "edit", "field"), [
    (ARM, lambda r: r["start"].update(init_digest="x" * 64), "initial backbone weights"),
    (ARM, lambda r: r["start"].update(init_digest=None), "initial backbone weights"),
    (ARM, lambda r: r["start"].update(device="cuda"), "device type"),
    (ARM, lambda r: r["start"].update(data_digest="x" * 64), "data"),
    (ARM, lambda r: r["start"].update(extractor_digest="x" * 64), "extractor weights"),
    (ARM, lambda r: r["start"].update(extractor="inception"), "extractor"),
    (ARM, lambda r: r["start"].update(reference_digest="x" * 64), "reference statistics"),
    (ARM, lambda r: r["start"].update(protocol=2), "protocol version"),
    (ARM, lambda r: r["spec"].update(batch=20), "configuration batch"),
    (ARM, lambda r: r["spec"]["evaluation"].update(steps=7), "configuration evaluation"),
    (ARM, lambda r: r["evaluations"][5].update(draws="other"), "drawn batches"),
    (ARM, lambda r: r["evaluations"][0].update(samples=256), "samples and NFE"),
    (ARM, repeat, "evaluations"),
    (ARM, lambda r: r["evaluations"].pop(), "evaluations"),
    (NULL, lambda r: r["start"].update(init_digest=f"{2:064x}"), "initial backbone weights"),
])
def test_a_failed_gate_names_runs_and_field_and_hides_the_number(folder, run, edit, field):
    change(folder, run, edit)
    (line, *_) = reports.check(folder.parent, "s")
    assert field in line and run in line
    row = next(c for c in build(records(folder.parent, "s"))["comparisons"] if c["method"] == ("A/A" if run == NULL else "constant"))
    assert row["withheld"].startswith(f"gate failed: {field}")


def test_one_seed_in_two_roles_fails(folder):
    suite = json.loads((folder / "suite.json").read_text())
    entry = next(e for e in suite["runs"] if e["run"] == NULL)
    entry["seed"] = 2
    (folder / "suite.json").write_text(json.dumps(suite))
    change(folder, NULL, lambda r: r.update(seed=2))
    assert any("seed: 2 is used twice" in line for line in reports.check(folder.parent, "s"))
