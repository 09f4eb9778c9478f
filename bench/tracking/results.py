"""What MLflow shows of a suite beside its training runs: a run per cell with the report's numbers, the experiment's
description with the verdicts, and saved views of the table of runs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.tracking.store import MODELS, NAME, NOTE, Experiment
from reports.records.suite_records import CellRecord, SuiteRecord
from reports.report.formats import interval

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

REPORT = "skipbench.report"  # tag: sha256 of the report.json that is stored
CURVES = "x_axis=step&y_axis_scale=log&line_smoothness=1&show_point=true"  # how MLflow draws them
VIEW = "mlflow.sharedViewState."  # how the tag of a saved view begins; its name goes into addresses
NO_BRACKETS = str.maketrans("[]", "()")  # Markdown's own
WIDTHS = {": all cells`": 310, ": this cell`": 140}  # pixels of columns, by the end of their name; others 120
HERE, OVERALL = "{}: this cell", "{}: all cells"  # tags of a cell's run: what is found of an arm


def project_cell(experiment: Experiment, suite: str, cell: CellRecord, start: dict[str, Any], end: float) -> str:
    """The id of the cell's MLflow run, created if there is none. start: the start event of its first run; end: the time
    of the last event of all."""
    run, last = experiment.runs.get(f"cell {cell.name}"), int(1000 * end)
    if run is None:
        tags = {NAME: f"cell {cell.name}", "suite": suite, "dataset": cell.dataset, "backbone": cell.backbone}
        name, began = f"{cell.name}: results", int(1000 * start["time"])
        run = experiment.client.create_run(experiment.id, began, tags | {"role": "cell"}, name)
    if not (run.inputs and run.inputs.dataset_inputs):
        experiment.client.log_inputs(run.info.run_id, [dataset(cell.dataset, start)])
    if (run.info.status, run.info.end_time) != ("FINISHED", last):
        experiment.client.set_terminated(run.info.run_id, "FINISHED", last)
    return str(run.info.run_id)


def dataset(name: str, start: dict[str, Any]) -> DatasetInput:
    """A dataset as MLflow shows it, from what a start event says of it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    known = {"num_rows": start.get("data_images"), "reference_images": start.get("reference_size")}
    facts = json.dumps({"digest": start.get("data_digest"), **known})
    found = Dataset(name, str(start.get("data_digest"))[:32], "local", json.dumps({"name": name}), profile=facts)
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])


def metric_name(key: str, extractor: str) -> str:
    """What MLflow calls the distance `fid` or `kid` of an event: so only if it is Inception's."""
    return key if extractor == "inception" else f"{key.replace('fid', 'frechet').replace('kid', 'kernel')}_{extractor}"


def read_report(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The digest of a report and its tree; None if there is none, or none that is whole."""
    try:
        text = (folder / "report.json").read_bytes()
        content = json.loads(text)
        assert all(isinstance(row["cell"], str) for row in content["comparisons"])
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        AssertionError,
    ):  # being written: the next pass reads it
        return None
    return hashlib.sha256(text).hexdigest(), content


def project_results(experiment: Experiment, parent: str, report: Path, cell: str) -> None:
    """Store the report's numbers and files, once per version; the tag `withheld` names those that are not valid now."""
    from mlflow.entities import Metric

    path, known = report / "report.json", experiment.runs.get(f"cell {cell}")
    if (found := read_report(report)) is None or (known and known.data.tags.get(REPORT) == found[0]):
        return
    digest, tree = found
    rows, time = [row for row in tree["comparisons"] if row["cell"] == cell], int(path.stat().st_mtime * 1000)
    tags = {
        "withheld": "; ".join(f"{row['method']}: {row['withheld']}" for row in rows if row["withheld"]) or "nothing"
    }
    stored, new = known.data.metrics if known else {}, []
    for row in rows:
        if (result := row["result"]) and not row["withheld"]:
            arm = _letters(row["method"])
            tags[HERE.format(arm)] = interval(SimpleNamespace(**result))
            numbers = {f"{key} {arm}": result[key] for key in ("speedup", "low", "high")}
            new += [Metric(key, x, time, 0) for key, x in numbers.items() if x is not None and stored.get(key) != x]
    for answer in tree.get("answers", []):
        tags[OVERALL.format(_letters(answer["method"]))] = f"{answer['text'].partition('. ')[0]}, {answer['verdict']}"
    experiment.client.log_batch(parent, metrics=new)
    experiment.client.log_artifacts(parent, str(report))
    experiment.tag(parent, tags | {REPORT: digest})


def _letters(method: str) -> str:
    """A method by the letters that MLflow allows in names."""
    return re.sub(r"[^A-Za-z0-9_\-. /:]", "_", method).strip("_")


def project_links(experiment: Experiment, parent: str, cell: str, metric: str) -> None:
    """Link the cell's page to the curves of each pair's arms, of the runs that MLflow had when the pass began."""
    pairs: dict[int, list[tuple[str, str]]] = {}
    for run in experiment.runs.values():
        tags = run.data.tags
        if f"{tags.get('dataset')}/{tags.get('backbone')}" == cell and tags.get("role") in ("paired", "null"):
            pairs.setdefault(int(tags["pair"]), []).append((tags["run"], run.info.run_id))
    links = []
    for pair, runs in sorted(pairs.items()):
        arms = [run for _, run in sorted(runs)]
        words = {"runs": arms, "metric": metric, "experiments": [experiment.id], "plot_metric_keys": [metric]}
        query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in words.items())
        links.append(f"[seed {pair}](#/metric?{query}&{CURVES})")
    note, known = f"Distance over images, arm against arm: {' · '.join(links)}", experiment.runs.get(f"cell {cell}")
    if links and not (known and known.data.tags.get(NOTE) == note):
        experiment.tag(parent, {NOTE: note})


def describe(experiment: Experiment, suite: SuiteRecord, report: Path, parent: str, metric: str) -> None:
    """The description of the experiment, verdicts first, since MLflow folds the rest, and the views that it links to;
    once per version of the report, so that what somebody writes there stays. parent: a run that has the report's files;
    metric: what runs are measured by."""
    digest, tree = read_report(report) or ("", {})
    if experiment.tags.get(REPORT, "none") == digest:
        return
    runs_page, figure = f"#/experiments/{experiment.id}/runs", "figures/forest.svg"
    view = f"{runs_page}?{MODELS}&viewStateShareKey"
    answers = [(one["method"], one["verdict"], one["text"].partition(". ")[0]) for one in tree.get("answers", [])]
    said = " · ".join(f"**{method}: {verdict}**, {number}" for method, verdict, number in answers)
    lines = [said or suite.title, tree.get("question", "")]
    if (report / figure).is_file():
        told = "; ".join(f"{method} {number}" for method, _, number in answers).translate(NO_BRACKETS)
        lines += [f"![Speedups: {told}](get-artifact?path={quote(figure, safe='')}&run_uuid={parent})"]
    links = {"Cells and verdicts": f"{view}=cells", "Arms": f"{view}=arms"}
    links |= {"Curves": f"{view}=curves&compareRunsMode=CHART"}
    links |= {"The report": f"{runs_page}/{parent}/artifacts/index.html"} if tree else {}
    lines += [" · ".join(f"[{words}]({link})" for words, link in links.items())]
    arms = [_letters(arm) for arm in suite.arms if arm != suite.baseline]
    texts = [f"tags.`{form.format(arm)}`" for form in (OVERALL, HERE) for arm in arms]
    metrics = [f"metrics.`{name}`" for name in (metric, "loss", "train_seconds")]
    names = [f"tags.`{key}`" for key in ("method", "backbone", "seed")]
    groups = [{"mode": "tag", "groupByData": key} for key in ("method", "backbone", "dataset")]
    views = {"cells": _view("Cells and verdicts", "cell", [*texts, "attributes.`Dataset`"])}
    views |= {"arms": _view("Arms, run by run", "paired", [*names, *metrics], orderByKey=names[0], orderByAsc=True)}
    grouped = {"aggregateFunction": "average", "groupByKeys": groups}
    views |= {"curves": _view("Curves of arms, mean over seeds", "paired", metrics, groupBy=grouped)}
    note = {NOTE: "\n\n".join(filter(None, lines))}
    experiment.describe(note | {VIEW + name: view for name, view in views.items()} | {REPORT: digest})


def _view(name: str, role: str, columns: list[str], **more: Any) -> str:
    """A saved view of the runs of a role, as MLflow stores one in a tag: the named columns first."""
    state = {"searchFilter": f'tags.role = "{role}"', "runsHiddenMode": "SHOW_ALL", "selectedColumns": columns, **more}
    widths = {one: next((pixels for end, pixels in WIDTHS.items() if one.endswith(end)), 120) for one in columns}
    return json.dumps(
        {"name": name, "createdAt": 0, "state": json.dumps(state | {"columnOrder": columns, "columnWidths": widths})}
    )
