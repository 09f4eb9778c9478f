"""Arms that are added to a suite on the command line: trained beside its own, in a report of their own."""

import json

import pytest

from bench.cli import parser as cli

ARM = "constant(kappa=0.7)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A suite with its report, and then with two arms added, one after the other."""
    import yaml
    from tiny_suite import TINY

    folder = tmp_path_factory.mktemp("arms")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"budget": 320}))
    where = ["--root", str(folder / "runs"), "--data", str(data)]
    run = ["run", str(folder / "tiny.yaml"), *where, "--sync-every", "0"]
    assert cli.main(run) == 0 and cli.main(["report", "tiny", *where]) == 0
    own = {path: path.read_bytes() for path in (folder / "runs" / "tiny").rglob("*") if path.is_file()}
    assert cli.main([*run, "--arm", ARM]) == 0
    assert cli.main([*run, "--arm", "inv_sqrt2", "--arm", "constant(kappa=0.7, index='level')"]) == 0
    return folder / "runs" / "tiny", own, run


def test_what_was_there_is_untouched(trained):
    """Weights, results, listing and report of the suite's own arms: nothing is trained twice."""
    folder, own, _ = trained
    assert all(path.read_bytes() == content for path, content in own.items())
    runs = json.loads((folder / "arms.json").read_text())["runs"]
    assert len(runs) == len(json.loads((folder / "suite.json").read_text())["runs"]) + 6
    assert all((folder / run["run"] / "result.json").is_file() for run in runs)


def test_check_and_report_see_them(trained, capsys):
    """An added arm that lacks a run is named, may be the baseline of a report, and is renewed with the suite's own."""
    folder, _, _ = trained
    where = ["--root", str(folder.parent)]
    own, more = (folder / name / "index.html" for name in ("report", "report-arms"))
    assert cli.main(["report", "tiny", *where]) == 0 and capsys.readouterr().out == f"report: {own}\nreport: {more}\n"
    assert cli.main(["report", "tiny", *where, "--baseline", "inv_sqrt2"]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report-arms-over-inv-sqrt2' / 'index.html'}\n"
    assert cli.main(["report", "tiny", *where, "--baseline", "nothing"]) == 2
    assert f"choose from none, learnable(r=4), {ARM}, inv_sqrt2" in capsys.readouterr().err
    run = min(folder.glob("*-inv-sqrt2-*"))
    run.rename(folder.parent / run.name)
    try:
        cli.main(["check", "tiny", *where])
    finally:
        (folder.parent / run.name).rename(run)
    assert f"{run.name}: missing" in capsys.readouterr().out


def test_without_their_listing_the_suite_is_as_before(trained, capsys):
    """Runs stay, and an arm that is added again is not trained again."""
    folder, own, run = trained
    listing = folder / "arms.json"
    kept = listing.read_bytes()
    listing.unlink()
    try:
        assert cli.main([*run, "--arm", ARM, "--dry-run"]) == 0
        assert "inv_sqrt2" not in (said := capsys.readouterr().out) and said.count("complete") == 15
    finally:
        listing.write_bytes(kept)


def test_the_report_has_all_arms_and_counts_them_all(trained):
    """Those of earlier calls too; an arm given in two ways is one."""
    report = json.loads((trained[0] / "report-arms" / "report.json").read_text())
    assert report["arms"] == ["none", "learnable(r=4)", ARM, "inv_sqrt2"]
    assert report["level"] == pytest.approx(1 - 0.05 / 3)
    assert {pool["method"] for pool in report["pooled"]} == {"learnable(r=4)", ARM, "inv_sqrt2"}
    assert "another configuration" not in (trained[0] / "report-arms" / "index.html").read_text()


def test_the_verdict_is_said_and_the_runs_are_listed(trained, capsys):
    """By the same command again, which trains nothing, and by status."""
    folder, _, run = trained
    assert cli.main([*run, "--arm", ARM]) == 0
    said = capsys.readouterr().out
    assert "0 to train" in said and f"\n{ARM}: " in said and "\ninv_sqrt2: " not in said
    assert said.endswith(f"report: {folder / 'report-arms' / 'index.html'}\n")
    assert cli.main(["status", "tiny", "--root", str(folder.parent)]) == 0
    assert "18 complete of 18 runs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ("nothing", "--arm: method 'nothing' is unknown; choose from none, "),
        ("constant(kappa=2)", "--arm: constant: "),
        ("plain", "does not fit uvit-xs: plain: "),
        ("learnable(r=4)", "--arm: 'learnable(r=4)' is an arm of tiny already; leave it out"),
    ],
)
def test_an_arm_that_cannot_be_added_is_one_line(trained, capsys, arm, why):
    folder, _, run = trained
    before = (folder / "arms.json").read_bytes()
    for words in ([], ["--dry-run"]):
        assert cli.main([*run, "--arm", arm, *words]) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1
    assert (folder / "arms.json").read_bytes() == before
