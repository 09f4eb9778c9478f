"""The MLflow run of a cell (dataset x backbone): parent of the cell's runs, with the numbers of the report."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.tracking.store import NAME, Experiment
from reports.records.event_log import number
from reports.records.files import read_json

REPORT = "skipbench.report"  # tag: sha256 of the report.json that is stored
NOTE = "mlflow.note.content"  # tag: what MLflow shows as a run's description


def project_cell(experiment: Experiment, suite: str, cell: str) -> str:
    """The id of the cell's MLflow run, created if there is none."""
    run = experiment.runs.get(f"cell {cell}")
    if run is None:
        dataset, _, backbone = cell.partition("/")
        tags = {NAME: f"cell {cell}", "suite": suite, "dataset": dataset, "backbone": backbone, "role": "cell"}
        run = experiment.client.create_run(experiment.id, tags=tags, run_name=f"{cell}: results")
    if run.info.status != "FINISHED":
        experiment.client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def project_results(experiment: Experiment, parent: str, report: Path, cell: str) -> None:
    """Store the report's numbers as metrics and its files as artifacts, once per version of report.json.

    A number that is withheld now may stay from before, since MLflow deletes none: the tag `withheld` names it.
    """
    from mlflow.entities import Metric

    try:
        digest, rows = _read_report(report / "report.json", cell)
    except (FileNotFoundError, ValueError):  # not there, or being written: the next pass reads it
        return
    known = experiment.runs.get(f"cell {cell}")
    stored = known.data.metrics if known else {}
    if known and known.data.tags.get(REPORT) == digest:
        return
    time = int((report / "report.json").stat().st_mtime * 1000)
    new = []
    for row in (row for row in rows if not row.get("withheld")):
        arm = re.sub(r"[^A-Za-z0-9_\-. /:]", "_", str(row.get("method"))).strip("_")  # the letters that MLflow allows
        points = [Metric(f"{key} {arm}", number(row.get(key)), time, 0) for key in ("speedup", "low", "high")]
        new += [point for point in points if math.isfinite(point.value) and stored.get(point.key) != point.value]
    experiment.log(parent, new)
    experiment.client.log_artifacts(parent, str(report))
    withheld = "; ".join(f"{row.get('method')}: {row['withheld']}" for row in rows if row.get("withheld"))
    experiment.tag(parent, {"withheld": withheld or "nothing", REPORT: digest})


def _read_report(path: Path, cell: str) -> tuple[str, list[dict[str, Any]]]:
    """Digest of report.json, and its comparisons of a cell: method, speedup, low, high, withheld."""
    digest, content = hashlib.sha256(path.read_bytes()).hexdigest(), read_json(path)
    rows = content.get("comparisons") if isinstance(content, dict) else None
    rows = rows if isinstance(rows, list) else []
    found = [row for row in rows if isinstance(row, dict) and row.get("cell") == cell]
    return digest, [row | (row.get("result") or {}) for row in found]


def project_links(experiment: Experiment, parent: str, cell: str) -> None:
    """Link the cell's page to the curves of each pair's arms, of the runs that MLflow had when the pass began."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    metric = "fid"
    for run in experiment.runs.values():
        tags = run.data.tags
        if f"{tags.get('dataset')}/{tags.get('backbone')}" == cell and tags.get("role") in ("paired", "null"):
            pairs.setdefault(tags["pair"], []).append((tags["run"], run.info.run_id))
            metric = next((name for name in run.data.metrics if name.startswith("frechet_")), metric)
    links = []
    for pair in sorted(pairs, key=int):
        arms = [run for _, run in sorted(pairs[pair])]
        words = {"runs": arms, "metric": metric, "experiments": [experiment.id], "plot_metric_keys": [metric]}
        query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in words.items())
        links.append(f"[seed {pair}](#/metric?{query}&x_axis=step&y_axis_scale=log&line_smoothness=1&show_point=true)")
    note = {NOTE: f"Distance over images, arm against arm: {' · '.join(links)}"}
    known = experiment.runs.get(f"cell {cell}")
    if links and not (known and note.items() <= known.data.tags.items()):
        experiment.tag(parent, note)
