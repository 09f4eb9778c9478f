"""The self-contained page: no request leaves the browser."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import formats
from reports.figures import Figure
from reports.styles import style
from reports.table import Table

HERE = Path(__file__).parent
EVIDENCE = 40  # links to runs beside a claim


def render(report: Mapping[str, Any], tables: Sequence[Table], figures: Sequence[Figure], grids: Sequence[dict[str, str]]) -> str:
    """index.html from the content of report.json, its tables, its figures and the sample grids."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(figure.group, []).append(figure)
    return environment.get_template("page.html").render(
        r=report, t={table.name: table for table in tables}, f=groups, grids=grids, say=formats, evidence=EVIDENCE, measures=_measures(report),
        colours={method: style(method, report["arms"]).colour for method in report["arms"]}, css=(HERE / "page.css").read_text(encoding="utf-8"))


def _measures(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """How the distance was measured, in a sentence, with the cells that it holds for."""
    found: dict[str, list[str]] = {}
    for cell in report["cells"]:
        if m := cell["measure"]:
            noise = f"; one evaluation varies by {100 * cell['noise']:.1f} % over sampling seeds" if formats.finite(cell["noise"]) else ""
            text = (f"{m['name']} of {formats.count(m['samples'])} samples against {formats.count(m['reference_size'])} images, "
                    f"{m['sampler']} with {m['nfe']} function evaluations{noise}")
            found.setdefault(text, []).append(cell["cell"])
    return found


def grids(folder: Path, report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The last sample grid of the first paired seed of every arm that has one, as data URIs; the same noise in all of a cell."""
    found, seen = [], set()
    for run in sorted((r for r in report["runs"] if r["role"] == "paired"), key=lambda r: _order(report, r)):
        key = (run["cell"], run["method"])
        pictures = sorted((folder / run["run"] / "samples").glob("*.png")) if key not in seen else []
        if pictures:
            seen.add(key)
            data = base64.b64encode(pictures[-1].read_bytes()).decode()
            found.append({"cell": run["cell"], "method": run["method"], "seed": str(run["seed"]), "images": f"{int(pictures[-1].stem):,}",
                          "uri": f"data:image/png;base64,{data}"})
    return found


def _order(report: Mapping[str, Any], run: dict[str, Any]) -> tuple[int, int, int]:
    cells = [c["cell"] for c in report["cells"]]
    return cells.index(run["cell"]), report["arms"].index(run["method"]), report["seeds"]["paired"].index(run["seed"])
