"""Records of a suite: what is refused, in one line that says how to go on."""

import json
import shutil

import pytest
import synthetic

import reports
from reports.records.suite_records import read


@pytest.fixture
def folder(tmp_path):
    return synthetic.suite(tmp_path, {"constant": 1.2}, cells=("digits/uvit-xs",))


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _frozen(folder, **changes):
    cells = json.loads((folder / "protocol.json").read_text())["cells"]
    cells["digits/uvit-xs"] |= changes
    _edit(folder / "protocol.json", cells=cells)


def _break(run):
    (run / "result.json").unlink()
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    (run / "events.jsonl").write_bytes(b"".join([*lines[:2], b'{"event": "ev\n', *lines[3:]]))


def _pilot(folder):
    return synthetic.find(folder, "none", 100)


GO_ON = "move the folder away or use another --root, then run the suite again"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (_pilot(f) / "result.json").write_text("{"), "result.json: not JSON"),
        (
            lambda f: _edit(f / "suite.json", protocol=1),
            f"suite.json: protocol version 1, this reader knows 2: {GO_ON}",
        ),
        (
            lambda f: _edit(f / "protocol.json", version=1),
            f"protocol.json: protocol version 1, this reader knows 2: {GO_ON}",
        ),
        (
            lambda f: _edit(_pilot(f) / "config.json", protocol=1),
            f"config.json: protocol version 1, this reader knows 2: {GO_ON}",
        ),
        (lambda f: _edit(_pilot(f) / "result.json", seed=7), "seed is 7, suite.json says 100"),
        (lambda f: [shutil.rmtree(p) for p in f.iterdir() if p.is_dir()], "has no run in"),
        (lambda f: _break(_pilot(f)), "events.jsonl: line 3 is broken"),
        (lambda f: (f / "suite.json").write_text("[]"), "suite.json: .*Input should be a valid dictionary"),
        (lambda f: _edit(f / "suite.json", runs=7), "suite.json: runs: '7': Input should be a valid tuple"),
        (lambda f: _edit(f / "suite.json", cells=[{}]), r"suite.json: cells.0.dataset: .*Field required"),
        (
            lambda f: _edit(f / "suite.json", scale="huge"),
            "suite.json: scale: 'huge': Input should be 'mini' or 'full'",
        ),
        (
            lambda f: _edit(f / "protocol.json", cells=None),
            "protocol.json: lacks the object 'cells'",
        ),
        (lambda f: (f / "protocol.json").write_text('{"version": 2}'), "protocol.json: lacks the object 'cells'"),
        (
            lambda f: _edit(f / "protocol.json", cells={"a/b": {}}),
            "protocol.json: cells.a/b.: lacks 'pilots'",
        ),
        (lambda f: _frozen(f, pilots=7), "protocol.json: digits/uvit-xs: pilots: '7': Input should be"),
        (
            lambda f: _frozen(f, pilots=["a", "b", "c"]),
            "protocol.json: pilots: the target bands were frozen from other pilots than those of suite.json, a among",
        ),
        (lambda f: _frozen(f, levels="x"), "protocol.json: digits/uvit-xs: levels: 'x'"),
        (lambda f: _frozen(f, top="x"), "protocol.json: digits/uvit-xs: top: 'x'"),
        (
            lambda f: _edit(_pilot(f) / "result.json", evaluations=3),
            "result.json: evaluations: '3': Input should be",
        ),
        (
            lambda f: _edit(_pilot(f) / "result.json", seconds=None),
            "result.json: seconds: 'None': Input should be a valid number",
        ),
        (
            lambda f: _edit(_pilot(f) / "result.json", evaluations=[{"images": 1, "seconds": 1}]),
            "evaluations.0.fid: .*Field required",
        ),
        (
            lambda f: _edit(_pilot(f) / "result.json", pair=1.5),
            "result.json: pair: '1.5': Input should be a valid integer",
        ),
        (lambda f: (_pilot(f) / "result.json").write_text("[1]"), "result.json: .*Input should be a valid dictionary"),
        (
            lambda f: _edit(_pilot(f) / "config.json", hash="0"),
            "config.json says '0': records of another configuration",
        ),
        (lambda f: _edit(_pilot(f) / "result.json", spec={}), "spec.evaluation: 'None': Input should be a dictionary"),
    ],
)
def test_bad_records_are_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        reports.write(folder.parent, "s")
    assert "\n" not in str(caught.value)


def test_seeds_that_are_not_listed_count_as_none(folder):
    content = json.loads((folder / "suite.json").read_text())
    _edit(folder / "suite.json", seeds={"paired": content["seeds"]["paired"], "pilots": [100]})
    seeds = read(folder.parent, "s").suite.seeds
    assert (seeds.floor, seeds.null, seeds.tuning, seeds.pilots) == ((), (), (), (100,))


def test_runs_are_found_by_role_with_their_pairs(folder):
    records = read(folder.parent, "s")
    floor = records.found("digits/uvit-xs", "floor")
    assert [(run.method, run.seed, run.pair) for run in floor] == [("none", k, k) for k in range(synthetic.FLOORS)]
    assert len(records.found("digits/uvit-xs", "paired")) == 12 and records.missing == []


def test_no_suite(tmp_path):
    with pytest.raises(ValueError, match=r"suite: 'none' has no runs in .*; start it with: python -m bench run none"):
        reports.load(tmp_path, "none")
