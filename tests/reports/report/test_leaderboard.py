"""The leaderboard: who may be entered, what an entry keeps, and how wide many of them make the intervals."""

import json

import pytest
import synthetic

from reports.report import leaderboard
from reports.report.embed import renew

METHODS = {"constant": 1.0, "inv_sqrt2": 1.6}


@pytest.fixture
def entered(tmp_path):
    """Two entries of one suite, and their folder."""
    synthetic.suite(tmp_path, METHODS)
    for method in METHODS:
        leaderboard.enter(tmp_path, "s", [method], tmp_path / "board")
    return tmp_path / "board"


def test_the_fastest_stands_first_and_all_are_counted(entered):
    both = leaderboard.board("s", entered)
    assert [row[0] for row in both.rows] == ["inv_sqrt2", "constant"]
    assert both.rows[0][2] == "faster at mini scale" and "97.50 %" in both.caption
    (entered / "s-constant.json").unlink()
    alone = leaderboard.board("s", entered)
    assert "95.00 %" in alone.caption and alone.rows[0][1] != both.rows[0][1] and alone.rows[0][3:] == both.rows[0][3:]


def test_an_entry_of_other_runs_is_refused(entered):
    path = entered / "s-constant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"baseline": "another"}))
    with pytest.raises(ValueError, match=r"another configuration of s; enter all methods again"):
        leaderboard.board("s", entered)


def test_of_several_methods_all_are_entered_or_none(entered, tmp_path):
    for methods in (["constant", "nope"], ["nope", "constant"]):
        with pytest.raises(ValueError, match="'nope' is no arm"):
            leaderboard.enter(tmp_path, "s", methods, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_suite_with_looks_is_refused(tmp_path):
    synthetic.suite(tmp_path, METHODS, looks=(3, 6))
    with pytest.raises(ValueError, match="'s' has looks; enter methods on a suite with a fixed number of pairs"):
        leaderboard.enter(tmp_path, "s", ["constant"], tmp_path / "board")


def test_methods_of_one_file_name_do_not_overwrite_each_other(tmp_path):
    """A sign and a suite are told apart; what is left is refused."""
    methods = {"halved(factor=0.7)": 1.0, "halved(factor=-0.7)": 1.2, "Halved(factor=0.7)": 1.1}
    for suite in ("s", "t"):
        synthetic.suite(tmp_path, methods, name=suite)
        assert len(leaderboard.enter(tmp_path, suite, list(methods)[:2], tmp_path / "board")) == 2
    assert (
        len(leaderboard.board("s", tmp_path / "board").rows)
        == len(leaderboard.board("t", tmp_path / "board").rows)
        == 2
    )
    with pytest.raises(ValueError, match="would be one file; register one otherwise"):
        leaderboard.enter(tmp_path, "s", list(methods), tmp_path / "board")
    with pytest.raises(ValueError, match=r"holds 'halved\(factor=0.7\)'; register 'Halved"):
        leaderboard.enter(tmp_path, "s", list(methods)[2:], tmp_path / "board")


@pytest.mark.parametrize("change", [{"mean": 9999}, {"n": 1}, {"sd": {"value": -1, "low": 0, "high": 1}}])
def test_numbers_that_no_comparison_has_are_named(entered, change):
    path = entered / "s-constant.json"
    whole = json.loads(path.read_text())
    whole["cells"]["digits/unet-xs"] |= change
    path.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"s-constant.json: is no entry \(cells: digits/unet-xs: mean, sd or n is out"):
        leaderboard.board("s", entered)


def test_a_copy_is_not_a_second_method(entered):
    (entered / "copy.json").write_bytes((entered / "s-constant.json").read_bytes())
    with pytest.raises(ValueError, match=r"copy.json: is no entry \(its name is not s-constant.json"):
        leaderboard.board("s", entered)


@pytest.mark.parametrize("content", ["[]", '{"method": "x"}', "null mean"])
def test_a_file_that_is_no_entry_is_named(entered, content):
    path = entered / "s-constant.json"
    whole = json.loads(path.read_text())
    whole["cells"]["digits/unet-xs"]["mean"] = None
    path.write_text(json.dumps(whole) if content == "null mean" else content)
    with pytest.raises(ValueError, match=r"s-constant.json: is no entry .*enter its method again"):
        leaderboard.board("s", entered)


def test_what_has_no_verdict_is_not_entered(tmp_path, capsys):
    """Half of the runs, a method that is no arm, and a folder without the suite: one line, exit code 2."""
    synthetic.suite(tmp_path, METHODS, done=0.5)
    for method, why in (("constant", "'constant' is not entered"), ("nope", "choose from constant, inv_sqrt2")):
        assert leaderboard.main([method, "--root", str(tmp_path), "--suite", "s"]) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1
    assert leaderboard.main(["constant", "--root", str(tmp_path / "none")]) == 2
    assert "start it with: python -m bench run quick" in capsys.readouterr().err


def test_a_page_takes_the_table_of_what_is_entered(entered, monkeypatch):
    monkeypatch.setattr("reports.report.embed.board", lambda suite: leaderboard.board(suite, entered))
    text, figures = renew("# A\n<!-- board s -->\nold\n<!-- end -->\n", entered, lambda suite: pytest.fail(suite))
    assert "| inv_sqrt2 |" in text and "old" not in text and not figures
