"""Two sweeps of the same cells and arms: where do their conclusions differ, and is it more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as tests

from reports import formats, stats, words
from reports.build import build, encode, plain
from reports.records.suite_records import read
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
    content = plain({"first": names[0], "second": names[1], "verdict": verdict(found) + moved(first, second), "rows": found})
    table = tabulate(content)
    (folder / "sweeps.json").write_text(encode(content), encoding="utf-8")
    (folder / "sweeps.md").write_text(f"# {names[0]} against {names[1]}\n\n{content['verdict']}\n\n{table.markdown()}", encoding="utf-8")
    (folder / "sweeps.csv").write_text(table.csv(), encoding="utf-8")
    (folder / "sweeps.tex").write_text(table.latex(), encoding="utf-8")
    (folder / "index.html").write_text(_page(content, table), encoding="utf-8")
    return folder / "index.html"


def contrast(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per arm over its cells, and one per cell and arm, as far as both reports have them: both speedups and words, the
    ratio of the speedups, second over first, and its Holm p over the rows. On the same seeds the difference is paired; else
    it is Welch's. Words of a miniature suite say so."""
    theirs = {(c["cell"], c["method"]): c for c in second["comparisons"]}
    both = [(c, theirs[c["cell"], c["method"]]) for c in first["comparisons"] if (c["cell"], c["method"]) in theirs]
    if not both:
        raise ValueError(f"suites: {first['suite']!r} and {second['suite']!r} have no cell and method in common")
    scales = first["scale"], second["scale"]
    pooled = {p["method"]: p for p in second["pooled"]}
    rows = [_over_cells(p, pooled[p["method"]], both, scales) for p in first["pooled"] if p["method"] in pooled]
    rows += [_row(*pair, scales) for pair in both]
    corrected = stats.holm({str(i): row["p"] for i, row in enumerate(rows)})
    for i, row in enumerate(rows):
        row["p_holm"] = corrected[str(i)]
        row["differs"] = bool(row["p_holm"] < words.ALPHA)
    return rows


Difference = tuple[stats.Interval, float, str]  # ratio of two speedups, its p, how it was found
Pair = tuple[dict[str, Any], dict[str, Any]]  # the same comparison in both reports


def _row(mine: dict[str, Any], other: dict[str, Any], scales: tuple[str, str]) -> dict[str, Any]:
    """One arm in one cell."""
    return _told(mine["cell"], mine, other, _difference(_logs(mine), _logs(other)), scales)


def _over_cells(mine: dict[str, Any], other: dict[str, Any], both: Sequence[Pair], scales: tuple[str, str]) -> dict[str, Any]:
    """One arm over the cells that have a headline in both."""
    those = [(_logs(a), _logs(b)) for a, b in both if a["method"] == mine["method"] and a["cell"] in mine["cells"] and b["cell"] in other["cells"]]
    return _told("over cells", mine, other, _pooled(those), scales)


def _told(cell: str, mine: dict[str, Any], other: dict[str, Any], difference: Difference, scales: tuple[str, str]) -> dict[str, Any]:
    ratio, p, how = difference
    sides = [{"speedup": c.get("speedup"), "low": c.get("low"), "high": c.get("high"), "bound": c.get("bound", ""),
              "word": c.get("withheld") or formats.scaled(c["word"], scale), "n": c["n"]} for c, scale in zip((mine, other), scales, strict=True)]
    return {"cell": cell, "method": mine["method"], "first": sides[0], "second": sides[1], "same_word": sides[0]["word"] == sides[1]["word"],
            "ratio": {"value": ratio.value, "low": ratio.low, "high": ratio.high}, "p": p, "how": how, "runs": sorted({*mine["runs"], *other["runs"]})}


def _logs(row: dict[str, Any]) -> dict[int, float]:
    """Log ratios of a comparison by seed; none where it has no headline."""
    return {pair["seed"]: math.log(pair["ratio"]) for pair in row.get("pairs", [])} if not row["withheld"] and formats.finite(row.get("speedup")) else {}


def _pooled(cells: Sequence[tuple[dict[int, float], dict[int, float]]]) -> Difference:
    """The mean over cells of the differences of log ratios, equal weights, Satterthwaite's degrees of freedom."""
    groups = [group for a, b in cells for group in _groups(a, b)]
    if not groups:
        return stats.Interval(), math.nan, "too few pairs"
    one = stats.satterthwaite(*zip(*((*stats.moments(group), len(group)) for group in groups), strict=True))
    part = len(groups) / len(cells)  # a cell without common seeds comes as two groups
    whole = stats.Mean(one.value * part, one.error * part, one.df)
    return whole.interval().exp(), _sure(whole.p(), whole.value), _how(whole.error, whole.value, "pooled")


def _groups(a: dict[int, float], b: dict[int, float]) -> list[NDArray]:
    """Independent groups whose means add up to mean b - mean a: one on common seeds, else two; none of fewer than three values."""
    common = sorted(a.keys() & b.keys())
    found = [np.array([b[s] - a[s] for s in common])] if len(common) >= words.INTERVAL_SEEDS else [np.array([*b.values()]), -np.array([*a.values()])]
    return found if min(map(len, found)) >= words.INTERVAL_SEEDS else []


def _sure(p: float, mean: float) -> float:
    """p; without variance a difference is no chance."""
    return p if math.isfinite(p) else float(abs(mean) <= stats.SAME_NUMBER)


def _how(spread: float, mean: float, how: str) -> str:
    return "identical" if spread == 0 and abs(mean) <= stats.SAME_NUMBER else how


def _difference(a: dict[int, float], b: dict[int, float]) -> Difference:
    """The ratio of two speedups from their log ratios by seed: exp(mean b - mean a), its p, and how it was found."""
    common = sorted(a.keys() & b.keys())
    if len(common) >= words.INTERVAL_SEEDS:
        d = np.array([b[s] - a[s] for s in common])
        (interval, p), (mean, sd) = stats.paired(d), stats.moments(d)
        return interval.exp(), _sure(p, float(mean)), _how(float(sd), float(mean), "paired by seed")
    if min(len(a), len(b)) < words.INTERVAL_SEEDS:
        return stats.Interval(), math.nan, "too few pairs" if a and b else "no headline"
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


def moved(first: dict[str, Any], second: dict[str, Any]) -> str:
    """The cells whose frozen targets differ, so that their speedups are to different distances; "" if none."""
    theirs = {c["cell"]: c["target"] for c in second["cells"]}
    found = [f"{c['cell']} ({formats.significant(c['target'], 4)} and {formats.significant(theirs[c['cell']], 4)})" for c in first["cells"]
             if c["cell"] in theirs and not _same(c["target"], theirs[c["cell"]])]
    return f" Targets differ: {', '.join(found)}." if found else ""


def _same(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9)


def tabulate(content: dict[str, Any]) -> Table:
    """The rows as a table."""
    rows = [(r["cell"], r["method"], *(f"{formats.interval(r[side])} {r[side]['word']}" for side in ("first", "second")), formats.interval(r["ratio"]),
             formats.p(r["p_holm"]), _said(r)) for r in content["rows"]]
    return Table("sweeps", f"First: {content['first']}. Second: {content['second']}. Ratio: speedup of the second over the first, 95 % interval.",
                 ("cell", "method", "first", "second", "ratio", "Holm p", "difference"), rows)


def _said(row: dict[str, Any]) -> str:
    said = row["how"] if row["how"] in ("identical", "too few pairs", "no headline") else "more than noise" if row["differs"] else "within noise"
    return said + ("" if row["same_word"] else ", other word")


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
