"""The campaign of kills: it survives them, and it notices a run that does not come back the same."""

from types import SimpleNamespace

import pytest
import yaml
from tiny_suite import TINY

from bench import chaos
from bench.chaos import campaign
from bench.training.trainer import Trainer


@pytest.fixture
def quick(monkeypatch):
    """One run of a second or two."""
    monkeypatch.setattr(chaos, "SUITE", yaml.safe_dump({**yaml.safe_load(chaos.SUITE), "budget": 960, "arms": ["none"],
                                                        "optimizer": TINY["optimizer"], "cells": TINY["cells"]}))
    monkeypatch.setattr(chaos, "KILLS_PER_RUN", 2)


def test_killed_runs_end_the_same(quick, tmp_path):
    tally = campaign(4, tmp_path)
    assert (tally.kills, tally.identical, tally.faults) == (4, 4, [])
    assert sum(tally.phases.values()) == 4
    assert not list(tmp_path.glob("storm*"))


def test_a_run_tells_the_phase_that_it_is_in():
    phase, seen = SimpleNamespace(value=0), []
    step = chaos._telling(lambda: seen.append(phase.value), chaos.PHASES.index("step"), phase)

    def start():
        seen.append(phase.value)
        step()
        seen.append(phase.value)

    chaos._telling(start, chaos.PHASES.index("start"), phase)()
    assert [chaos.PHASES[number] for number in (*seen, phase.value)] == ["start", "step", "start", "between"]


@pytest.mark.parametrize("what", ["ema", "draws"])
def test_a_resume_that_loses_something_is_noticed(quick, tmp_path, monkeypatch, what):
    restore = Trainer._restore

    def careless(self, state):
        before = {name: tensor.clone() for name, tensor in self.ema.state_dict().items()}
        restore(self, state)
        if what == "ema":
            self.ema.load_state_dict(before)
        else:
            self.draws = ""

    monkeypatch.setattr(Trainer, "_restore", careless)
    monkeypatch.setattr(chaos.random.Random, "uniform", lambda self, low, high: 0.7 * high)  # after a checkpoint, before the end
    tally = campaign(2, tmp_path)
    assert tally.identical < tally.kills and "differs from the undisturbed run" in tally.faults[0]


def test_a_campaign_with_a_difference_fails(monkeypatch, capsys):
    monkeypatch.setattr(chaos, "campaign", lambda kills, folder: chaos.Tally(1, 3, 2, ["run x differs"]))
    assert chaos.main(["--kills", "3"]) == 1
    said = capsys.readouterr().out
    assert "2 of 3 kills identical" in said and "1 runs, compared with undisturbed ones" in said
