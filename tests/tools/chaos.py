"""`make chaos`: disturbs runs at random instants and compares what they end with to an undisturbed run, bit for bit.

    python -m tests.tools.chaos                 100 kills and 50 warnings, fixed seed
    python -m tests.tools.chaos --kills 20      a short form

A run of a few seconds is trained in a process of its own, as `python -m bench run` does it. After a random part of its
time the process is killed with SIGKILL, or warned with SIGTERM, so that it saves and leaves. Every third disturbance is
a warning. After at most five of them the run is left to end by itself. The tally says in which phase each one hit.
Compared are the weights, the EMA, the optimizer's state, and the event log without clocks, `resume` lines and the state
of machine and code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

import datasets
from bench.launching import process as processes
from bench.launching.process import Exit
from bench.planning import suite_file
from bench.planning.plan import plan
from bench.runs.run_spec import Run
from bench.training.trainer import Trainer

SUITE = """\
title: Chaos
scale: mini
cells:
  - {dataset: digits, backbone: unet-xs}
  - {dataset: digits, backbone: uvit-xs}
arms: [none, learnable(r=4)]
seeds: {paired: [0], pilots: [100, 101, 102]}
budget: 1920
batch: 32
dropout: 0.1
optimizer: {lr: 1e-3, betas: [0.9, 0.99], weight_decay: 0.03, warmup: 0.1}
ema: {half_life: 0.1}
evaluation: {count: 6, samples: 128, sampler: dpmpp-2m, steps: 2, extractor: small-conv, repeats: 0}
checkpoints: 10
"""
MOST = 5  # disturbances of one run
KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)  # in turn
ENDS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: Exit.LEFT}  # the exit codes that they lead to
NAMES = {signal.SIGKILL: "kill", signal.SIGTERM: "warning"}
PHASES = (
    "between",
    "start",
    "step",
    "evaluate",
    "save",
    "finish",
)  # of a run; all but the first are methods of Trainer
PATIENCE = 60.0  # seconds within which a warned process leaves
SEED = 20231
CLOCKS_AND_PLACE = (
    "time",
    "code",
    "git",
    "device_name",
    "host",
    "cpu_count",
    "versions",
)  # besides fields `...seconds`

Hits = list[tuple[str, str]]  # of one run: kind and phase of each disturbance
Tamper = Callable[[], None] | None


@dataclass
class Tally:
    """What came out. A disturbance counts as identical if the run that it hit ended like the undisturbed one."""

    runs: int = 0
    identical: int = 0
    faults: list[str] = field(default_factory=list)
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and phase

    @property
    def disturbances(self) -> int:
        """Kills and warnings."""
        return self.hits.total()

    def of(self, kind: str) -> int:
        """How many were of a kind."""
        return sum(count for (name, _), count in self.hits.items() if name == kind)

    def add(self, hits: Hits, fault: str) -> None:
        """Count one run, by what hit it; fault: what is wrong with its end, empty if nothing is."""
        self.runs, self.identical = self.runs + 1, self.identical + (0 if fault else len(hits))
        self.hits.update(hits)
        self.faults += [fault] if fault else []

    def __str__(self) -> str:
        kinds = []
        for kind in NAMES.values():
            where = ", ".join(f"{self.hits[kind, phase]} in {phase}" for phase in PHASES)
            kinds.append(f"{self.of(kind)} {kind}s ({where})")
        return f"{self.identical} of {self.disturbances} identical: {', '.join(kinds)}; {self.runs} runs"


def campaign(kills: int, folder: Path, tamper: Tamper = None) -> Tally:
    """Disturb runs until at least `kills` of them were kills, and compare each run when it has ended.

    tamper: is called in every process of a disturbed run first; a test damages the resumption there.
    """
    (folder / "chaos.yaml").write_text(SUITE)
    runs = [run for run in plan(suite_file.load(str(folder / "chaos.yaml"))) if run.role == "paired"]
    data = folder / "data"
    datasets.prepare("digits", data)
    _warm_up()
    undisturbed, seconds = {}, {}
    for run in runs:
        began = time.perf_counter()
        process = _start(run, folder / "calm", data)[0]
        process.join()
        if process.exitcode != Exit.DONE:
            raise RuntimeError(f"{run.id}: the undisturbed run ended with exit code {process.exitcode}")
        undisturbed[run.id], seconds[run.id] = outcome(run, folder / "calm"), time.perf_counter() - began
    instants, tally = random.Random(SEED), Tally()
    while tally.of("kill") < kills:
        run, root = runs[tally.runs % len(runs)], folder / f"storm{tally.runs}"
        kinds = [KINDS[(tally.disturbances + i) % len(KINDS)] for i in range(MOST)]
        wanted = [(kind, instants.uniform(0.0, seconds[run.id])) for kind in kinds]
        hits, code = disturb(run, root, data, wanted, tamper)
        if code != Exit.DONE and not hits:  # it would never be hit
            raise RuntimeError(f"{run.id} in {root}: ended with exit code {code}, and nothing had hit it")
        same = code == Exit.DONE and outcome(run, root) == undisturbed[run.id]
        tally.add(hits, "" if same else f"{run.id} in {root}: differs from the undisturbed run (exit code {code})")
        print(f"{tally.disturbances} disturbances of {tally.runs} runs, {tally.identical} identical", flush=True)
        if same:
            shutil.rmtree(root)
    return tally


def disturb(
    run: Run, root: Path, data: Path, wanted: Sequence[tuple[signal.Signals, float]], tamper: Tamper = None
) -> tuple[Hits, int | None]:
    """Start the run again and again, each time with a signal after so many seconds, and then to its end.

    Returns what hit it, and the exit code of the last process; no more is wanted once it has ended by itself. One that
    was killed while it wrote its name into the lease holds it for some seconds more: as a coordinator does, try again.
    """
    hits: Hits = []
    for kind, seconds in wanted:
        process, phase = _start(run, root, data, tamper)
        process.join(seconds)
        if process.exitcode is None:
            hit, pid = PHASES[phase.value], process.pid
            assert pid is not None
            os.kill(pid, kind)
            process.join(PATIENCE)
        if process.exitcode == Exit.HELD:
            continue
        if process.exitcode != ENDS[kind]:  # its own end, or a fault
            process.kill()
            return hits, process.exitcode
        hits.append((NAMES[kind], hit))
    until = time.monotonic() + PATIENCE
    while True:
        process, _ = _start(run, root, data, tamper)
        process.join()
        if process.exitcode != Exit.HELD or time.monotonic() > until:
            return hits, process.exitcode
        time.sleep(1.0)


def _warm_up() -> None:
    """The forkserver imports before the first run is timed."""
    processes.warm_up()
    idle = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0,))
    idle.start()
    idle.join()


def _start(run: Run, root: Path, data: Path, tamper: Tamper = None) -> tuple[BaseProcess, Any]:
    """The run in a process of its own, from the forkserver; and the number of its phase."""
    phase = RawValue("i", 0)
    process = multiprocessing.get_context("forkserver").Process(target=_train, args=(run, root, data, phase, tamper))
    process.start()
    return process, phase


def _train(run: Run, root: Path, data: Path, phase: Any, tamper: Tamper) -> None:
    """What the process does: what that of every run does, and it tells its phase."""
    for number, name in enumerate(PHASES):
        if number:
            setattr(Trainer, name, _telling(getattr(Trainer, name), number, phase))
    if tamper:
        tamper()
    processes._main(run, root, data, {}, time.time())


def _telling(method: Callable[..., Any], number: int, phase: Any) -> Callable[..., Any]:
    """The method, which says that it is at work."""

    def call(*args: Any, **kwargs: Any) -> Any:
        before, phase.value = phase.value, number
        try:
            return method(*args, **kwargs)
        finally:
            phase.value = before

    return call


def outcome(run: Run, root: Path) -> tuple[str, list[dict[str, Any]]]:
    """What a run ended with: a digest of its EMA, to which every step has added, and its log without `resume` lines and
    CLOCKS_AND_PLACE."""
    folder = run.folder(root)
    digest = hashlib.sha256(folder.weights.read_bytes())
    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    return digest.hexdigest(), [_kept(event) for event in events if event["event"] != "resume"]


def _kept(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in CLOCKS_AND_PLACE and not key.endswith("seconds")}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: exit code 1 if a run differs."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.tools.chaos", description=__doc__, formatter_class=raw)
    parser.add_argument("--kills", type=int, default=100, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error(f"--kills: {options.kills} is out of range; at least 1")
    folder, began = Path(tempfile.mkdtemp(prefix="chaos")), time.perf_counter()
    tally = campaign(options.kills, folder)
    print(*tally.faults, f"{tally}, compared with undisturbed ones in {time.perf_counter() - began:.0f} s", sep="\n")
    if not tally.faults:
        shutil.rmtree(folder)
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
