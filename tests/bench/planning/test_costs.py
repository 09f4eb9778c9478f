"""What a plan is said to cost."""

import dataclasses

import pytest

from bench.cli import matrix
from bench.errors import BadInput
from bench.planning import costs, suite_file
from bench.planning.plan import plan


def test_a_pilot_costs_its_repeated_evaluations_too(monkeypatch):
    monkeypatch.setattr(costs, "_forward_seconds", lambda *_: 1.0)
    pilot = next(run for run in plan(suite_file.load("smoke")) if run.role == "pilot")
    paired = dataclasses.replace(pilot, role="paired")
    evaluation = pilot.spec.evaluation
    assert costs.evaluations(pilot) == costs.evaluations(paired) + 2
    assert costs.of(pilot, None).seconds - costs.of(paired, None).seconds == 2 * evaluation.samples * evaluation.steps


def test_the_matrix_counts_them_for_pilots_alone(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(costs, "_forward_seconds", lambda *_: 1.0)
    suite = suite_file.load("smoke")
    matrix.show(suite, plan(suite), tmp_path, each=True, chip=None)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " pilot " in line or " pair" in line]
    told = {row[1]: row[-2] for row in rows}
    assert told["pilot"] == "14" and {told[role] for role in told if role != "pilot"} == {"12"}


def test_a_line_per_cell_with_the_hours_on_a_chip_and_the_disk(capsys, tmp_path):
    suite = suite_file.load("small")
    runs = plan(suite)
    matrix.show(suite, runs, tmp_path, each=False, chip="H100")
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.startswith(("cifar10/", "celeba64/"))]
    assert [row[0] for row in rows] == [cell.name for cell in suite.cells] and {row[1] for row in rows} == {"21"}
    assert rows[0][3] == "44,255,328"
    more = costs.FOLDER + costs.GRID * len(runs[0].spec.evaluation.images)
    kept = sum(4 * int(row[3].replace(",", "")) + more for row in rows) * 21 / 1e9
    assert abs(sum(float(row[-1]) for row in rows) - kept) < 0.1 and f"disk: {kept:.2f}" in said
    assert "35% of the 989 TFLOP/s of a H100" in said


def test_where_arms_differ_in_size_each_is_listed(capsys, tmp_path):
    """The joins of a DiT are of the method; calibration nets are too small to be worth a line."""
    suite = suite_file.load("skip-dit")
    matrix.show(suite, plan(suite), tmp_path, each=False, chip="H100")
    said = capsys.readouterr().out
    assert (
        "parameters of digits/dit-xs by arm: plain 126,592, norm_cat 133,424, none 132,976, constant 132,976, " in said
    )
    matrix.show(suite_file.load("small"), plan(suite_file.load("small")), tmp_path, each=False, chip="H100")
    assert "by arm" not in capsys.readouterr().out


def test_an_unknown_chip_is_bad_input():
    with pytest.raises(BadInput, match="--chip: 'h10' is unknown; choose from a10, a100"):
        costs.gpu("h10")
    assert costs.gpu("h100").flops == 0.35 * 989e12 and "name a GPU with --chip" in costs.gpu(None).said
