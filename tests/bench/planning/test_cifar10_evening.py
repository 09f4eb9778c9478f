"""The suite cifar10-evening on drawn images: planned, trained for a moment, measured twice, and reported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import datasets
import reports
from bench.launching.sweep_folder import SweepFolder
from bench.planning.plan import plan
from bench.planning.suite_file import load
from bench.training.trainer import train_run
from datasets import Options

sys.path.append(str(Path(__file__).parents[2] / "datasets"))
import miniatures

SHORT = """
extends: cifar10-evening
trial: true
cells: [{dataset: cifar10-16, backbone: unet-xs-16}]
arms: [none, constant]
seeds: {paired: [0], pilots: []}
budget: 96
checkpoints: 1
evaluation: {count: 2, samples: 130, steps: 1}
"""


def test_there_are_36_runs_in_each_of_two_matched_cells():
    runs = plan(load("cifar10-evening"))
    for backbone in ("unet-xs-16", "uvit-xs-16"):
        roles = [run.role for run in runs if run.spec.backbone == backbone]
        assert len(roles) == 36 and [roles.count(role) for role in ("pilot", "null", "floor")] == [3, 6, 3]
    assert {run.spec.dataset for run in runs} == {"cifar10-16"}
    assert all(run.spec.evaluation.images[-1] == run.spec.budget for run in runs)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The root with the runs of a short version, and its data."""
    root = tmp_path_factory.mktemp("evening")
    (root / "source").mkdir()
    miniatures.cifar10(root / "source", per_batch=40)
    datasets.prepare("cifar10-16", root / "data", Options(root / "source", partial=True, workers=1))
    (root / "short.yaml").write_text(SHORT)
    suite = load(str(root / "short.yaml"))
    SweepFolder(root, suite.name).publish(suite, plan(suite))
    for run in plan(suite):
        train_run(run, root, root / "data")
    return root


def test_every_evaluation_has_both_distances_and_the_spread_of_means(swept):
    for path in (swept / "short").glob("*/events.jsonl"):
        start, *events = map(json.loads, path.read_text().splitlines())
        images = np.load(swept / "data" / "cifar10-16" / "images.npy") / 127.5 - 1
        assert start["mean_spread"] == pytest.approx(images.mean((1, 2, 3)).std(ddof=1), rel=1e-4)
        assert start["beside"]["small-conv"] != start["extractor_digest"]
        measured = [event for event in events if event["event"] == "eval"]
        assert len(measured) == 2
        for event in measured:
            assert event["fid"] > 0 and event["beside"]["small-conv"] > 0 and 0 < event["mean_spread"] < 1
            assert event["beside"]["small-conv"] != event["fid"]


def test_the_report_shows_the_further_distance(swept):
    page = reports.write(swept, "short").read_text()
    assert "Further distances" in page and "figure-beside-cifar10-16-unet-xs-16-small-conv" in page
    (row,) = json.loads((swept / "short" / "report" / "report.json").read_text())["beside"]
    assert (row["extractor"], row["evaluations"], row["ended"]) == ("small-conv", 4, 2) and -1 <= row["order"] <= 1
    assert 0 < row["data_spread"] < 1
