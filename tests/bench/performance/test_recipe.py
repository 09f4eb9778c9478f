"""The rule for recipes: what is steady, what is fastest, and the study that measures it."""

import math
import re

import numpy as np
import pytest
import yaml
from tiny_suite import TINY

from bench.errors import BadInput
from bench.performance import recipe
from bench.planning import suite_file
from bench.planning.plan import plan
from reports.analysis.curves import Curve


def rung(factor, speed, explained=0.99, fall=0.1):
    """A rate at which the runs are so many times as fast as at the suite's own."""
    return recipe.Rung("d/b", factor, factor * 1e-3, explained, fall, [math.log(1000 / speed)] * 4)


def test_the_suites_own_rate_must_be_steady_and_the_fastest_that_is():
    own = rung(1, 1.0)
    assert recipe.judge([rung(0.5, 0.6), own, rung(2, 1.05)]) == (True, "d/b: keeps the rule")
    assert recipe.judge([own, rung(2, 1.3)]) == (False, "d/b: the rule is broken: 0.002 is as steady, and faster")
    assert recipe.judge([own, rung(2, 1.3, explained=0.9)])[0] and recipe.judge([own, rung(2, 1.3, fall=0.4)])[0]
    assert recipe.judge([own, rung(2, 1.3)], {2.0})[0]
    for wrong in (rung(1, 1.0, explained=0.94), rung(1, 1.0, fall=0.34)):
        assert recipe.judge([wrong]) == (False, "d/b: the rule is broken: not every run falls steadily at 0.001")


def test_only_what_comes_after_a_third_must_fall_steadily():
    images = np.geomspace(100, 1000, 12)
    falling = 100 * (images / 100) ** -1.5
    early, late = falling.copy(), falling.copy()
    early[1], late[-2] = 400, 40
    assert recipe._explained(Curve(0, images, falling), 1000) == pytest.approx(1)
    assert recipe._explained(Curve(0, images, early), 1000) == pytest.approx(1)
    assert recipe._explained(Curve(0, images, late), 1000) < recipe.EXPLAINED


def test_the_baseline_of_a_study_is_the_suites_own():
    """Each cell at each rate, on seeds in no pair and no pilot."""
    runs = plan(recipe.ladder(suite_file.load("skip-dit")))
    assert {run.spec.method["name"] for run in runs} == {"plain"} and {run.role for run in runs} == {"tuning"}
    assert len(runs) == 2 * len(recipe.SEEDS) * len(recipe.RATES) and {run.spec.cell for run in runs} == {
        "digits/dit-xs",
        "shapes/dit-xs-class",
    }


def test_the_study_trains_the_baseline_alone_on_seeds_of_its_own(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setattr(recipe, "NEIGHBOURS", 2)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    suite = suite_file.load(str(tmp_path / "tiny.yaml"))
    runs = plan(recipe.ladder(suite, 3))
    assert {run.role for run in runs} == {"tuning"} and {run.spec.method["name"] for run in runs} == {"none"}
    code = recipe.show(suite, tmp_path / "runs", data, None, 3)
    said = capsys.readouterr().out
    assert len(list((tmp_path / "runs" / "tiny-recipe").glob("*/result.json"))) == 7
    assert code == int("broken" in said) and said.count("digits/uvit-xs") == 4
    assert len(re.findall(r" -?\d\.\d{3} +\d+\.\d{3} +(?:yes|no) ", said)) == 3  # 0.950 is told from 0.949


def test_fewer_seeds_can_be_asked_for(tmp_path, data):
    """Two at least: their spread is printed."""
    suite = suite_file.load("stability")
    assert {run.spec.seed for run in plan(recipe.ladder(suite, 3))} == {200, 201, 202}
    for seeds in (1, 13):
        with pytest.raises(BadInput, match=f"--seeds: {seeds} is not from 2 to 12"):
            recipe.show(suite, tmp_path, data, None, seeds)
