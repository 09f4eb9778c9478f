"""Two sweeps against each other, a fresh sweep against the reference, and the tables of the docs."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
from PIL import Image

import reports
from reports.records.suite_records import read
from reports.report import embed, reference, sweeps
from reports.report.build import build

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
    assert (
        len(found["rows"]) == 5 and "5 identical" in page.read_text()
    )  # two arms over cells, two arms and the null arm in one
    assert all(word.endswith("at mini scale") for row in found["rows"] for word in row["words"])
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html",
        *(f"sweeps.{form}" for form in ("md", "csv", "tex", "json")),
    }


def test_a_rerun_differs_by_noise_only(tmp_path):
    _, found = against(sweep(tmp_path, "a"), sweep(tmp_path, "b", seed=7), tmp_path / "out")
    assert not any(row["differs"] for row in found["rows"]) and {row["how"] for row in found["rows"]} == {
        "paired by seed"
    }
    assert "Target bands differ: digits/uvit-xs." in found["verdict"]  # their pilots had other noise


def test_a_version_in_which_an_arm_lost_its_speed_differs(tmp_path):
    second = sweep(tmp_path, "b", seed=7, arms={"inv_sqrt2": 1.0, "constant": 0.9})
    _, found = against(sweep(tmp_path, "a"), second, tmp_path / "out")
    rows = {row["method"]: row for row in found["rows"] if row["cell"] != "all cells"}
    assert (
        rows["constant"]["differs"]
        and rows["constant"]["words"][0] != rows["constant"]["words"][1]
        and not rows["inv_sqrt2"]["differs"]
    )
    assert rows["constant"]["ratio"]["value"] == pytest.approx(0.9 / 1.3, rel=0.1)


def test_one_cell_over_cells_is_the_cell_and_without_common_seeds_it_is_welch(tmp_path):
    _, found = against(sweep(tmp_path, "a"), sweep(tmp_path, "b", seed=7), tmp_path / "out")
    rows = {(row["cell"], row["method"]): row for row in found["rows"]}
    assert rows["all cells", "constant"]["ratio"] == pytest.approx(rows["digits/uvit-xs", "constant"]["ratio"])
    from scipy import stats

    a, b = np.random.default_rng(0).standard_normal((2, 6))
    ratio, how = sweeps.difference([(dict(enumerate(a)), {100 + i: x for i, x in enumerate(b)})], 0.05)
    known = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert how == "Welch" and np.log([ratio.low, ratio.high]) == pytest.approx([known.low, known.high])


def test_a_difference_that_is_the_same_in_every_pair_is_no_noise():
    log = {s: 0.1 * s for s in range(6)}
    ratio, how = sweeps.difference([(log, {s: x + 0.2 for s, x in log.items()})], 0.05)
    assert how == "paired by seed" and ratio.value == ratio.low == ratio.high == pytest.approx(np.exp(0.2))


def test_with_too_few_pairs_there_is_nothing_to_compare(tmp_path):
    _, found = against(sweep(tmp_path, "a", n=2), sweep(tmp_path, "b"), tmp_path / "out")
    assert {row["how"] for row in found["rows"]} == {"too few pairs"} and not any(
        row["differs"] for row in found["rows"]
    )


def test_sweeps_without_a_common_arm_are_one_line(tmp_path):
    first, second = (
        sweep(tmp_path, "a"),
        synthetic.suite(tmp_path, {"rezero": 1.0}, name="b", cells=("digits/unet-xs",)),
    )
    with pytest.raises(ValueError, match="'a' and 'b' have no cell and method in common"):
        against(first, second, tmp_path / "out")


def test_sweeps_without_a_common_cell_are_one_line(tmp_path):
    """Both have the method over all their cells, which are not the same."""
    first, second = (
        synthetic.suite(tmp_path, {"constant": 1.2}, name=name, cells=(cell,))
        for name, cell in (("a", "digits/uvit-xs"), ("b", "shapes/uvit-xs-class"))
    )
    with pytest.raises(ValueError, match="'a' and 'b' have no cell and method in common"):
        against(first, second, tmp_path / "out")


# The reference


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A sweep whose report is the reference."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    folder = sweep(tmp_path / "first")
    reference.save(build(read(folder.parent, "s")))
    return folder


def test_a_fresh_run_agrees_within_the_prediction_interval(committed, tmp_path):
    sweep(tmp_path / "again", seed=11)
    assert reports.check(tmp_path / "again", "s") == []
    assert reports.agreement(tmp_path / "again", "s") == ([], "3 of 3 speedups within the reference's interval")
    assert build(read(tmp_path / "again", "s")).reference.compared == 3


def test_a_run_that_found_something_else_does_not(committed, tmp_path):
    sweep(tmp_path / "again", seed=11, arms={"inv_sqrt2": 1.0, "constant": 0.8})
    (line,), counted = reports.agreement(tmp_path / "again", "s")
    assert (
        "constant is at 0.8" in line
        and "outside the prediction interval" in line
        and counted.startswith("2 of 3 speedups")
    )
    assert any("outside the prediction interval" in note.text for note in build(read(tmp_path / "again", "s")).notes)
    assert reports.check(tmp_path / "again", "s") == []  # it is no failed check


def test_a_reference_of_other_data_is_called_so(committed, tmp_path):
    (told,) = (tmp_path / "reference").iterdir()
    content = json.loads(told.read_text())
    told.write_text(json.dumps(content | {"made": content["made"] | {"data": "0123456789ab"}}))
    outside, counted = reports.agreement(tmp_path / "first", "s")
    assert not outside and "; the reference was trained on other data: 0123456789ab, here " in counted
    here = reference.load("s").made | {"data": f"0123456789ab; {build(read(tmp_path / 'first', 's')).made['data']}"}
    told.write_text(json.dumps(content | {"made": here}))  # the sweep has only one of its two datasets
    assert reports.agreement(tmp_path / "first", "s") == ([], "3 of 3 speedups within the reference's interval")


def test_a_reference_of_another_configuration_is_refused(committed, tmp_path):
    """What has lines here ends `check` with exit code 1."""
    sweep(tmp_path / "again", seed=11, arms={"inv_sqrt2": 1.0})
    (line,), counted = reports.agreement(tmp_path / "again", "s")
    assert (
        line == "reference: the committed reference is of another configuration; make it again with: make tables"
        and counted == ""
    )


def test_a_reference_of_an_older_schema_is_refused_and_the_report_is_written(committed, tmp_path):
    (tmp_path / "reference" / "s.json").write_text('{"schema": 2}')
    (line,), _ = reports.agreement(tmp_path / "first", "s")
    assert "schema 2, this reader knows 4" in line and reports.write(tmp_path / "first", "s").is_file()


@pytest.mark.parametrize(
    ("name", "n", "why"), [("other", 6, "no reference"), ("s", 2, "no speedup that both have, of 3 pairs or more")]
)
def test_why_nothing_was_compared_is_said(tmp_path, monkeypatch, name, n, why):
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    folder = sweep(tmp_path / "first", n=n)
    reference.save(build(read(folder.parent, "s")))
    sweep(tmp_path / "again", name, seed=11, n=n)
    assert reports.agreement(tmp_path / "again", name) == ([], f"not compared with the reference: {why}")


def test_missing_says_how_many_runs_are_not_there(tmp_path):
    folder = sweep(
        tmp_path, edit=lambda cfg, fid: None if cfg["label"] == "constant" and cfg["spec"]["seed"] > 3 else fid
    )
    run = synthetic.find(folder, "constant", 3)
    (run / "result.json").unlink()
    (run / "events.jsonl").write_bytes(b"".join((run / "events.jsonl").read_bytes().splitlines(keepends=True)[:10]))
    assert reports.missing(tmp_path, "s") == "1 of 30 runs stopped, 2 of 30 runs missing"
    assert reports.missing(sweep(tmp_path / "whole").parent, "s") == ""


# The docs


def test_tables_of_the_docs_come_from_complete_runs_and_go_stale(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "README.md"
    page.write_text(
        "Before\n<!-- table s speedup -->\nold\n<!-- end -->\n"
        "<!-- figure s curves-digits-uvit-xs docs/c.svg -->\n<!-- end -->\nAfter\n"
    )
    assert embed.main(["--check", "README.md"]) == 1
    assert embed.main(["--root", str(tmp_path / "nothing"), "README.md"]) == 0
    assert embed.main(["--check", "README.md"]) == 0
    text = page.read_text()
    assert "digits/uvit-xs" in text and "old" not in text and text.startswith("Before") and text.endswith("After\n")
    assert "![curves digits/uvit-xs](docs/c.svg)" in text and (tmp_path / "docs" / "c.svg").read_text().startswith(
        "<svg"
    )
    page.write_text(text.replace("constant", "another"))
    assert embed.main(["--check", "README.md"]) == 1 and "stale" in capsys.readouterr().out
    page.write_text("<!-- table s nothing -->\n<!-- end -->\n")
    assert embed.main(["README.md"]) == 2 and "choose from" in capsys.readouterr().err


def test_a_table_of_several_suites_says_which_unless_it_says_the_cell(tmp_path):
    built = {name: build(read(tmp_path, sweep(tmp_path, name).name)) for name in ("a", "b")}
    one = embed.joined(["a", "b"], "pooled", built.__getitem__)
    assert one.header[:2] == ["suite", "method"] and [row[0] for row in one.rows] == ["a", "a", "b", "b"]
    assert embed.joined(["a", "b"], "speedup", built.__getitem__).header[0] == "cell"
    assert embed.joined(["a"], "pooled", built.__getitem__).header[0] == "method"
    built["b"] = build(read(tmp_path, sweep(tmp_path, "b", arms={"constant": 1.3}).name))  # another level
    with pytest.raises(ValueError, match="another caption in a than in another of a, b"):
        embed.joined(["a", "b"], "pooled", built.__getitem__)


def test_samples_come_from_complete_runs_and_stay_without_them(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page, picture = tmp_path / "docs" / "page.md", tmp_path / "docs" / "s.png"
    page.parent.mkdir()
    page.write_text("<!-- samples s docs/s.png -->\n<!-- end -->\n")
    assert embed.main(["docs/page.md"]) == 2 and "'docs/s.png' is not there" in capsys.readouterr().err
    folder = sweep(tmp_path / "again")
    for method in ("none", "constant"):
        synthetic.grid(synthetic.find(folder, method, 0))
    assert embed.main(["--root", str(tmp_path / "again"), "docs/page.md"]) == 0
    with Image.open(picture) as drawn:  # a column for each of three arms, the second without samples
        columns = np.asarray(drawn.convert("L"))[50, [50, drawn.width // 2, drawn.width - 50]]
        assert drawn.width > 3 * 200 > drawn.height and columns[1] == 255 > max(columns[0], columns[2])
    before = picture.read_bytes()
    assert embed.main(["docs/page.md"]) == embed.main(["--check", "docs/page.md"]) == 0
    assert picture.read_bytes() == before and "Columns: none, inv_sqrt2, constant." in page.read_text()


def test_complete_runs_become_the_reference_and_half_ones_do_not(committed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("<!-- table s pooled -->\n<!-- end -->\n")
    before = (tmp_path / "reference" / "s.json").read_bytes()
    for done, same in ((0.5, True), (1.0, False)):
        sweep(tmp_path / f"again-{done}", seed=11, done=done)
        assert embed.main(["--root", str(tmp_path / f"again-{done}"), "README.md"]) == 0
        assert ((tmp_path / "reference" / "s.json").read_bytes() == before) is same
    assert "constant" in (tmp_path / "README.md").read_text()


def test_a_table_wider_than_a_page_of_text_is_refused(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("<!-- table s claims -->\n<!-- end -->\n")
    assert embed.main(["README.md"]) == 2 and "characters wide, more than 125" in capsys.readouterr().err


def test_the_tables_of_this_project_are_not_stale(monkeypatch, capsys):
    top = Path(__file__).parents[3]
    monkeypatch.chdir(top)
    assert (
        embed.main(
            ["--check", "README.md", *(str(path.relative_to(top)) for path in sorted((top / "docs").glob("*.md")))]
        )
        == 0
    ), capsys.readouterr()
