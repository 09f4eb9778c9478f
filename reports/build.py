"""From records to the content of report.json (see `schema`): every number of the tables and the page comes from here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reports import claims, gates, made, reference, sentences
from reports.arms import Arm, arms
from reports.cells import bands, cell, profile, run_row
from reports.comparison import Comparison
from reports.pooled import null_test, pool
from reports.records.reading import PROTOCOL
from reports.records.suite_records import Records
from reports.schema import SCHEMA, Report
from reports.stability import stability


def build(records: Records, own_baseline: bool = True) -> Report:
    """The whole report as plain data. The paper's claims are judged against the suite's own baseline only."""
    failed = gates.failures(records)
    cells = [cell(records, name) for name in records.cells]
    compared = [arm for one in cells for arm in arms(records, one, failed)]
    runs = [run_row(records, entry) for entry in records.suite["runs"]]
    usable = {c["cell"] for c in cells if not c["label"] and not any(f.cell == c["cell"] and f.method != gates.NULL for f in failed)}
    content = {
        "schema": SCHEMA, "protocol": PROTOCOL, "suite": records.name, "title": records.suite["title"], "scale": records.suite["scale"],
        "baseline": records.baseline, "null_method": next((r["method"] for r in runs if r["role"] == "null"), records.baseline),
        "arms": records.suite["arms"], "seeds": records.suite["seeds"], "cells": cells, "comparisons": [arm.row for arm in compared],
        "pooled": _pooled(records, compared), "aa": _null(compared), "curves": [band for name in records.cells for band in bands(records, name, failed)],
        "profile": profile(runs, records.suite["arms"], usable),
        "gates": [{"gate": name, "rule": gate.rule, "failed": sum(f.gate == name for f in failed)} for name, gate in gates.GATES.items()],
        "failures": [asdict(f) | {"text": str(f)} for f in failed],
        "missing": records.missing, "diverged": [r["run"] for r in runs if r["status"] == "diverged"], "runs": runs,
        "matching": made.matching(records), "claims": claims.judge(records, cells, compared) if own_baseline else [],
        "stability": stability(records), "made": made.made(records),
    }
    content["reference"] = reference.agreement(plain(content), reference.load(records.name)) if own_baseline else reference.agreement({}, None)
    return plain(content | {"banner": sentences.banner(content), "verdicts": sentences.verdicts(content)})


def _pooled(records: Records, compared: Sequence[Arm]) -> list[dict]:
    """Every arm over its cells; one with a failed gate, a flat target or too small a budget does not enter."""
    methods = [method for method in records.suite["arms"] if method != records.baseline]
    mine = {method: [arm for arm in compared if arm.row["role"] == "paired" and arm.row["method"] == method] for method in methods}
    found = pool({method: _results([arm for arm in those if arm.pools]) for method, those in mine.items()})
    return [{"method": method, **asdict(one), "left_out": [arm.row["cell"] for arm in mine[method] if arm.row["cell"] not in one.cells],
             "runs": _runs(mine[method], one.cells)} for method, one in found.items()]


def _null(compared: Sequence[Arm]) -> dict:
    """The A/A test over the cells; no failed gate hides a whole test, only its cell."""
    mine = [arm for arm in compared if arm.row["role"] == "null" and arm.pools]
    found = null_test(_results(mine))
    return asdict(found) | {"runs": _runs(mine, found.cells)}


def _results(those: Sequence[Arm]) -> Mapping[str, Comparison]:
    return {arm.row["cell"]: arm.result for arm in those if arm.result is not None}


def _runs(those: Sequence[Arm], cells: Sequence[str]) -> list[str]:
    return sorted({run for arm in those if arm.row["cell"] in cells for run in arm.row["runs"]})


def plain(value: Any) -> Any:
    """Strict JSON: numbers of numpy as Python's, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def encode(report: Mapping[str, Any]) -> str:
    """JSON with one line per entry, so that two reports can be compared line by line."""
    def lines(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join("  " + json.dumps(item, allow_nan=False, ensure_ascii=False) for item in value) + "\n ]"
        return json.dumps(value, allow_nan=False, ensure_ascii=False)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {lines(value)}" for key, value in report.items()) + "\n}\n"
