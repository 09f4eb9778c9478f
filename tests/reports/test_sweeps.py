"""Two sweeps against each other, a fresh sweep against the reference, other baselines, and the tables of the docs."""

import argparse
import json

import numpy as np
import pytest
import synthetic

import reports
from reports import embed, reference, sweeps
from reports.build import build
from reports.records.suite_records import read

ARMS = {"inv_sqrt2": 1.0, "constant": 1.3}


def sweep(root, name="s", seed=0, **changes):
    return synthetic.suite(root, changes.pop("arms", ARMS), seed=seed, name=name, cells=("digits/uvit-xs",), **changes)


def against(first, second, out):
    page = reports.compare_sweeps(first.parent, first.name, second.parent, second.name, out)
    return page, json.loads((out / "sweeps.json").read_text())


def test_a_sweep_against_itself_is_identical(tmp_path):
    folder = sweep(tmp_path)
    page, found = against(folder, folder, tmp_path / "out")
    assert {row["how"] for row in found["rows"]} == {"identical"} and not any(row["differs"] for row in found["rows"])
    assert len(found["rows"]) == 5 and "5 identical" in page.read_text()  # two arms over their cells, two arms and the null arm in one
    assert all(row["first"]["word"].endswith("at mini scale") for row in found["rows"])


def test_a_rerun_differs_by_noise_only(tmp_path):
    _, found = against(sweep(tmp_path, "a"), sweep(tmp_path, "b", seed=7), tmp_path / "out")
    assert not any(row["differs"] for row in found["rows"]) and {row["how"] for row in found["rows"]} == {"paired by seed", "pooled"}
    assert "Targets differ: digits/uvit-xs (" in found["verdict"]  # their pilots had other noise


def test_a_version_in_which_an_arm_lost_its_speed_differs(tmp_path):
    second = sweep(tmp_path, "b", seed=7, arms={"inv_sqrt2": 1.0, "constant": 0.9})
    _, found = against(sweep(tmp_path, "a"), second, tmp_path / "out")
    rows = {row["method"]: row for row in found["rows"] if row["cell"] != "over cells"}
    assert rows["constant"]["differs"] and not rows["constant"]["same_word"] and not rows["inv_sqrt2"]["differs"]
    assert rows["constant"]["ratio"]["value"] == pytest.approx(0.9 / 1.3, rel=0.1)


def test_conclusions_over_cells_are_compared_too(tmp_path):
    """One cell: over cells is the cell itself. Without common seeds it is Welch's test, pooled as two groups."""
    _, found = against(sweep(tmp_path, "a"), sweep(tmp_path, "b", seed=7), tmp_path / "out")
    rows = {(row["cell"], row["method"]): row for row in found["rows"]}
    over, one = rows["over cells", "constant"], rows["digits/uvit-xs", "constant"]
    assert over["ratio"] == pytest.approx(one["ratio"]) and over["p"] == pytest.approx(one["p"])
    a, b = np.random.default_rng(0).standard_normal((2, 6))
    apart = dict(enumerate(a)), {100 + i: x for i, x in enumerate(2 * b)}
    for mine, other in zip(sweeps._pooled([apart])[:2], sweeps._difference(*apart)[:2], strict=True):
        assert mine == pytest.approx(other) if isinstance(mine, float) else vars(mine) == pytest.approx(vars(other))


def test_a_difference_that_is_the_same_in_every_pair_is_no_noise():
    log = {s: 0.1 * s for s in range(6)}
    ratio, p, how = sweeps._difference(log, {s: x + 0.2 for s, x in log.items()})
    assert p == 0 and how == "paired by seed" and ratio.value == pytest.approx(np.exp(0.2))


def test_without_a_headline_there_is_nothing_to_compare(tmp_path):
    def late(cfg, fid):
        return fid * (9 if cfg["role"] == "paired" and cfg["spec"]["seed"] < 3 else 1)

    _, found = against(sweep(tmp_path, "a", edit=late), sweep(tmp_path, "b"), tmp_path / "out")
    assert {row["how"] for row in found["rows"]} == {"no headline", "too few pairs"} and not any(row["differs"] for row in found["rows"])


def test_sweeps_without_a_common_arm_are_one_line(tmp_path):
    first, second = sweep(tmp_path, "a"), synthetic.suite(tmp_path, {"rezero": 1.0}, name="b", cells=("digits/unet-xs",))
    with pytest.raises(ValueError, match="'a' and 'b' have no cell and method in common"):
        against(first, second, tmp_path / "out")


# Another baseline --------------------------------------------------------------------------------------------------------


def test_another_baseline_turns_the_ratio_over(tmp_path):
    sweep(tmp_path)
    reports.write(tmp_path, "s", tmp_path / "a")
    reports.write(tmp_path, "s", tmp_path / "b", baseline="constant")
    first, second = (json.loads((tmp_path / name / "report.json").read_text()) for name in "ab")
    mine = next(c for c in first["comparisons"] if c["method"] == "constant")
    theirs = next(c for c in second["comparisons"] if c["method"] == "none")
    assert mine["speedup"] * theirs["speedup"] == pytest.approx(1, abs=1e-12) and second["baseline"] == "constant"
    assert first["claims"] and not second["claims"]  # the paper's claims are about its own baseline
    with pytest.raises(ValueError, match="--baseline: 'ls' is no arm of s; choose from none, inv_sqrt2, constant"):
        reports.write(tmp_path, "s", tmp_path / "c", baseline="ls")


# The reference -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A sweep whose report is the reference."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    monkeypatch.setattr(reference.load, "__defaults__", (tmp_path / "reference",))
    folder = sweep(tmp_path / "first")
    reference.save(build(read(folder.parent, "s")), tmp_path / "reference")
    return folder


def test_a_fresh_run_agrees_within_the_prediction_interval(committed, tmp_path):
    sweep(tmp_path / "again", seed=11)
    assert reports.check(tmp_path / "again", "s") == []
    assert reports.agreement(tmp_path / "again", "s") == ([], "3 of 3 speedups within the reference's interval")
    report = build(read(tmp_path / "again", "s"))
    assert report["reference"]["compared"] == 3 and any("reference" in v["text"] for v in report["verdicts"])


def test_a_run_that_found_something_else_does_not(committed, tmp_path):
    sweep(tmp_path / "again", seed=11, arms={"inv_sqrt2": 1.0, "constant": 0.8})
    (line,), counted = reports.agreement(tmp_path / "again", "s")
    assert "constant is at 0.8" in line and "outside the prediction interval" in line and counted.startswith("2 of 3 speedups")


def checked(root, capsys):
    """What `python -m bench check s` returns and prints."""
    from bench.cli import verbs

    code = verbs.check(argparse.Namespace(suite="s", root=root))
    return code, capsys.readouterr().out.splitlines()


def test_a_disagreement_with_the_reference_is_no_failed_gate(committed, tmp_path, capsys):
    sweep(tmp_path / "again", seed=11, arms={"inv_sqrt2": 1.0, "constant": 0.8})
    code, (*_, line, counted, gates) = checked(tmp_path / "again", capsys)
    assert code == 1 and "outside the prediction interval" in line
    assert (counted, gates) == ("2 of 3 speedups within the reference's interval", "all gates passed")


@pytest.mark.parametrize(("changes", "why"), [
    ({"arms": {"inv_sqrt2": 1.0}}, "the reference is of another configuration"),
    ({"edit": lambda cfg, fid: fid * (9 if cfg["role"] == "paired" else 1)}, "no speedup that both have, of 3 pairs or more"),
])
def test_why_nothing_was_compared_is_said(committed, tmp_path, capsys, changes, why):
    sweep(tmp_path / "again", seed=11, **changes)
    code, lines = checked(tmp_path / "again", capsys)
    assert code == 0 and lines[-2:] == [f"not compared with the reference: {why}", "all gates passed"]


def test_check_says_how_many_runs_are_missing(tmp_path, capsys):
    folder = sweep(tmp_path, edit=lambda cfg, fid: None if cfg["label"] == "constant" and cfg["spec"]["seed"] > 3 else fid)
    run = synthetic.find(folder, "constant", 3)
    (run / "result.json").unlink()
    (run / "events.jsonl").write_bytes(b"".join((run / "events.jsonl").read_bytes().splitlines(keepends=True)[:10]))
    code, lines = checked(tmp_path, capsys)
    assert code == 0 and lines[-3:] == ["2 of 27 runs missing, 1 of 27 runs not finished", "not compared with the reference: no reference", "all gates passed"]


def test_tables_of_the_docs_come_from_complete_runs_and_go_stale(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "README.md"
    page.write_text("Before\n<!-- table s speedup -->\nold\n<!-- end -->\n<!-- figure s curves-digits-uvit-xs docs/c.svg -->\n<!-- end -->\nAfter\n")
    assert embed.main(["--check", "README.md"]) == 1
    assert embed.main(["--root", str(tmp_path / "nothing"), "README.md"]) == 0
    assert embed.main(["--check", "README.md"]) == 0
    text = page.read_text()
    assert "digits/uvit-xs" in text and "old" not in text and text.startswith("Before") and text.endswith("After\n")
    page.write_text(text.replace("1.3", "1.4"))
    assert embed.main(["--check", "README.md"]) == 1 and "stale" in capsys.readouterr().out
    page.write_text("<!-- table s nothing -->\n<!-- end -->\n")
    assert embed.main(["README.md"]) == 2 and "choose from" in capsys.readouterr().err


def test_the_tables_of_this_project_are_not_stale():
    from pathlib import Path

    top = Path(__file__).parents[2]
    found = subprocess_check(top)
    assert found.returncode == 0, found.stdout + found.stderr


def subprocess_check(top):
    import subprocess
    import sys

    files = ["README.md", *(str(path.relative_to(top)) for path in sorted((top / "docs").glob("*.md")))]
    return subprocess.run([sys.executable, "-m", "reports.embed", "--check", *files], cwd=top, capture_output=True, text=True)
