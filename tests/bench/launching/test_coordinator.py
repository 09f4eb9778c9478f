"""Coordinators and the processes of runs: pilots first, frozen targets, failures told, nothing twice."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tiny_suite import TINY

from bench.errors import BadInput
from bench.launching import process
from bench.launching.coordinator import REVIVALS, Coordinator
from bench.launching.sweep_folder import SweepFolder
from bench.planning import suite_file
from bench.planning.plan import plan, select
from bench.runs.run_spec import Run
from bench.training.trainer import Trainer
from reports.records.files import read_json, write_json
from reports.records.lease import process_id
from reports.records.run_folder import State

ONE = "role=pilot,seed=100"
FEW = {"paired": [0, 1], "pilots": [100, 101, 102]}


def disturbed(before: Callable[[Trainer], None], *told: object) -> None:
    """The process of a run that calls `before` before each step."""
    step = Trainer.step

    def call(self: Trainer) -> float:
        before(self)
        return step(self)

    Trainer.step = call
    process._main(*told)


@pytest.fixture
def before_steps(monkeypatch):
    """before_steps(f, *words): each process calls f(*words, trainer) before each step."""

    def patch(call: Callable[..., None], *words: object) -> None:
        monkeypatch.setattr(process, "_main", functools.partial(disturbed, functools.partial(call, *words)))

    return patch


def runs_of(path: str) -> list[Run]:
    return plan(suite_file.load(path))


def train(path: str, root: Path, data: Path, only: str | None = None) -> int:
    """What a coordinator of one worker returns."""
    everything = runs_of(path)
    return Coordinator(everything, root, data).train(select(everything, only))


def first_event(run: Run, root: Path) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(run.folder(root).events.read_text().partition("\n")[0])
    return event


def events(run: Run, root: Path, kind: str) -> int:
    return run.folder(root).events.read_text().count(f'{{"event": "{kind}"')


def test_everything_is_trained_and_the_targets_are_frozen_between(tiny, tmp_path, data):
    path = tiny(budget=320, seeds=FEW)
    assert train(path, tmp_path, data) == 0
    protocol, began = tmp_path / "tiny" / "protocol.json", Counter()
    for run in runs_of(path):
        began[run.role, first_event(run, tmp_path)["time"] > protocol.stat().st_mtime] += 1
    assert began == {("pilot", False): 3, ("paired", True): 4, ("null", True): 2}
    logs = {file: file.read_bytes() for file in [protocol, *tmp_path.glob("tiny/*/events.jsonl")]}
    assert train(path, tmp_path, data) == 0  # nothing is left
    assert all(file.read_bytes() == content for file, content in logs.items())


def break_runs(role: str, seed: int | None, trainer: Trainer) -> None:
    if trainer.run.role == role and seed in (None, trainer.spec.seed) and trainer.images >= 160:
        raise ValueError("no such\nscale")


def test_a_failure_is_recorded_and_the_suite_goes_on(tiny, tmp_path, data, before_steps, monkeypatch):
    """A ValueError of a user's method is a failed run, not bad input."""
    path = tiny(budget=320, arms=["none"])
    everything = runs_of(path)
    victim = next(run for run in everything if run.role == "paired" and run.spec.seed == 1)
    before_steps(break_runs, "paired", 1)
    assert train(path, tmp_path, data) == 1
    assert Counter(run.folder(tmp_path).state() for run in everything) == {
        State.COMPLETE: len(everything) - 1,
        State.FAILED: 1,
    }
    error = read_json(victim.folder(tmp_path).error)
    assert error["error"] == "ValueError: no such scale" and "in break_runs" in error["traceback"]
    monkeypatch.undo()
    assert train(path, tmp_path, data) == 1  # it is not tried again before somebody asks for that
    victim.folder(tmp_path).forget_failure()
    assert train(path, tmp_path, data) == 0


def leave_the_program(trainer: Trainer) -> None:
    if trainer.run.role == "paired" and trainer.images >= 160:
        sys.exit(2)


def test_a_method_that_leaves_the_program_is_a_failed_run(tiny, tmp_path, data, before_steps):
    """2 means bad input only where this project says so."""
    path = tiny(budget=320, arms=["none"], seeds=FEW)
    everything = runs_of(path)
    before_steps(leave_the_program)
    assert train(path, tmp_path, data) == 1
    states = Counter((run.role, run.folder(tmp_path).state()) for run in everything)
    assert states == {("pilot", State.COMPLETE): 3, ("paired", State.FAILED): 2, ("null", State.COMPLETE): 2}
    error = read_json(next(run for run in everything if run.role == "paired").folder(tmp_path).error)
    assert error["error"] == "SystemExit: 2" and "in leave_the_program" in error["traceback"]


def test_without_its_pilots_no_comparison_starts(tiny, tmp_path, data, before_steps):
    path = tiny(budget=320)
    before_steps(break_runs, "pilot", 101)
    assert train(path, tmp_path, data) == 1
    states = Counter((run.role, run.folder(tmp_path).state()) for run in runs_of(path))
    done = {("pilot", State.FAILED): 1, ("pilot", State.COMPLETE): 2}
    assert states == done | {("paired", State.MISSING): 6, ("null", State.MISSING): 3}


def test_targets_of_other_pilots_are_refused(tiny, tmp_path, data):
    path = tiny(budget=320)
    train(path, tmp_path, data, "role=pilot")
    sweep = SweepFolder(tmp_path, "tiny")
    assert sweep.protocol.is_file() and sweep.freeze(runs_of(path))
    with pytest.raises(ValueError, match="pilots: the target bands were frozen from other pilots"):
        sweep.freeze(runs_of(tiny(budget=640)))


def test_a_recipe_that_changes_after_the_bands_were_frozen_is_refused(tiny, tmp_path, data):
    """Before anything is written; other arms, and further cells, leave the pilots of the bands what they are."""
    suite = suite_file.load(tiny(budget=320))
    sweep, everything = SweepFolder(tmp_path, "tiny"), plan(suite)
    sweep.publish(suite, everything)
    for run in everything:
        if run.role == "pilot":
            write_json(run.folder(tmp_path).config, run.config)
    pilots = [run.id for run in everything if run.role == "pilot"]
    write_json(sweep.protocol, {"version": 2, "cells": {"digits/uvit-xs": {"pilots": pilots}}})
    listing = sweep.suite.read_bytes()
    for changes, field in (
        ({"budget": 640}, "budget: 640 differs from 320, with which the target bands in "),
        ({"optimizer": TINY["optimizer"] | {"lr": 2e-3}}, "optimizer.lr: 0.002 differs from 0.001, "),
        ({"cells": [{"dataset": "digits", "backbone": "unet-xs"}]}, "pilots: the plan lacks digits-uvit-xs-none-s100"),
    ):
        other = suite_file.load(tiny(**{"budget": 320} | changes))
        with pytest.raises(BadInput, match=re.escape(f"tiny.yaml: {field}") + ".*; a changed recipe needs another"):
            sweep.publish(other, plan(other))
    assert sweep.suite.read_bytes() == listing
    cells = [*TINY["cells"], {"dataset": "digits", "backbone": "unet-xs"}]
    for changes in ({}, {"arms": ["none", "constant"]}, {"cells": cells}):
        other = suite_file.load(tiny(**{"budget": 320} | changes))
        sweep.publish(other, plan(other))


def test_two_coordinators_share_a_suite(tiny, tmp_path, data):
    """Each run is trained once, whoever trains it."""
    path = tiny(budget=320, seeds=FEW)
    coordinators = [
        multiprocessing.get_context("spawn").Process(target=leave_with, args=(path, tmp_path, data)) for _ in range(2)
    ]
    for one in coordinators:
        one.start()
    for one in coordinators:
        one.join()
        assert one.exitcode == 0
    for run in runs_of(path):
        assert (events(run, tmp_path, "start"), events(run, tmp_path, "resume")) == (1, 0), run.id


def leave_with(path: str, root: Path, data: Path) -> None:
    raise SystemExit(train(path, root, data))


def signal_once(number: int, marker: Path, trainer: Trainer) -> None:
    if trainer.images >= 160 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_process_that_is_told_to_leave_saves_and_its_run_goes_on(tiny, tmp_path, data, before_steps, number):
    path = tiny(budget=320, checkpoints=1)
    before_steps(signal_once, number, tmp_path / "told")
    assert train(path, tmp_path, data, ONE) == 0
    run = runs_of(path)[0]
    assert run.folder(tmp_path).last_event("resume")["note"] == "from 192 images"  # the step that was begun was ended
    assert events(run, tmp_path, "start") == 1


def test_a_process_that_is_killed_is_replaced(tiny, tmp_path, data, before_steps, capfd):
    path = tiny(budget=320)
    before_steps(signal_once, signal.SIGKILL, tmp_path / "killed")
    assert train(path, tmp_path, data, ONE) == 0
    run = runs_of(path)[0]
    assert f"{run.id}: its process died of signal 9; another goes on\n" in capfd.readouterr().err
    assert run.folder(tmp_path).state() is State.COMPLETE and events(run, tmp_path, "resume") == 1


def kill_rank(rank: int, marker: Path, trainer: Trainer) -> None:
    if os.environ["RANK"] == str(rank):
        signal_once(signal.SIGKILL, marker, trainer)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_takes_the_other_with_it_and_both_are_replaced(
    tiny, tmp_path, data, before_steps, capfd, rank
):
    """What the other says of the lost connection is no failure of the run."""
    path = tiny(budget=640, processes=2)
    before_steps(kill_rank, rank, tmp_path / "killed")
    assert train(path, tmp_path, data, ONE) == 0
    run = runs_of(path)[0]
    assert f"{run.id}: its process died of signal 9; another goes on\n" in capfd.readouterr().err
    assert run.folder(tmp_path).state() is State.COMPLETE and not run.folder(tmp_path).error.exists()
    assert events(run, tmp_path, "resume") == 1


def test_a_run_whose_process_is_always_killed_is_failed(tiny, tmp_path, data, before_steps, capfd):
    path = tiny(budget=320)
    before_steps(kill, tmp_path / "kills")
    assert train(path, tmp_path, data, ONE) == 1
    folder = runs_of(path)[0].folder(tmp_path)
    assert (tmp_path / "kills").read_text() == "x" * REVIVALS
    assert folder.state() is State.FAILED
    assert f"died of signal 9, {REVIVALS} times; too little memory?" in read_json(folder.error)["error"]
    assert f"failed: its process died of signal 9, {REVIVALS} times" in capfd.readouterr().err


def kill(tally: Path, trainer: Trainer) -> None:
    with tally.open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_coordinator_that_ends_waits_until_its_runs_have_saved(tiny, tmp_path, data):
    """Whatever ends it: Ctrl-C, or what `scontrol requeue` raises when it is ended with the job that it requeues."""
    path = tiny(budget=96000, checkpoints=1)
    everything = runs_of(path)
    folder = everything[0].folder(tmp_path)

    def stop() -> None:
        if folder.last_event("train"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Coordinator(everything, tmp_path, data).train(everything[:1], stop)
    assert folder.state() is State.STOPPED and not folder.error.exists()
    assert list(folder.checkpoints.glob("*.pt")) and not folder.last_event("checkpoint")


def refuse(trainer: Trainer) -> None:
    raise BadInput("checkpoint: 'x' belongs to another configuration")


def test_bad_input_in_a_process_ends_the_suite(tiny, tmp_path, data, before_steps):
    path = tiny(budget=320)
    before_steps(refuse)
    assert train(path, tmp_path, data) == 2
    states = Counter(run.folder(tmp_path).state() for run in runs_of(path))
    assert states == {State.STOPPED: 1, State.MISSING: 11}  # nothing to retry: the input is to be mended


def lose_lease(trainer: Trainer) -> None:
    if trainer.images >= 160 and not (trainer.folder.path / "before").exists():
        (trainer.folder.path / "before").write_bytes(trainer.folder.events.read_bytes())
        trainer.folder.lock.unlink()
        while not trainer.folder.lock.exists():
            time.sleep(0.05)


def test_a_run_that_was_taken_over_is_left_to_its_new_owner(tiny, tmp_path, data, before_steps):
    """The lease is another's in the middle of the run: not a line more, no mark of a failure."""
    path = tiny(budget=320)
    everything = runs_of(path)
    folder = everything[0].folder(tmp_path)
    before_steps(lose_lease)
    coordinator, stack, looks = Coordinator(everything, tmp_path, data), ExitStack(), []

    def take_over() -> None:
        if (folder.path / "before").exists() and not folder.lock.exists():
            stack.enter_context(folder.lease())
        looks.append(len(coordinator.active))
        if looks[-3:] == [0, 0, 0]:  # it waits for the other one
            raise KeyboardInterrupt

    with stack:
        with pytest.raises(KeyboardInterrupt):
            coordinator.train(everything[:1], take_over)
        assert folder.state() is State.RUNNING and not folder.error.exists()
        assert folder.events.read_bytes() == (folder.path / "before").read_bytes()
        assert process_id(folder.lock) == os.getpid()
