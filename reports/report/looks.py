"""Until it is decided: where the arms of a suite that gives looks stand, and which runs follow from that.

An arm is looked at once all its runs of a look, and the baseline's, have ended in every usable cell; with the seeds of
that look alone, so that the order in which runs end never matters. A verdict of `verdicts.DECIDED` stops it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reports.analysis.verdicts import DECIDED, SHARES
from reports.records.suite_records import GO_ON, Listed, Records
from reports.report import checks, compared


@dataclass(frozen=True)
class Look:
    """Where an arm stands. seen: looks that were taken at it. decided: whether the last of them gave a verdict.

    pairs, share: of the last look, or of the first before that, its pairs and its part of the arm's .05 / m.
    """

    seen: int
    pairs: int
    share: float
    decided: bool = False

    def needs(self, look: int) -> bool | None:
        """Whether the arm is trained at a look, counted from 0; None before the looks that say so."""
        return True if look < self.seen else False if self.decided else look == self.seen or None


Looked = Mapping[str, Look]  # by arm; empty for a suite without looks


def looked(records: Records) -> dict[str, Look]:
    """Where every arm stands; the verdicts are those against the suite's own baseline, which the pilots trained."""
    looks = records.suite.looks
    if looks and len(looks) not in SHARES:
        told = f"{list(looks)}: there are levels for {' or '.join(map(str, SHARES))} looks"
        raise ValueError(f"{records.folder / records.listing}: looks: {told}; {GO_ON}")
    shares = SHARES.get(len(looks), ())
    baseline = next((run.method for run in records.suite.runs if run.role == "pilot"), records.suite.baseline)
    records = replace(records, suite=replace(records.suite, baseline=baseline))
    bands, found = compared.read_bands(records), {}
    for arm in records.suite.arms if looks else ():
        if arm == baseline:
            continue
        found[arm] = Look(0, looks[0], shares[0])
        for seen, (pairs, share) in enumerate(zip(looks, shares, strict=True), 1):
            taken = at(records, dict.fromkeys(records.suite.arms, 0) | {arm: pairs, baseline: pairs})
            if not bands or not _ended(taken, bands):
                break
            arms = compared.arms(taken, bands, checks.failures(taken))
            pool = next(one for one in compared.pools(taken, bands, arms, {arm: share}) if one.method == arm)
            found[arm] = Look(seen, pairs, share, bool(pool.result and pool.result.verdict in DECIDED))
            if found[arm].decided:
                break
    return found


def deciding(usable: Mapping[str, bool]) -> list[str]:
    """The cells whose runs a look waits for: the usable ones, or all where none is and nothing can be decided."""
    return [cell for cell, can in usable.items() if can] or list(usable)


def _ended(records: Records, bands: compared.Bands) -> bool:
    """Whether all paired runs that the look waits for have ended."""
    cells = deciding({cell: band.usable for cell, band in bands.items()})
    runs = [run for run in records.suite.runs if run.role == "paired" and run.cell in cells]
    ended = [records.results[run.run].status in ("complete", "diverged") for run in runs if run.run in records.results]
    return len(ended) == len(runs) and all(ended)


def at(records: Records, pairs: Mapping[str, int]) -> Records:
    """The records with only the first pairs of arms, so many of each; all of those that are not named."""
    order = {seed: index for index, seed in enumerate(records.suite.seeds.paired)}
    runs = records.suite.runs
    return _of(records, (r for r in runs if r.role != "paired" or order[r.seed] < pairs.get(r.method, len(order))))


def used(records: Records, looked: Looked) -> Records:
    """The records with only the pairs that the numbers of an arm are made of."""
    return at(records, {arm: one.pairs for arm, one in looked.items()}) if looked else records


def share(looked: Looked, *arms: str) -> float:
    """What part of .05 / m an interval of these arms has; 0 before the first look at one of them, which has none."""
    return min((looked[arm].share if looked[arm].seen else 0.0 for arm in arms if arm in looked), default=1.0)


def needed(looked: Looked, arm: str, look: int) -> bool | None:
    """Whether an arm is trained at a look, the baseline as long as any arm is; None while that is not known."""
    known = {one.needs(look) for one in ([looked[arm]] if arm in looked else looked.values())}
    return True if not known or True in known else None if None in known else False


def planned(records: Records, looked: Looked) -> Records:
    """The records without the runs that are not needed."""
    return _of(records, (run for run in records.suite.runs if not unneeded(records, looked, run)))


def unneeded(records: Records, looked: Looked, run: Listed) -> bool:
    """Whether a run is not needed, as its arm had its verdict before."""
    index = records.suite.seeds.paired.index(run.seed) if looked and run.role == "paired" else 0
    return needed(looked, run.method, bisect_right(records.suite.looks, index)) is False


def told(records: Records, looked: Looked) -> str:
    """Where the arms stand, in a line; "" for a suite without looks."""
    each = [
        f"{arm} {'decided' if one.decided else 'open'} after {one.pairs}" if one.seen else f"{arm} before the first"
        for arm, one in looked.items()
    ]
    return f"looks after {', '.join(map(str, records.suite.looks))} pairs: {'; '.join(each)}" if each else ""


def _of(records: Records, runs: Iterable[Listed]) -> Records:
    kept = tuple(runs)
    names = {run.run for run in kept}
    results = {name: result for name, result in records.results.items() if name in names}
    return replace(records, suite=replace(records.suite, runs=kept), results=results)
