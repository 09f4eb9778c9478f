"""Sample grids of a suite's runs, to be looked at: one of each arm in the page, and all of them on one sheet."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reports.records.suite_records import Records
from reports.report.tree import Report

SMALL = 640  # pixels: grids narrower than this are enlarged in the page
TILE, GAP = 200, 8  # pixels: the same on a sheet, and between its grids


@dataclass(frozen=True)
class Grid:
    """The last sample grid of the first paired seed of an arm in a cell."""

    cell: str
    method: str
    seed: int
    path: Path

    @property
    def images(self) -> str:
        """After how many training images it was drawn."""
        return f"{int(self.path.stem):,}"

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        out = io.BytesIO()
        enlarged(self.path, SMALL).save(out, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def grids(records: Records, report: Report) -> list[Grid]:
    """Those of every arm that has one, by cell and in the order of the arms."""
    found: dict[tuple[str, str], Grid] = {}
    for run in report.runs:
        pictures = sorted((records.folder / run.run / "samples").glob("*.png"))
        if run.role == "paired" and pictures and (run.cell, run.method) not in found:
            found[run.cell, run.method] = Grid(run.cell, run.method, run.seed, pictures[-1])
    return sorted(found.values(), key=lambda grid: (grid.cell, report.arms.index(grid.method)))


def sheet(records: Records, report: Report) -> bytes:
    """All grids in one PNG: a row for each cell, a column for each arm. ValueError if there are none."""
    tiles = {(one.cell, one.method): enlarged(one.path, TILE) for one in grids(records, report)}
    if not tiles:
        raise ValueError(f"samples: no sample grids in {records.folder}")
    cells = sorted({cell for cell, _ in tiles})
    width = max(tile.width for tile in tiles.values()) + GAP
    heights = {cell: max(tile.height for key, tile in tiles.items() if key[0] == cell) + GAP for cell in cells}
    whole = Image.new("RGB", (width * len(report.arms) - GAP, sum(heights.values()) - GAP), "white")
    for (cell, method), tile in tiles.items():
        top = sum(heights[one] for one in cells[: cells.index(cell)])
        whole.paste(tile.convert("RGB"), (width * report.arms.index(method), top))
    out = io.BytesIO()
    whole.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def enlarged(path: Path, pixels: int) -> Image.Image:
    """A picture; one of few pixels is made larger by the least whole number that brings it to so many."""
    with Image.open(path) as picture:
        times = -(-pixels // picture.width)
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
