"""The self-contained page: no request leaves the browser."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from reports import sentences
from reports.tables import Table

TEMPLATE = Path(__file__).parent / "page.html"


def render(report: dict[str, Any], tables: list[Table], figures: dict[str, str], grids: list[dict[str, str]]) -> str:
    """index.html from the content of report.json, its tables, its figures (SVG) and sample grids (`grids`)."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(r=report, t={table.name: table for table in tables}, f=figures, grids=grids, say=sentences)


def grids(folder: Path, report: dict[str, Any]) -> list[dict[str, str]]:
    """The last sample grid of the first paired seed of every arm, as data URIs; the same noise in all of them."""
    found, seen = [], set()
    for run in report["runs"]:
        key = (run["cell"], run["method"])
        pictures = sorted((folder / run["run"] / "samples").glob("*.png")) if run["role"] == "paired" else []
        if key in seen or not pictures:
            continue
        seen.add(key)
        data = base64.b64encode(pictures[-1].read_bytes()).decode()
        found.append({"cell": run["cell"], "method": run["method"], "seed": str(run["seed"]), "images": f"{int(pictures[-1].stem):,}",
                      "uri": f"data:image/png;base64,{data}"})
    return found
