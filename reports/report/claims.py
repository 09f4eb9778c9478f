"""Claims of papers as data (claims.yaml), and what a suite says of each. `claim_kinds` measures them.

Claims about a part of the cells are a family of their own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from reports.analysis import verdicts
from reports.analysis.planning import ALPHA
from reports.records import labels
from reports.records.suite_records import Records
from reports.report import compared, formats, looks, tree
from reports.report.claim_kinds import ENDED, ClaimSpec, Evidence, Kinds, Model, Parameters, Speedup

FILE = Path(__file__).with_name("claims.yaml")
TAGS = {"V": "published", "C": "computed", "U": "unverified"}
# The verdict of several numbers: one that fails decides, then one that is open.
ORDER = [verdicts.POINTS, verdicts.PRELIMINARY, verdicts.CONTRADICTED, verdicts.TOO_SHORT, verdicts.INCONCLUSIVE]


class Published(Model):
    """A figure from outside."""

    id: str
    tag: Literal["V", "C", "U"]
    source: str
    text: str


class Grid(Model):
    """Datasets and backbones that claims are also asked of alone, in one suite: how they begin, and their names."""

    suite: str
    datasets: dict[str, str]
    backbones: dict[str, str]


def _unique(those: tuple[Any, ...]) -> tuple[Any, ...]:
    ids = [one.id for one in those]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise ValueError(f"id {twice[0]!r} is given twice")
    return those


AnyClaim = Annotated[Kinds, Field(discriminator="test")]


class Claims(Model):
    """The content of claims.yaml."""

    grid: Grid
    claims: Annotated[tuple[AnyClaim, ...], AfterValidator(_unique)]
    published: Annotated[tuple[Published, ...], AfterValidator(_unique)]

    def rows(self) -> list[tuple[Kinds, str]]:
        """Every claim with a pattern of its cells: all, and one by one those of the grid."""
        found: list[tuple[Kinds, str]] = []
        for claim in self.claims:
            found.append((claim, "*"))
            for dataset, backbone in itertools.product(self.grid.datasets, self.grid.backbones) if claim.grid else ():
                where = f"{self.grid.datasets[dataset]} with {self.grid.backbones[backbone]}"
                text, name = f"{claim.text.removesuffix('.')}: {where}.", f"{claim.id}-{dataset}-{backbone}"
                shown = claim.published or (f"{dataset}-{backbone}-*",)
                changes: Any = {"id": name, "text": text, "suite": self.grid.suite, "published": shown}
                found.append((claim.model_copy(update=changes), f"{dataset}/{backbone}-*"))
        return found

    def beside(self, claim: ClaimSpec, method: str) -> list[str]:
        """The published figures beside a claim about a method: its own, the baseline's, and those of no method."""
        others = {"inv_sqrt2", "constant", "learnable"} - {method} if method else set()
        those = [one for one in self.published if one.id.rpartition("-")[2] not in others]
        those = [one for one in those if any(fnmatchcase(one.id, pattern) for pattern in claim.published)]
        return [f"{TAGS[one.tag]}: {one.text} ({one.source})" for one in those]


@functools.cache
def load(path: Path = FILE) -> Claims:
    """The claims; ValueError, one line, naming the claim, the field, what is wrong and the choices."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return Claims.model_validate(content)
    except ValidationError as error:
        (kind, *at), said = error.errors()[0]["loc"], error.errors()[0]["msg"].removeprefix("Value error, ")
        entry = content[kind][at[0]].get("id", at[0]) if at and kind != "grid" else kind
        where = ": ".join(map(str, (path.name, entry, ".".join(map(str, at[1:])))))
        raise ValueError(f"{where.removesuffix(': ')}: {said}") from None


def judge(
    records: Records,
    bands: compared.Bands,
    arms: Sequence[tree.Arm],
    rates: Sequence[tree.TuningRow],
    looked: looks.Looked,
) -> list[tree.ClaimRow]:
    """Every claim, a row per method that it is about, with its verdict on this suite."""
    rows, alpha = [], ALPHA / max(len(records.suite.arms) - 1, 1)
    for claim, pattern in load().rows():
        cells = [cell.name for cell in records.suite.cells if fnmatchcase(cell.name, pattern)]
        begun = any(run.cell in cells for run in records.results.values())
        rows.append((claim, cells, pattern != "*" and begun and fnmatchcase(records.suite.suite, claim.suite)))
    subset = alpha / max(sum(part for *_, part in rows), 1)
    levels = [subset if part else alpha for *_, part in rows]
    evidence = [Evidence(records, row[1], bands, arms, rates, a, looked) for row, a in zip(rows, levels, strict=True)]
    both = zip(rows, evidence, strict=True)
    return [_row(claim, method, one) for (claim, *_), one in both for method in claim.methods]


def _row(claim: Kinds, method: str, evidence: Evidence) -> tree.ClaimRow:
    source, probes = claim.source + ", unverified" * (claim.tag == "U"), claim.suite.startswith("stability")
    published, label = load().beside(claim, method), evidence.label(method) if method else ""
    why, sides = f"needs the suite {claim.suite}", dict[str, tuple[str, ...]]()
    fits = fnmatchcase(evidence.records.suite.suite, claim.suite)
    if fits and claim.baseline != evidence.baseline:
        why = f"needs the baseline {claim.baseline}"
    elif fits:
        why = "no run of it in this suite"
        why += f"; needs at least two values of {claim.values.parameter}" if claim.values else ""
        why += "; needs tuning runs, and arms at the rates that they find best" if claim.tuned else ""
        if label == "" or (label and label != evidence.baseline and evidence.found(label, *ENDED)):
            sides |= claim.sides(evidence, label)
    share = looks.share(evidence.looked, *(arm for arms in sides.values() for arm in arms))
    why, sides = (why, sides) if share else (compared.NOT_LOOKED, {})
    evidence = replace(evidence, alpha=evidence.alpha * (share or 1.0))
    head = (claim.id, method, claim.text, source, claim.rule.format(**dict(claim)), probes, 1 - evidence.alpha)
    if not sides:
        return tree.ClaimRow(*head, verdicts.NOT_TESTED, "", why, [], published)
    found = {name: claim.measure(evidence, name, *arms) for name, arms in sides.items()}
    numbers, lacking = [one for one in found.values() if one], [name for name, one in found.items() if not one]
    words = [claim.word(one) for one in numbers]
    word = next((word for word in ORDER if word in words), words[0] if words else verdicts.INCONCLUSIVE)
    word = verdicts.INCONCLUSIVE if lacking and word not in ORDER[:3] else word
    estimate = next((one.shown for one, said in zip(numbers, words, strict=True) if said == word), "")
    parts = [one.said for one in numbers] + [f"no number to judge by: {name}" for name in lacking if name != label]
    none = "no number to judge by: no pair of runs that came to the end, may be compared and measured it"
    measured = () if isinstance(claim, Parameters) else {arm for arms in sides.values() for arm in arms}
    lost = [run for arm in measured for run in evidence.found(arm, "diverged")]
    counted = "" if isinstance(claim, Speedup) else " and left out"  # a speedup counts them as not reaching the band
    parts = (parts or [none]) + [f"{formats.plural(len(lost), 'run')} diverged{counted}"] * bool(lost)
    full = _full(evidence.records, label or "")
    runs = sorted({*lost, *(run for one in numbers for run in one.runs)})
    return tree.ClaimRow(*head, word, estimate, f"{full}: " * (full != method) + "; ".join(parts), runs, published)


def _full(records: Records, label: str) -> str:
    """An arm with every parameter of its method, as its runs have it."""
    spec: dict[str, Any] = next((run.spec["method"] for run in records.results.values() if run.method == label), {})
    given = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
    return labels.join(f"{spec['name']}({given})", labels.read(label)[1]) if given else label
