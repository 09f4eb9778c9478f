"""Two sweeps of the same cells and arms: where do their conclusions differ, and is it more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as tests

from reports import formats, stats, words
from reports.build import build, encode, plain
from reports.records import read
from reports.table import Table


def compare_sweeps(root: Path | str, suite: str, other_root: Path | str, other: str, out: Path | str | None = None) -> Path:
    """Write index.html, sweeps.md, sweeps.csv, sweeps.tex and sweeps.json to `out` (default: ROOT/SUITE/against-OTHER); returns the page's path.

    ValueError, one line, if a sweep is not there or they have no comparison in common.
    """
    first, second = build(read(root, suite)), build(read(other_root, other))
    found = contrast(first, second)
    folder = Path(out) if out else Path(root) / suite / f"against-{other}"
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{suite} in {root}", f"{other} in {other_root}")
    content = plain({"first": names[0], "second": names[1], "verdict": verdict(found), "rows": found})
    table = tabulate(content)
    (folder / "sweeps.json").write_text(encode(content), encoding="utf-8")
    (folder / "sweeps.md").write_text(f"# {names[0]} against {names[1]}\n\n{content['verdict']}\n\n{table.markdown()}", encoding="utf-8")
    (folder / "sweeps.csv").write_text(table.csv(), encoding="utf-8")
    (folder / "sweeps.tex").write_text(table.latex(), encoding="utf-8")
    (folder / "index.html").write_text(_page(content, table), encoding="utf-8")
    return folder / "index.html"


def contrast(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per comparison that both reports have: both speedups and words, the ratio of the speedups, second over first,
    and its Holm p over the rows. On the same seeds the difference is paired; else it is Welch's."""
    theirs = {(c["cell"], c["method"]): c for c in second["comparisons"]}
    rows = [_row(c, theirs[c["cell"], c["method"]]) for c in first["comparisons"] if (c["cell"], c["method"]) in theirs]
    if not rows:
        raise ValueError(f"suites: {first['suite']!r} and {second['suite']!r} have no cell and method in common")
    corrected = stats.holm({str(i): row["p"] for i, row in enumerate(rows)})
    for i, row in enumerate(rows):
        row["p_holm"] = corrected[str(i)]
        row["differs"] = bool(row["p_holm"] < words.ALPHA)
    return rows


def _row(mine: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    a, b = ({pair["seed"]: math.log(pair["ratio"]) for pair in c.get("pairs", [])} if not c["withheld"] else {} for c in (mine, other))
    ratio, p, how = _difference(a, b)
    sides = [{"speedup": c.get("speedup"), "low": c.get("low"), "high": c.get("high"), "bound": c.get("bound", ""),
              "word": c["withheld"] or c["word"], "n": c["n"]} for c in (mine, other)]
    return {"cell": mine["cell"], "method": mine["method"], "first": sides[0], "second": sides[1], "same_word": sides[0]["word"] == sides[1]["word"],
            "ratio": {"value": ratio.value, "low": ratio.low, "high": ratio.high}, "p": p, "how": how, "runs": sorted({*mine["runs"], *other["runs"]})}


def _difference(a: dict[int, float], b: dict[int, float]) -> tuple[stats.Interval, float, str]:
    """The ratio of two speedups from their log ratios by seed: exp(mean b - mean a), its p, and how it was found."""
    common = sorted(a.keys() & b.keys())
    if len(common) >= words.INTERVAL_SEEDS:
        d = np.array([b[s] - a[s] for s in common])
        interval, p = stats.paired(d)
        return interval.exp(), p, "identical" if np.ptp(d) <= stats.SAME_NUMBER and abs(d[0]) <= stats.SAME_NUMBER else "paired by seed"
    if min(len(a), len(b)) < words.INTERVAL_SEEDS:
        return stats.Interval(), math.nan, "too few pairs"
    test = tests.ttest_ind(list(b.values()), list(a.values()), equal_var=False)
    ends = test.confidence_interval(1 - words.ALPHA)
    mean = float(np.mean(list(b.values())) - np.mean(list(a.values())))
    return stats.Interval(mean, float(ends.low), float(ends.high)).exp(), float(test.pvalue), "Welch"


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """What the rows say together."""
    words_differ, numbers_differ = sum(not r["same_word"] for r in rows), sum(r["differs"] for r in rows)
    identical = sum(r["how"] == "identical" for r in rows)
    return (f"{formats.plural(len(rows), 'comparison')} in common: {words_differ} with another word, {numbers_differ} with a speedup that differs by "
            f"more than noise (Holm p < .05), {identical} identical.")


def tabulate(content: dict[str, Any]) -> Table:
    """The rows as a table."""
    rows = [(r["cell"], r["method"], *(f"{formats.interval(r[side])} {r[side]['word']}" for side in ("first", "second")), formats.interval(r["ratio"]),
             formats.p(r["p_holm"]), _said(r)) for r in content["rows"]]
    return Table("sweeps", f"First: {content['first']}. Second: {content['second']}. Ratio: speedup of the second over the first, 95 % interval.",
                 ("cell", "method", "first", "second", "ratio", "Holm p", "difference"), rows)


def _said(row: dict[str, Any]) -> str:
    if row["how"] in ("identical", "too few pairs"):
        return row["how"]
    return ("more than noise" if row["differs"] else "within noise") + ("" if row["same_word"] else ", other word")


def _page(content: dict[str, Any], table: Table) -> str:
    from jinja2 import Environment

    from reports.page import HERE

    return Environment(autoescape=True).from_string(TEMPLATE).render(c=content, t=table, css=(HERE / "page.css").read_text(encoding="utf-8"))


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ c.first }} against {{ c.second }}</title><link rel="icon" href="data:,"><style>
{{ css | safe }}</style></head>
<body><h1>{{ c.first }} against {{ c.second }}</h1><p>{{ c.verdict }}</p><p class="caption">{{ t.caption }}</p>
<div class="wide"><table><thead><tr>{% for h in t.header %}<th scope="col">{{ h }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in t.rows %}<tr>{% for c in row %}<td data-label="{{ t.header[loop.index0] }}">{{ c }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></body></html>
"""
