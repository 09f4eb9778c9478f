"""What the run of a cell shows in MLflow."""

import json
import os
import re

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


def test_the_experiment_says_the_verdicts_and_links_to_views_once_per_report(root):
    report, uri = with_report(root), sync.default_uri(root)
    tree = json.loads((report / "report.json").read_text())
    tree["answers"] = [{"method": "learnable(r=4)", "verdict": "faster", "text": "1.25x [1.10, 1.40]. More."}]
    (report / "report.json").write_text(json.dumps(tree | {"question": "How many?"}))
    (report / "figures").mkdir()
    (report / "figures" / "forest.svg").write_text("<svg/>")
    sync.sync(root, "tiny")
    client, cell = MlflowClient(uri), by_run(uri)[CELL]
    tags = client.get_experiment_by_name("tiny").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    first, question, figure, links = tags["mlflow.note.content"].split("\n\n")
    assert first == "**learnable(r=4): faster**, 1.25x [1.10, 1.40]" and question == "How many?"
    artifact = f"get-artifact?path=figures%2Fforest.svg&run_uuid={cell.info.run_id}"
    assert figure == f"![Speedups: learnable(r=4) 1.25x (1.10, 1.40)]({artifact})"
    assert cell.data.tags["learnable_r_4: this cell"] == "1.25x [1.10, –]"
    assert cell.data.tags["learnable_r_4: all cells"] == "1.25x [1.10, 1.40], faster"
    for name in re.findall(r"viewStateShareKey=(\w+)", links):
        state = json.loads(json.loads(tags[f"mlflow.sharedViewState.{name}"])["state"])
        assert client.search_runs(["1"], state["searchFilter"]) or name != "cells"
        for tag in re.findall(r"tags\.`(.*?)`", " ".join(state["selectedColumns"])):
            assert name != "cells" or tag in cell.data.tags
    client.set_experiment_tag("1", "mlflow.note.content", "what somebody wrote")
    sync.sync(root, "tiny")
    assert client.get_experiment("1").tags["mlflow.note.content"] == "what somebody wrote"


def test_a_cell_lasts_from_its_first_start_to_its_last_event_and_names_its_data(root, second):
    sync.sync(root, "tiny")
    cell = by_run(sync.default_uri(root))[CELL]
    assert (cell.info.start_time, cell.info.end_time) == (1_000_000, 1_007_000)
    assert [one.dataset.name for one in cell.inputs.dataset_inputs] == ["digits"]
    write(second.folder(root), second.config, 9, done=True)
    sync.sync(root, "tiny")
    assert by_run(sync.default_uri(root))[CELL].info.end_time == 1_010_000


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
