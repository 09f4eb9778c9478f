"""Claims of the paper as data (claims.yaml), published figures beside them (published.yaml), and what a suite says of each."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.arms import Arm
from reports.claim_tests import RULES, TESTS, tested
from reports.evidence import Evidence, Finding
from reports.records.suite_records import Records

HERE = Path(__file__).parent
TAGS = {"V": "published", "C": "computed", "U": "unverified"}
KEYS = ("id", "claim", "source", "tag", "suite", "test")
NEEDS = {"speedup": ("number", "methods"), "final": ("methods",), "order": ("order",), "same": ("order",), "tuned": ("methods",),
         "range": ("method", "parameter", "least", "most", "default"), "parameters": ("most", "methods"), "time": ("most", "methods"),
         "probe": ("probe", "methods"),
         "probe_range": ("probe", "method", "parameter", "least", "most", "default"), "growth": ("methods",), "bounded": ("most", "methods")}


def load(path: Path = HERE / "claims.yaml", figures: Path = HERE / "published.yaml") -> tuple[list[dict], dict[str, dict]]:
    """The claims in their order, and the published figures by id; ValueError, one line, naming claim, field and choices."""
    published = _by_id(figures, ("id", "text", "tag", "source"))
    claims = _by_id(path, KEYS)
    for name, claim in claims.items():
        if claim["test"] not in TESTS:
            raise ValueError(f"{path.name}: {name}: test {claim['test']!r} is unknown; choose from {', '.join(TESTS)}")
        if lacking := [key for key in NEEDS[claim["test"]] if key not in claim]:
            raise ValueError(f"{path.name}: {name}: lacks {lacking[0]!r}, which the test {claim['test']} needs")
        if unknown := [figure for figure in claim.get("published", []) if figure not in published]:
            raise ValueError(f"{path.name}: {name}: published figure {unknown[0]!r} is not in {figures.name}")
    return list(claims.values()), published


def _by_id(path: Path, keys: tuple[str, ...]) -> dict[str, dict]:
    import yaml

    found: dict[str, dict] = {}
    for i, entry in enumerate(yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
        if lacking := [key for key in keys if key not in entry]:
            raise ValueError(f"{path.name}: entry {i + 1} ({entry.get('id', 'without id')}) lacks {lacking[0]!r}")
        if entry["tag"] not in TAGS:
            raise ValueError(f"{path.name}: {entry['id']}: tag {entry['tag']!r} is unknown; choose from {', '.join(TAGS)}")
        if entry["id"] in found:
            raise ValueError(f"{path.name}: id {entry['id']!r} is given twice")
        found[entry["id"]] = entry
    return found


def judge(records: Records, cells: Sequence[dict], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Every claim, a row per method it is about, with its verdict on this suite."""
    claims, published = load()
    return [_row(claim, method, published, _finding(claim, method, records, cells, arms))
            for claim in claims for method in claim.get("methods", [""])]


def _finding(claim: dict, method: str, records: Records, cells: Sequence[dict], arms: Sequence[Arm]) -> Finding:
    if claim["suite"] != "any" and not fnmatch.fnmatchcase(records.name, claim["suite"]):
        return Finding(evidence=f"needs the suite {claim['suite']}")
    mine = [c for c in cells if _matches(c["dataset"], claim.get("datasets")) and _matches(c["backbone"], claim.get("backbones"))]
    names = {c["cell"] for c in mine}
    evidence = Evidence(records, mine, [arm for arm in arms if arm.row["cell"] in names])
    label = evidence.label(method) if method else ""
    if label is None or label == records.baseline:
        return Finding()
    found, full = tested(claim, label, evidence), evidence.full(label)
    return replace(found, evidence=f"{full}: {found.evidence}") if found.runs and full != method else found


def _matches(name: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _row(claim: dict, method: str, published: dict[str, dict], found: Finding) -> dict[str, Any]:
    figures = [published[name] for name in claim.get("published", []) if not method or _about(name, method)]
    return {
        "id": f"{claim['id']} ({method})" if method else claim["id"], "text": claim["claim"], "source": claim["source"], "tag": claim["tag"],
        "test": claim["test"], "rule": RULES[claim["test"]].format(**claim), "suite": claim["suite"], "verdict": found.verdict,
        "evidence": found.evidence, "runs": found.runs,
        "published": [{"text": f["text"], "tag": f["tag"], "label": TAGS[f["tag"]], "source": f["source"]} for f in figures],
    }


def _about(figure: str, method: str) -> bool:
    """Whether a published figure belongs beside a method: its own, the baseline's, or one of no method."""
    ending = figure.rpartition("-")[2]
    return ending in (method, "none") or ending not in ("inv_sqrt2", "constant", "learnable")
