"""Arms that are added to a suite on the command line: trained beside its own, in a report of their own."""

import json

import pytest

from bench.cli import parser as cli
from bench.launching import local
from bench.planning import suite_file
from models.scaling import REGISTRY
from reports.report import embed

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


def test_the_suites_own_runs_are_those_of_its_own_listing(trained, capsys):
    """Whatever an older or broken listing of added arms says of them."""
    folder, _, _ = trained
    listing, where = folder / "arms.json", ["--root", str(folder.parent)]
    kept = listing.read_bytes()
    content = json.loads(kept)
    one = next(run for run in content["runs"] if run["method"] == "inv_sqrt2")
    listing.write_text(json.dumps(content | {"runs": [one]}))
    try:
        assert cli.main(["status", "tiny", *where]) == 0 and "13 complete of 13 runs" in capsys.readouterr().out
    finally:
        listing.write_bytes(kept)


def test_a_complete_suite_is_complete_whatever_an_added_arm_lacks(trained):
    """Tables of the docs are made from it."""
    folder, _, _ = trained
    run = min(folder.glob("*-inv-sqrt2-*"))
    run.rename(folder.parent / run.name)
    try:
        assert embed.complete("tiny", folder.parent)
    finally:
        (folder.parent / run.name).rename(run)


def test_two_calls_at_once_add_both_arms(trained, monkeypatch, data):
    """The second has looked at the listing before the first wrote it."""
    folder, _, run = trained
    kept = (folder / "arms.json").read_bytes()
    suite = suite_file.load(run[1])
    first, second = (local.widened(suite, folder.parent, [arm]) for arm in ("no_skip", "scalar"))
    try:
        for whole in (first, second):
            local.prepare(suite, whole, [], folder.parent, data)
        assert json.loads((folder / "arms.json").read_text())["arms"][-2:] == ["no_skip", "scalar"]
    finally:
        (folder / "arms.json").write_bytes(kept)


def test_an_added_method_that_is_gone_is_named_with_its_listing(trained, monkeypatch, capsys):
    folder, _, run = trained
    monkeypatch.delitem(REGISTRY, "inv_sqrt2")
    assert cli.main([*run, "--arm", "scalar", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert (
        "arms.json: method 'inv_sqrt2' is unknown" in said and "delete this listing" in said and said.count("\n") == 1
    )


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
