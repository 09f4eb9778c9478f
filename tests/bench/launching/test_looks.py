"""Suites that are trained until they are decided: what is trained, what is not, and that an interruption changes nothing.

Runs are not trained here: their results are written at the instant at which their process would start.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.cli import parser as cli
from bench.launching import process
from bench.launching.coordinator import Coordinator
from bench.launching.looks import Looks
from bench.launching.sweep_folder import SweepFolder
from bench.planning import suite_file
from bench.planning.plan import plan, select, with_pilots
from bench.runs.run_spec import Run
from reports.analysis import bands
from reports.records.run_folder import State
from reports.records.suite_records import read
from reports.report import tree
from reports.report.build import build
from reports.report.sections import table

sys.path.append(str(Path(__file__).parents[2] / "reports"))
import synthetic

SPEED = {"none": (1.0, 0.05), "constant": (1.6, 0.05), "inv_sqrt2": (1.06, 0.1)}  # mean, spread over seeds
KEYS = {"arms": list(SPEED), "seeds": {"paired": list(range(12)), "pilots": [100, 101, 102]}, "looks": [6, 12]}


class Ended:
    """A process that has ended."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode
        self.sentinel, other = os.pipe()
        os.close(other)

    def join(self) -> None:
        os.close(self.sentinel)


@pytest.fixture
def started(monkeypatch):
    """The runs that were started, in turn; those whose labels are in `started.broken` fail at seed 2."""

    class Started(list):
        broken: tuple[str, ...] = ()

    found = Started()

    def start(run: Run, root: Path, *_: object) -> list[Ended]:
        found.append(run)
        if run.role == "paired" and run.label in found.broken and run.spec.seed == 2:
            run.folder(root).fail(ValueError("no such scale"))
            return [Ended(process.Exit.FAILED)]
        images, (mean, spread) = np.array(run.spec.evaluation.images), SPEED[run.label]
        rng = np.random.default_rng([run.spec.seed, list(SPEED).index(run.label)])
        distances = 100 * (images * mean * np.exp(spread * rng.standard_normal()) / run.spec.budget) ** -1.0
        synthetic.write_run(root / run.suite, run.config, synthetic.events(run.config, distances))
        return [Ended(process.Exit.DONE)]

    monkeypatch.setattr(process, "start", start)
    return found


def train(path: str, root: Path, only: str | None = None, tick=lambda: None) -> int:
    suite = suite_file.load(path)
    everything = plan(suite)
    SweepFolder(root, suite.name).publish(suite, everything)
    return Coordinator(everything, root, root, 2).train(with_pilots(everything, select(everything, only)), tick)


def trained(runs: list[Run]) -> Counter[str]:
    return Counter(run.label if run.role == "paired" else run.role for run in runs)


WHOLE = {"pilot": 3, "null": 6, "none": 12, "constant": 6, "inv_sqrt2": 12}


def test_an_arm_with_a_verdict_is_not_trained_on(tiny, tmp_path, started, capsys):
    path = tiny(**KEYS)
    assert train(path, tmp_path) == 0 and trained(started) == WHOLE
    assert json.loads((tmp_path / "tiny" / "protocol.json").read_text())["looks"] == [6, 12]
    report = build(read(tmp_path, "tiny"))
    constant, other = (next(pool.result for pool in report.pooled if pool.method == arm) for arm in list(SPEED)[1:])
    assert (constant.verdict, constant.n, constant.level) == ("faster", 6, pytest.approx(1 - 0.35 * 0.05 / 2))
    assert (other.n, other.level) == (12, pytest.approx(1 - 0.65 * 0.05 / 2))
    assert Counter(run.status for run in report.runs) == {"complete": 39, "not needed": 6} and not report.missing
    assert "6 pairs in 1 cell, after which the arm was not trained on" in report.answers[0].text
    assert (
        "estimate is on average exaggerated" in report.answers[0].text and "exaggerated" not in report.answers[1].text
    )
    assert any("The first look decides only large effects" in note.text for note in report.notes)
    assert [row[-1] for row in table(report, "pooled").rows] == ["6 of up to 12", "12 of up to 12"]
    assert "at 99.1 % after 6 pairs, 98.4 % after 12 with" in table(report, "pooled").caption
    assert {claim.level for claim in report.claims if claim.runs and claim.method == "constant"} >= {constant.level}
    assert train(path, tmp_path) == 0 and len(started) == 39  # nothing is left
    assert cli.main(["status", "tiny", "--root", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "39 complete, 6 not needed of 45 runs" in said and "constant decided after 6" in said


def test_what_was_interrupted_between_looks_or_within_them_ends_the_same(tiny, tmp_path, started):
    path, found = tiny(**KEYS), []
    for name, stops in (("undisturbed", ()), ("disturbed", (5, 20, 27, 28, 33))):
        root, left = tmp_path / name, list(stops)
        started.clear()

        def stop(left=left) -> None:
            if left and len(started) >= left[0]:
                left.pop(0)
                raise KeyboardInterrupt

        for _ in stops:
            with pytest.raises(KeyboardInterrupt):
                train(path, root, tick=stop)
        assert train(path, root) == 0 and trained(started) == WHOLE
        found.append(tree.encode(build(read(root, "tiny"))))
    assert found[0] == found[1]


def test_where_a_run_of_a_look_failed_its_arm_goes_nowhere(tiny, tmp_path, started):
    path, started.broken = tiny(**KEYS), ("inv_sqrt2",)
    assert train(path, tmp_path) == 1
    assert trained(started) == WHOLE | {"none": 6, "inv_sqrt2": 6}
    pools = {pool.method: pool for pool in build(read(tmp_path, "tiny")).pooled}
    assert pools["constant"].result.verdict == "faster"
    assert pools["inv_sqrt2"].result is None and "first look have not all ended" in pools["inv_sqrt2"].withheld
    started.broken = ()
    for run in plan(suite_file.load(path)):
        run.folder(tmp_path).forget_failure()
    assert train(path, tmp_path) == 0 and trained(started) == WHOLE | {"inv_sqrt2": 13}


def test_a_part_of_a_later_look_waits_for_the_looks_before(tiny, tmp_path, started):
    path = tiny(**KEYS)
    assert train(path, tmp_path, "method=constant,seed=7") == 0
    assert trained(started) == {"pilot": 3, "none": 6, "constant": 6}
    assert train(path, tmp_path, "method=inv_sqrt2,seed=7") == 0
    assert trained(started) == {"pilot": 3, "none": 6, "constant": 6, "inv_sqrt2": 7}


def test_pairs_beyond_the_look_of_a_verdict_are_in_no_number(tiny, tmp_path, started):
    path = tiny(**KEYS)
    train(path, tmp_path)
    before = repr(build(read(tmp_path, "tiny")).pooled)
    late = [run for run in plan(suite_file.load(path)) if run.label == "constant" and run.look]
    for run in late:
        process.start(run, tmp_path)
    report = build(read(tmp_path, "tiny"))
    assert repr(report.pooled) == before
    assert {run.status for run in report.runs if run.run in {one.id for one in late}} == {"not needed"}
    left = Looks(plan(suite_file.load(path)), tmp_path)
    left.refresh()
    assert {left.state(run) for run in late} == {State.UNNEEDED}


def test_looks_that_change_after_a_run_has_begun_are_refused(tiny, tmp_path, data, started, capsys):
    train(tiny(**KEYS | {"looks": []}), tmp_path, "role=pilot")
    words = ["run", tiny(**KEYS), "--root", str(tmp_path), "--data", str(data), "--sync-every", "0"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "looks: [6, 12] differs from [], with which runs of" in said and said.count("\n") == 1
    sweep = SweepFolder(tmp_path, "tiny")
    for frozen in (sweep.suite, sweep.protocol):
        frozen.unlink()
    assert train(tiny(**KEYS), tmp_path, "seed=0") == 0
    with pytest.raises(ValueError, match=r"looks: \[6, 12\] differ from those of the suite, \[\]; a changed recipe"):
        sweep.freeze(plan(suite_file.load(tiny(**KEYS | {"looks": []}))))
    listing = json.loads(sweep.suite.read_text())
    sweep.suite.write_text(json.dumps(listing | {"looks": [7, 12]}))
    with pytest.raises(ValueError, match=r"looks: \[6, 12\] differ from those of suite.json, \[7, 12\]"):
        read(tmp_path, "tiny")


def test_looks_that_were_moved_are_refused_before_anything_starts(tiny, tmp_path, data, started, capsys):
    """`plan` and a dry run say the same as `run`."""
    train(tiny(**KEYS), tmp_path)
    path, where = tiny(**KEYS | {"looks": [7, 12]}), ["--root", str(tmp_path)]
    for words in (["plan", path], ["run", path, "--dry-run"], ["submit", path, "--cluster", "local", "--dry-run"]):
        assert cli.main([*words, *where]) == 2
        said = capsys.readouterr().err
        assert "looks: [7, 12] differs from [6, 12], with which runs of" in said and said.count("\n") == 1


def test_looks_for_which_there_are_no_levels_are_one_line(tiny, tmp_path, started):
    """However they came into the records."""
    train(tiny(**KEYS), tmp_path)
    sweep = SweepFolder(tmp_path, "tiny")
    for file in (sweep.suite, sweep.protocol):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"looks": [3, 6, 9, 12]}))
    with pytest.raises(ValueError, match=r"suite.json: looks: \[3, 6, 9, 12\]: there are levels for 2 or 3 looks"):
        build(read(tmp_path, "tiny"))


def test_an_added_arm_leaves_decided_ones_as_they_are(tiny, tmp_path, data, started, capsys):
    """Also before the first run of it, when no listing names it yet."""
    train(tiny(**KEYS | {"arms": ["none", "constant"]}), tmp_path)
    words = ["run", tiny(**KEYS | {"arms": ["none", "constant"]}), "--root", str(tmp_path), "--data", str(data)]
    assert cli.main([*words, "--arm", "inv_sqrt2", "--dry-run"]) == 0
    said = Counter((line.split()[0], "inv-sqrt2" in line) for line in capsys.readouterr().out.splitlines())
    assert said["missing", True] == 12 and not said["not", True] and not (tmp_path / "tiny" / "arms.json").exists()
    assert said["not", False] == 6, said


def test_where_no_cell_is_usable_all_looks_are_trained_and_nothing_is_decided(tiny, tmp_path, started, monkeypatch):
    """The pilots did not learn: there is no target band."""
    derive = bands.derive

    def unusable(results, looks):
        content = derive(results, looks)
        for cell in content["cells"].values():
            cell["usable"] = False
        return content

    monkeypatch.setattr(bands, "derive", unusable)
    assert train(tiny(**KEYS), tmp_path) == 0
    assert trained(started) == {"pilot": 3, "null": 6, "none": 12, "constant": 12, "inv_sqrt2": 12}
