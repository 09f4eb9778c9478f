"""The MLflow run that groups the runs of a cell (dataset x backbone) and carries what the report says of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.tracking import store
from reports.records import reading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REPORT = "skipbench.report"  # tag: sha256 of the report.json that is in
NUMBERS = ("speedup", "low", "high")


def project_cell(client: MlflowClient, experiment: str, run: Run | None, suite: str, cell: str) -> str:
    """The id of the cell's run, created if there is none."""
    if run is None:
        dataset, _, backbone = cell.partition("/")
        tags = {store.NAME: f"cell {cell}", "suite": suite, "dataset": dataset, "backbone": backbone, "role": "cell"}
        run = client.create_run(experiment, tags=tags, run_name=f"{cell}: results")
    if run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def project_results(client: MlflowClient, parent: str, known: Run | None, report: Path, cell: str) -> None:
    """Speedups as metrics, the page, tables and figures as artifacts, once per version of report.json.

    MLflow cannot take a number back: what the report withholds now is named in the tag `withheld`. A report that is
    being written at this moment waits for the next pass.
    """
    path = report / "report.json"
    try:
        digest, content = hashlib.sha256(path.read_bytes()).hexdigest(), reading.read_json(path)
    except (FileNotFoundError, ValueError):
        return
    if known and known.data.tags.get(REPORT) == digest:
        return
    rows = [row for row in _rows(content) if row.get("cell") == cell]
    _log(client, parent, known.data.metrics if known else {}, rows, int(path.stat().st_mtime * 1000))
    for folder in ("tables", "figures"):
        if (report / folder).is_dir():
            client.log_artifacts(parent, str(report / folder), folder)
    if (report / "index.html").is_file():
        client.log_artifact(parent, str(report / "index.html"))
    withheld = "; ".join(f"{row.get('method')}: {row['withheld']}" for row in rows if row.get("withheld"))
    store.set_tags(client, parent, {"withheld": withheld or "nothing", REPORT: digest})


def project_links(client: MlflowClient, experiment: str, parent: str, known: dict[str, Run], cell: str) -> None:
    """Links on the cell's page to the curves of each pair's arms, of the runs that MLflow knew when the pass began."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    metric = "fid"
    for run in known.values():
        tags = run.data.tags
        if f"{tags.get('dataset')}/{tags.get('backbone')}" == cell and tags.get("role") in ("paired", "null"):
            pairs.setdefault(tags["pair"], []).append((tags["run"], run.info.run_id))
            metric = next((name for name in run.data.metrics if name.startswith("frechet_")), metric)
    links = [f"[seed {pair}]({_curves(experiment, [run for _, run in sorted(pairs[pair])], metric)})" for pair in sorted(pairs, key=int)]
    before = known.get(f"cell {cell}")
    text = f"Distance over images, arm against arm: {' · '.join(links)}"
    if links and (before is None or before.data.tags.get("mlflow.note.content") != text):
        store.set_tags(client, parent, {"mlflow.note.content": text})


def _curves(experiment: str, runs: list[str], metric: str) -> str:
    """MLflow's page with one metric of several runs, on a log axis."""
    words = {"runs": runs, "metric": metric, "experiments": [experiment], "plot_metric_keys": [metric]}
    query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in words.items())
    return f"#/metric?{query}&x_axis=step&y_axis_scale=log&line_smoothness=1&show_point=true"


def _rows(content: Any) -> list[dict]:
    """The comparisons of a report, whatever else is in it."""
    rows = content.get("comparisons") if isinstance(content, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _log(client: MlflowClient, parent: str, before: dict[str, float], rows: list[dict], stamp: int) -> None:
    """The numbers that differ from those that are there."""
    from mlflow.entities import Metric

    numbers = {f"{key} {_arm(row)}": reading.number(row.get(key))
               for row in rows if not row.get("withheld") for key in NUMBERS}
    points = [Metric(name, value, stamp, 0) for name, value in numbers.items()
              if math.isfinite(value) and before.get(name) != value]
    for start in range(0, len(points), 1000):
        client.log_batch(parent, metrics=points[start:start + 1000])


def _arm(row: dict) -> str:
    """A method's label in the letters that MLflow allows in the name of a metric."""
    return re.sub(r"[^\w\-. /:]", "_", str(row.get("method")), flags=re.ASCII).strip("_")
