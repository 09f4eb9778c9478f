"""The campaign: runs survive its kills and warnings, and it notices a run that does not come back the same."""

from types import SimpleNamespace

import pytest
import yaml
from tiny_suite import TINY

from bench.training.trainer import Trainer
from tests.tools import chaos
from tests.tools.chaos import Tally, campaign


@pytest.fixture
def quick(monkeypatch):
    """One run of a second or two, disturbed after a checkpoint and before its end."""
    changes = {"budget": 960, "arms": ["none"], "optimizer": TINY["optimizer"], "cells": TINY["cells"]}
    monkeypatch.setattr(chaos, "SUITE", yaml.safe_dump({**yaml.safe_load(chaos.SUITE), **changes}))
    monkeypatch.setattr(chaos, "MOST", 3)
    monkeypatch.setattr(chaos.random.Random, "uniform", lambda self, low, high: 0.6 * high)


def test_killed_and_warned_runs_end_the_same(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "KINDS", (chaos.signal.SIGTERM, chaos.signal.SIGKILL))
    tally = campaign(1, tmp_path)
    assert tally.of("warning") >= 1 and tally.of("kill") >= 1
    assert tally.identical == tally.disturbances and not tally.faults
    assert not list(tmp_path.glob("storm*"))


def test_a_lease_without_a_name_is_waited_for(quick, tmp_path, monkeypatch):
    """What a kill leaves between the making of the file and its writing."""
    start, killed = chaos._start, []

    def begin(run, root, data, tamper=None):
        if root.name.startswith("storm") and not killed:
            run.folder(root).lock.parent.mkdir(parents=True)
            run.folder(root).lock.touch()
            killed.append(run.id)
        return start(run, root, data, tamper)

    monkeypatch.setattr(chaos, "_start", begin)
    tally = campaign(1, tmp_path)
    assert killed and not tally.faults and tally.of("kill") >= 1


def test_a_run_tells_the_phase_that_it_is_in():
    phase, seen = SimpleNamespace(value=0), []
    step = chaos._telling(lambda: seen.append(phase.value), chaos.PHASES.index("step"), phase)

    def start():
        seen.append(phase.value)
        step()
        seen.append(phase.value)

    chaos._telling(start, chaos.PHASES.index("start"), phase)()
    assert [chaos.PHASES[number] for number in (*seen, phase.value)] == ["start", "step", "start", "between"]


def fail():
    raise ValueError("a fault of the campaign's own")


def lose_ema():
    """The resumed run goes on with the EMA of a new one."""
    resume = Trainer.resume

    def careless(self):
        before = {name: tensor.clone() for name, tensor in self.ema.state_dict().items()}
        found = resume(self)
        self.ema.load_state_dict(before)
        return found

    Trainer.resume = careless


def lose_draws():
    """The resumed run forgets what it drew."""
    resume = Trainer.resume

    def careless(self):
        found = resume(self)
        self.draws = ""
        return found

    Trainer.resume = careless


@pytest.mark.parametrize("tamper", [lose_ema, lose_draws])
def test_a_resume_that_loses_something_is_noticed(quick, tmp_path, tamper):
    tally = campaign(1, tmp_path, tamper)
    assert tally.identical < tally.disturbances and "differs from the undisturbed run" in tally.faults[0]
    assert "(exit code 0)" in tally.faults[0]


def test_a_campaign_ends_where_a_run_fails_by_itself(quick, tmp_path):
    with pytest.raises(RuntimeError, match=r"ended with exit code 1, and nothing had hit it"):
        campaign(1, tmp_path, fail)


def test_a_campaign_with_a_difference_fails(monkeypatch, capsys):
    tally = Tally()
    tally.add([("kill", "step"), ("warning", "save")], "")
    tally.add([("kill", "start")], "run x differs")
    monkeypatch.setattr(chaos, "campaign", lambda kills, folder: tally)
    assert chaos.main(["--kills", "2"]) == 1
    said = capsys.readouterr().out
    assert (
        "run x differs\n2 of 3 identical: 2 kills (" in said
        and "1 warnings (" in said
        and "2 runs, compared with" in said
    )
