"""The folder of a suite's runs: what belongs to it, its frozen target bands, and the jobs that were submitted.

ROOT/SUITE/suite.json        cells, arms, seeds and runs; arms.json: the same with the arms that were added
ROOT/SUITE/protocol.json     target bands, frozen from the pilots before the first comparison starts
ROOT/SUITE/submitted.json    batches of jobs
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.planning.suite import SuiteFile
from bench.runs.run_spec import Run
from reports.analysis import bands
from reports.records.files import read_json, write_json
from reports.records.lease import Held, Lease
from reports.records.reading import PROTOCOL
from reports.records.run_folder import RunFolder
from reports.records.suite_records import (
    ANOTHER,
    OWN,
    WITH_ARMS,
    CellRecord,
    Listed,
    SeedsRecord,
    SuiteRecord,
    pilots_of,
    read_bands,
    read_frozen,
    read_suite,
    widest,
)

# Seeds in suite.json, and the role of their runs; those that a user chooses come first.
SEEDS = {"paired": "paired", "pilots": "pilot", "tuning": "tuning", "null": "null", "floor": "floor"}
WORDS = ("title", "scale", "baseline", "trial")  # in suite.json, as the suite file has them
CHOSEN = ("paired", "pilots", "tuning")


class SweepFolder:
    """The folder of one suite under ROOT. suite, protocol, submitted: the paths of its files."""

    def __init__(self, root: Path, suite: str) -> None:
        self.path = Path(root) / suite
        self.suite, self.protocol = self.path / "suite.json", self.path / "protocol.json"
        self.submitted = self.path / "submitted.json"

    def batches(self, cluster: str | None = None) -> list[dict[str, Any]]:
        """The batches of jobs submitted so far (to a cluster): batch, cluster, kind, code, jobs with their runs."""
        found = read_json(self.submitted) if self.submitted.is_file() else []
        return [batch for batch in found if cluster in (None, batch["cluster"])]

    def remember(self, batch: dict[str, Any]) -> None:
        """Write a batch down, in the place of what was written of it before."""
        self.forget(batch["batch"], batch)

    def forget(self, mark: str, *instead: dict[str, Any]) -> None:
        """Take a batch back that led to no job."""
        others = [batch for batch in self.batches() if batch["batch"] != mark]
        write_json(self.submitted, [*others, *instead])

    def added_arms(self) -> list[str]:
        """The labels of the arms that were added to the suite's own."""
        if widest(self.path.parent, self.path.name) == OWN:
            return []
        own, more = (read_suite(self.path.parent, self.path.name, listing).arms for listing in (OWN, WITH_ARMS))
        return [arm for arm in more if arm not in own]

    def publish(self, suite: SuiteFile, runs: list[Run], listing: str = OWN) -> None:
        """Write suite.json, after `check`."""
        self.check(suite, runs)
        write_json(self.path / listing, asdict(replace(record(runs), **{key: getattr(suite, key) for key in WORDS})))

    def check(self, suite: SuiteFile, runs: list[Run]) -> None:
        """BadInput if seeds or looks changed after a run has begun, or what pilots compute after the bands were frozen
        from them: it would choose the result. ValueError, one line, if what is there is broken or of another protocol
        version."""
        now, frozen = record(runs), read_bands(self.protocol)
        before = read_suite(self.path.parent, self.path.name) if self.suite.is_file() else now
        if any(self.path.glob("*/events.jsonl")):
            chosen = [(f"seeds.{name}", getattr(now.seeds, name), getattr(before.seeds, name)) for name in CHOSEN]
            for name, here, there in [*chosen, ("looks", now.looks, before.looks)]:
                if here != there:
                    raise BadInput(
                        f"{suite.path}: {name}: {list(here)} differs from {list(there)}, with which runs of "
                        f"{self.path} were started; {name.partition('.')[0]} never change after the first: "
                        "use another suite name"
                    )
        if gone := pilots_of(frozen) - {run.id for run in runs}:
            what = self._changed(min(gone), runs)
            raise BadInput(
                f"{suite.path}: {what}, with which the target bands in {self.protocol} were frozen; {ANOTHER}"
            )

    def _changed(self, pilot: str, runs: list[Run]) -> str:
        """What a suite's plan says of a pilot that is not in it, by the first key that differs."""
        config = RunFolder(self.path / pilot).config
        before = read_json(config)["spec"] if config.is_file() else {}
        for run in runs:
            same = (run.spec.dataset, run.spec.backbone, run.spec.seed)
            if run.role == "pilot" and same == tuple(map(before.get, ("dataset", "backbone", "seed"))):
                return _difference(before, run.spec.model_dump(mode="json"))
        return f"pilots: the plan lacks {pilot}"

    def freeze(self, everything: Iterable[Run]) -> bool:
        """Whether comparisons may start: bands and looks are frozen, now if all pilots are done, or there are none."""
        everything = list(everything)
        pilots = {run.id: run.folder(self.path.parent) for run in everything if run.role == "pilot"}
        looks = looks_of(everything)
        if not pilots:
            return True
        if not self.protocol.is_file():
            if not all(folder.is_done() for folder in pilots.values()):
                return False
            try:
                with Lease(self.path / "protocol.lock"):
                    if not self.protocol.is_file():
                        results = [read_json(folder.result) for folder in pilots.values()]
                        write_json(self.protocol, bands.derive(results, looks))
            except Held:  # another process freezes them: the next look finds them
                return self.protocol.is_file()
        frozen = read_frozen(self.protocol, pilots.keys(), looks, "the suite")
        if left := pilots.keys() - pilots_of(frozen):
            raise BadInput(f"{self.protocol}: pilots: {min(left)} is none of those that it was frozen from; {ANOTHER}")
        return True


def record(runs: list[Run]) -> SuiteRecord:
    """What suite.json says of a suite, of which `runs` is the plan, without the suite's own words."""
    found = {key: [run.spec.seed for run in runs if run.role == role] for key, role in SEEDS.items()}
    seeds = SeedsRecord(**{key: tuple(dict.fromkeys(those)) for key, those in found.items()})
    specs = [run.spec for run in runs]
    cells = [CellRecord(spec.dataset, spec.backbone, spec.budget, tuple(spec.evaluation.images)) for spec in specs]
    listed = [
        Listed(run.id, spec.dataset, spec.backbone, run.label, run.role, spec.seed, run.pair)
        for run, spec in zip(runs, specs, strict=True)
    ]
    arms = tuple(dict.fromkeys(run.label for run in runs if run.role == "paired"))
    return SuiteRecord(
        protocol=PROTOCOL,
        suite=runs[0].suite,
        title="",
        scale="mini",
        baseline=next((run.label for run in runs if run.role == "pilot"), ""),
        arms=arms,
        seeds=seeds,
        cells=tuple(dict.fromkeys(cells)),
        runs=tuple(listed),
        looks=looks_of(runs),
    )


def looks_of(runs: list[Run]) -> tuple[int, ...]:
    """The numbers of pairs after which a plan looks; none if it trains them all."""
    pairs = [run.look for run in {run.pair: run for run in runs if run.role == "paired"}.values()]
    return tuple(bisect_right(pairs, look) for look in sorted({*pairs})) if any(pairs) else ()


def _difference(before: dict[str, Any], now: dict[str, Any], within: str = "") -> str:
    """The first key whose value differs, and both values."""
    key = next(key for key in {**now, **before} if now.get(key) != before.get(key))
    new, old = now.get(key), before.get(key)
    if isinstance(new, dict) and isinstance(old, dict):
        return _difference(old, new, f"{within}{key}.")
    return f"{within}{key}: {new!r} differs from {old!r}"
