"""What the looks of a suite leave to train: an arm with a verdict is not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.launching.sweep_folder import SweepFolder, record
from bench.runs.run_spec import Run
from reports.records.run_folder import State
from reports.records.suite_records import read_bands, with_results
from reports.report import looks


@dataclass
class Looks:
    """Which of a suite's runs are needed, `everything` being its plan.

    The verdicts are the report's own, so that every coordinator finds the same. They are asked for again only when all
    runs of an arm's next look have ended.
    """

    everything: Sequence[Run]
    root: Path
    looked: looks.Looked = field(default_factory=dict, init=False)
    waiting: dict[str, list[Run]] = field(default_factory=dict, init=False)  # by arm, what its next look waits for

    def refresh(self) -> None:
        """See which looks are complete by now; before the bands are frozen nothing is."""
        last = max((run.look for run in self.everything), default=0)
        sweep = SweepFolder(self.root, self.everything[0].suite)
        if not (last and sweep.protocol.is_file()):
            return
        for arm, left in self.waiting.items():
            self.waiting[arm] = [run for run in left if not run.folder(self.root).is_done()]
        if self.looked and all(self.waiting.values()):
            return
        cells = looks.deciding({cell: band["usable"] for cell, band in read_bands(sweep.protocol).items()})
        self.looked = looks.looked(with_results(self.root, record(list(self.everything))))
        paired = [run for run in self.everything if run.role == "paired" and run.spec.cell in cells]
        self.waiting = {
            arm: [run for run in paired if run.look == one.seen and (run.label == arm or run.label not in self.looked)]
            for arm, one in self.looked.items()
            if not one.decided and one.seen <= last
        }

    def needs(self, run: Run) -> bool | None:
        """Whether a run is to be trained; None while that depends on looks that are not complete."""
        if not run.look:
            return True
        return looks.needed(self.looked, run.label, run.look) if self.looked else None

    def before(self, runs: Iterable[Run]) -> list[Run]:
        """The runs that have to end before it is known whether these are needed."""
        labels = {run.label for run in runs if self.needs(run) is None}
        arms = [arm for arm in self.waiting if arm in labels or labels - self.looked.keys()]
        return list({run.id: run for arm in arms for run in self.waiting[arm]}.values())

    def state(self, run: Run) -> State:
        """The state of a run, as its suite has it."""
        return State.UNNEEDED if self.needs(run) is False else run.folder(self.root).state()
