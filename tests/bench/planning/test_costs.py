"""What a plan is said to cost."""

import dataclasses

from bench.cli import matrix
from bench.planning import costs, suite_file
from bench.planning.plan import plan


def test_a_pilot_costs_its_repeated_evaluations_too(monkeypatch):
    monkeypatch.setattr(costs, "_forward_seconds", lambda *_: 1.0)
    pilot = next(run for run in plan(suite_file.load("smoke")) if run.role == "pilot")
    paired = dataclasses.replace(pilot, role="paired")
    evaluation = pilot.spec.evaluation
    assert costs.evaluations(pilot) == costs.evaluations(paired) + 2
    assert costs.of(pilot).seconds - costs.of(paired).seconds == 2 * evaluation.samples * evaluation.steps


def test_the_matrix_counts_them_for_pilots_alone(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(costs, "_forward_seconds", lambda *_: 1.0)
    suite = suite_file.load("smoke")
    matrix.show(suite, plan(suite), tmp_path)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " pilot " in line or " pair" in line]
    told = {row[1]: row[-2] for row in rows}
    assert told["pilot"] == "14" and {told[role] for role in told if role != "pilot"} == {"12"}
