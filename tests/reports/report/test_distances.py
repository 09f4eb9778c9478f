"""Further distances: their curves, whether they order the networks alike, and the spread of image means."""

import json

import pytest
import synthetic

import reports
from reports.records.suite_records import read
from reports.report import page
from reports.report.build import build

CELL = "digits/uvit-xs"


def built(root, further=None):
    """The report of a suite in which `further` makes the distance under cifar-net from the suite's own."""
    folder = synthetic.suite(root, {"constant": 1.3}, n=2, cells=[CELL])
    for path in synthetic.runs_of(folder) if further else ():
        log = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
        log[0] |= {"beside": {"cifar-net": "a" * 64}, "mean_spread": 0.26}
        for event in (event for event in log if event["event"] == "eval"):
            event |= {"beside": {"cifar-net": further(event["fid"])}, "mean_spread": 0.3}
        synthetic.write_run(folder, json.loads((path / "config.json").read_text()), log)
    return build(read(root, folder.name))


@pytest.mark.parametrize(("further", "order"), [(lambda fid: fid**0.5, 1), (lambda fid: 1 / fid, -1)])
def test_the_order_of_all_evaluations_and_of_the_last(tmp_path, further, order):
    report = built(tmp_path, further)
    (row,) = report.beside
    assert (row.cell, row.extractor, row.digest) == (CELL, "cifar-net", "a" * 64)
    assert row.order == row.last == pytest.approx(order) and row.evaluations == row.ended * len(synthetic.IMAGES)
    assert row.ended == len(row.runs) == len(report.runs)
    assert (row.spread, row.data_spread) == (0.3, 0.26)


def test_its_curves_are_those_of_the_arms_and_the_spread_stands_beside_the_datasets(tmp_path):
    report = built(tmp_path, lambda fid: 2 * fid)
    lines = {(line.what, line.method): line for line in report.lines}
    for arm in report.arms:
        assert lines["beside", arm].cell == f"{CELL}, cifar-net"
        assert lines["beside", arm].middle == pytest.approx([2 * y for y in lines["distance", arm].middle], rel=1e-4)
    assert set(lines["spread", "dataset"].middle) == {0.26} and set(lines["spread", "none"].middle) == {0.3}


def test_a_distance_that_is_not_finite_is_left_out(tmp_path):
    (row,) = built(tmp_path, lambda fid: "nan" if fid < 200 else fid).beside
    assert row.order == pytest.approx(1) and 0 < row.evaluations < len(row.runs) * len(synthetic.IMAGES)


def test_the_section_is_there_where_there_are_further_distances(tmp_path):
    for name, further in (("plain", None), ("more", lambda fid: fid)):
        report = built(tmp_path / name, further)
        written = page.write(report, read(tmp_path / name, "s"), tmp_path / name / "out").read_text()
        assert ("Further distances" in written) == bool(further) == bool(report.beside)
    assert "figure-beside-digits-uvit-xs-cifar-net" in written and "figure-spread-digits-uvit-xs" in written
    assert "Further distances" in (tmp_path / "more" / "out" / "report.md").read_text()
    assert not reports.check(tmp_path / "more", "s")
