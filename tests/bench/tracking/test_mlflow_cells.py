"""What the run of a cell shows in MLflow."""

import os

import pytest
from mlflow import MlflowClient
from projected import CELL, by_run, content, histories, planned, with_report, write

from bench.tracking import sync


def test_results_of_a_cell_become_metrics_once(root):
    report, uri = with_report(root), sync.default_uri(root)
    sync.sync(root, "tiny")
    cell = by_run(uri)[CELL]
    assert cell.data.metrics == {"speedup learnable_r_4": 1.25, "low learnable_r_4": 1.1}
    assert cell.data.tags["withheld"] == "A/A: gate failed"
    assert content(root)[2][CELL] == ["index.html", "report.json", "tables/speedup.md"]
    (report / "report.json").write_text((report / "report.json").read_text() + "\n")  # written again, same numbers
    os.utime(report / "report.json", (9e8, 9e8))
    sync.sync(root, "tiny")
    assert len(histories(uri)[CELL, "speedup learnable_r_4"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"comparisons": [',
        "[]",
        '{"comparisons": [null, {"cell": "digits/uvit-xs", "method": 3, "speedup": "inf"}]}',
    ],
)
def test_a_report_that_is_half_written_or_strange_is_no_error(root, text):
    (with_report(root) / "report.json").write_text(text)
    sync.sync(root, "tiny")
    assert by_run(sync.default_uri(root))[CELL].data.metrics == {}


def test_a_cell_links_to_the_curves_of_each_pair(root):
    """Of the runs that were there when the pass began: the second pass knows them."""
    for run in planned(root):
        if run.pair in (0, 1):
            write(run.folder(root), run.config, 3, done=True)
    for _ in range(2):
        sync.sync(root, "tiny")
    client = MlflowClient(sync.default_uri(root))
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (cell,) = client.search_runs([experiment], "tags.role = 'cell'")
    first, second = cell.data.tags["mlflow.note.content"].split("[seed 1]")
    arms = [run for run in client.search_runs([experiment]) if run.data.tags["role"] in ("paired", "null")]
    assert "[seed 0](#/metric?runs=" in first and "metric=%22frechet_small-conv%22" in first
    assert len(arms) == 6  # two pairs of two arms and a null run
    for run in arms:
        assert run.info.run_id in (first if run.data.tags["pair"] == "0" else second)
