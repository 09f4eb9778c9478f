"""Learning rates tried in tuning runs: which is best, and what is said of them."""

import synthetic

from reports.report.sections import table
from reports.report.tuning import best

TUNED = {"none @ lr 0.5": 0.8, "none": 1.0, "none @ lr 2": 1.3, "constant": 1.0, "constant @ lr 2": 0.7}
ARMS = {"none @ lr 2": 1.2, "constant": 1.5}


def test_the_best_rate_is_the_fastest_over_cells(tmp_path):
    report = synthetic.built(tmp_path, ARMS, tuning=TUNED)
    assert best(report.tuning, "none") == "none @ lr 2" and best(report.tuning, "constant") == "constant"
    fast = next(row for row in report.tuning if row.method == "none" and row.rate == 2)
    assert fast.speedup.low < 1.3 < fast.speedup.high and len(fast.runs) == 6
    own = next(row for row in report.tuning if row.method == "none" and row.rate == 1)
    assert vars(own.speedup) == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert [row[3] for row in table(report, "tuning").rows].count("yes") == 2


def test_a_best_rate_at_the_end_of_the_ladder_or_without_an_arm_is_said(tmp_path):
    said = [note.text for note in synthetic.built(tmp_path / "a", ARMS, tuning=TUNED).notes]
    assert (
        "none does best at 2 times the suite's learning rate, the end of its ladder: its best may lie beyond." in said
    )
    assert not any(text.startswith("constant does best") for text in said) and "" not in said
    said = [note.text for note in synthetic.built(tmp_path / "b", {"constant": 1.5}, tuning=TUNED).notes]
    assert "none does best at 2 times the suite's learning rate, and no arm has it." in said


def test_no_rate_is_best_before_all_have_ended(tmp_path):
    def leave_out(cfg, fid):
        return None if cfg["label"] == "constant @ lr 2" and cfg["spec"]["seed"] == 201 else fid

    rows = synthetic.built(tmp_path / "a", ARMS, tuning=TUNED, edit=leave_out).tuning
    assert best(rows, "constant") is None and best(rows, "none") == "none @ lr 2"
    assert synthetic.built(tmp_path / "b", ARMS).tuning == []
