"""`make chaos`: kills runs at random instants and compares what they end with to an undisturbed run, bit for bit.

    python -m bench.chaos                 100 kills, fixed seed
    python -m bench.chaos --kills 20      a short form

A run of a few seconds is trained in a process of its own and killed with SIGKILL after a random part of its time, up to five
times, and then left to end by itself. The tally says what the kills hit. Compared are the weights, the EMA, the optimizer's
state and the event log, clocks and `resume` lines apart.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

import datasets
from bench.planning.plan import Run, plan
from bench.planning.suite import load

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
KILLS_PER_RUN = 5
PHASES = ("between", "start", "step", "evaluate", "save", "finish")  # of a run; all but the first are methods of Trainer
SEED = 20231


def campaign(kills: int, folder: Path) -> Tally:
    """At least `kills` kills; each run is killed until it is through between two of them, five times at most, and then compared."""
    (folder / "chaos.yaml").write_text(SUITE)
    runs = [run for run in plan(load(str(folder / "chaos.yaml"))) if run.role == "paired"]
    datasets.prepare("digits", folder / "data")
    instants, tally = random.Random(SEED), Tally()
    undisturbed, seconds = {}, {}
    for run in runs:
        began = time.perf_counter()
        process = _start(run, folder / "calm", folder / "data")[0]
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{run.id}: the undisturbed run ended with exit code {process.exitcode}")
        undisturbed[run.id], seconds[run.id] = outcome(run, folder / "calm"), time.perf_counter() - began
    while tally.kills < kills:
        run, root = runs[tally.runs % len(runs)], folder / f"storm{tally.runs}"
        killed, code = disturb(run, root, folder / "data", min(KILLS_PER_RUN, kills - tally.kills),
                               lambda most=seconds[run.id]: instants.uniform(0.0, most))
        same = code == 0 and outcome(run, root) == undisturbed[run.id]
        tally.add(killed, same, f"{run.id} in {root}: differs from the undisturbed run")
        print(f"{tally.kills} kills of {tally.runs} runs, {tally.identical} of {tally.kills} identical", flush=True)
        if same:
            shutil.rmtree(root)
    return tally


@dataclass
class Tally:
    """What came out. A kill counts as identical if the run that it hit ended like the undisturbed one."""

    runs: int = 0
    kills: int = 0
    identical: int = 0
    faults: list[str] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)  # what the kills hit

    def add(self, killed: list[str], same: bool, fault: str) -> None:
        """One run, by the phases in which it was killed."""
        self.runs, self.kills, self.identical = self.runs + 1, self.kills + len(killed), self.identical + same * len(killed)
        self.phases.update(killed)
        self.faults += [] if same else [fault]


def disturb(run: Run, root: Path, data: Path, most: int, draw: Callable[[], float]) -> tuple[list[str], int | None]:
    """Start the run again and again, kill it after `draw()` seconds, `most` times; the phases that it was in, and the exit
    code of the process that nothing happened to any more."""
    killed: list[str] = []
    while True:
        process, phase = _start(run, root, data)
        process.join(draw() if len(killed) < most else None)
        if process.exitcode is not None:
            return killed, process.exitcode
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode != -signal.SIGKILL:  # it ended at this very moment
            return killed, process.exitcode
        killed.append(PHASES[phase.value])


def _start(run: Run, root: Path, data: Path) -> tuple[BaseProcess, Any]:
    """The run in a process of its own, forked: what was imported is there at once. And the number of its phase."""
    context = multiprocessing.get_context("fork")
    phase = context.RawValue("i", 0)
    process = context.Process(target=_train, args=(run, root, data, phase))
    process.start()
    return process, phase


def _train(run: Run, root: Path, data: Path, phase: Any) -> None:
    from bench.training.trainer import Trainer, execute

    for number, name in enumerate(PHASES):
        if number:
            setattr(Trainer, name, _telling(getattr(Trainer, name), number, phase))
    execute(run, root, data)


def _telling(method: Callable, number: int, phase: Any) -> Callable:
    """The method, which says that it is at work."""
    def call(*args: Any, **kwargs: Any) -> Any:
        before, phase.value = phase.value, number
        result = method(*args, **kwargs)
        phase.value = before
        return result
    return call


def outcome(run: Run, root: Path) -> tuple[str, list[dict]]:
    """What a run ended with: a digest of its last checkpoint's tensors, and its log without clocks, resume lines and the
    state of the code, which somebody may edit meanwhile."""
    import hashlib

    import torch

    from bench.runs import checkpoint

    folder = run.folder(root)
    state, _ = checkpoint.load(folder / "checkpoints", run.hash, (folder / "events.jsonl").stat().st_size)
    digest = hashlib.sha256()
    for part in ("model", "ema"):
        for name, tensor in sorted(state[part].items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    for index, moments in sorted(state["optimizer"]["state"].items()):
        for name, value in sorted(moments.items()):
            digest.update(f"{index} {name}".encode() + torch.as_tensor(value).numpy().tobytes())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in event.items() if key not in ("time", "code", "git") and not key.endswith("seconds")}
            for event in events if event["event"] != "resume"]
    return digest.hexdigest(), kept


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: exit code 1 if a run differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error(f"--kills: {options.kills} is out of range; at least 1")
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    began = time.perf_counter()
    tally = campaign(options.kills, folder)
    hit = ", ".join(f"{tally.phases[phase]} in {phase}" for phase in PHASES)
    print(*tally.faults, f"{tally.identical} of {tally.kills} kills identical ({hit}): {tally.runs} runs, compared with undisturbed "
          f"ones in {time.perf_counter() - began:.0f} s", sep="\n")
    if not tally.faults:
        shutil.rmtree(folder)
    return int(tally.identical < options.kills)


if __name__ == "__main__":
    sys.exit(main())
