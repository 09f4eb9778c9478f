"""`make chaos`: kills runs at random instants and compares what they end with to an undisturbed run, bit for bit.

    python -m bench.chaos                 100 kills, fixed seed
    python -m bench.chaos --kills 20      a short form

A run of a few seconds is trained in a process of its own and killed with SIGKILL after a random part of its time, again and
again, until it ends by itself. Compared are the weights, the EMA, the optimizer's state and the event log, clocks and
`resume` lines apart.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from bench.plan import Run, plan
from bench.suite import load

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
SEED = 20231


def campaign(kills: int, folder: Path) -> tuple[int, int, list[str]]:
    """(kills survived identically, runs, faults) after at least `kills` kills; a run is killed about five times before it may end."""
    (folder / "chaos.yaml").write_text(SUITE)
    runs = [run for run in plan(load(str(folder / "chaos.yaml"))) if run.role == "paired"]
    datasets.prepare("digits", folder / "data")
    bits = random.Random(SEED)
    undisturbed, seconds = {}, {}
    for run in runs:
        began = time.perf_counter()
        _start(run, folder / "calm", folder / "data").join()
        undisturbed[run.id], seconds[run.id] = outcome(run, folder / "calm"), time.perf_counter() - began
    done, identical, trained, faults = 0, 0, 0, []
    while done < kills:
        run = runs[trained % len(runs)]
        root = folder / f"storm{trained}"
        before = done
        for _ in range(min(KILLS_PER_RUN, kills - done)):
            done += _kill(run, root, folder / "data", bits.uniform(0.0, seconds[run.id]))
        process = _start(run, root, folder / "data")
        process.join()
        same = process.exitcode == 0 and outcome(run, root) == undisturbed[run.id]
        identical, trained = identical + same * (done - before), trained + 1
        faults += [] if same else [f"{run.id} in {root}: differs from the undisturbed run"]
        print(f"{done} kills of {trained} runs, {identical} of {done} identical", flush=True)
        if same:
            shutil.rmtree(root)
    return identical, trained, faults


def _kill(run: Run, root: Path, data: Path, after: float) -> int:
    """Kill the run so many seconds after it began, at the latest at its end; 1 if it was still at work, else 0."""
    process = _start(run, root, data)
    process.join(after)
    if process.exitcode is not None:
        shutil.rmtree(root, ignore_errors=True)  # it was faster than its time: from the beginning
        return 0
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return 1


def _start(run: Run, root: Path, data: Path) -> Any:
    """The run in a process of its own, forked: what was imported is there at once."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(run, root, data))
    process.start()
    return process


def _train(run: Run, root: Path, data: Path) -> None:
    from bench.train import execute

    execute(run, root, data)


def outcome(run: Run, root: Path) -> tuple[str, list[dict]]:
    """What a run ended with: a digest of its last checkpoint's tensors, and its log without clocks, resume lines and the
    state of the code, which somebody may edit meanwhile."""
    import hashlib

    import torch

    from bench import checkpoint

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
    identical, trained, faults = campaign(options.kills, folder)
    print(*faults, f"{identical} of {options.kills} kills identical: {trained} runs of both backbones, compared with undisturbed ones "
          f"in {time.perf_counter() - began:.0f} s", sep="\n")
    if not faults:
        shutil.rmtree(folder)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
