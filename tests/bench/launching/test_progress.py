"""What a terminal shows of a suite that is under way: cells by arms."""

import math
from itertools import chain

from rich.console import Console

from bench.launching.local import SuiteProgress
from bench.launching.progress import Grid
from bench.planning.plan import plan
from bench.planning.suite_file import load
from reports.records.files import write_json
from reports.records.run_folder import State


def drawn(*parts):
    """What a console shows of these, line by line as words."""
    console = Console(width=150)
    with console.capture() as said:
        console.print(*parts, sep="\n")
    return [line.split() for line in said.get().splitlines()]


def test_the_grid_counts_by_cell_and_arm_and_names_what_failed():
    grid = Grid()
    for cell, role, method, state, distance in (
        ("a/x", "pilot", "none", State.COMPLETE, 9.0),
        ("a/x", "paired", "none", State.COMPLETE, 7.25),
        ("a/x", "paired", "none", State.RUNNING, 8.0),
        ("a/x", "paired", "constant", State.FAILED, math.nan),
        ("b/x", "paired", "none", State.MISSING, math.nan),
    ):
        grid.add(cell, role, method, state, distance)
    assert drawn(grid.table()) == [
        ["done", "of", "planned", "pilots", "none", "constant", "best", "distance"],
        ["a/x", "1/1", "1/2", "0/1,", "1", "failed", "7.250"],
        ["b/x", "0/1", "–"],
    ]


def test_many_arms_stand_below_each_other():
    grid = Grid()
    for arm in (f"arm{i}" for i in range(11)):
        grid.add("a/x", "paired", arm, State.COMPLETE, 2.0)
    lines = drawn(grid.table())
    assert lines[:2] == [["done", "of", "planned", "a/x"], ["arm0", "1/1"]] and lines[-1] == [
        "best",
        "distance",
        "2.000",
    ]


def test_a_run_fills_the_grid_above_its_bar(tiny, tmp_path):
    """From the folders alone, as another process writes them."""
    runs = plan(load(tiny()))
    progress = SuiteProgress(runs, tmp_path)
    first = next(run for run in runs if run.role == "paired")
    write_json(first.folder(tmp_path).result, {"status": "complete", "evaluations": [{"fid": 3.5}]})
    progress.show(lambda run: True)
    lines = drawn(*progress.get_renderables())
    assert ["digits/uvit-xs", "0/3", "1/3", "0/3", "0/3", "3.500"] in lines
    assert "1/12 runs, 0 images/s, time left unknown" in " ".join(chain.from_iterable(lines))
