"""The verb `perf`: every way of computing a training step, as a ratio to plain eager fp32, in one process."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch

import datasets
import models
from bench.performance import chips
from bench.training import environment
from bench.planning import compute_defaults as fastest
from bench.performance import memory
from bench.planning import suite as suites
from bench.errors import BadInput, unknown
from bench.planning.plan import plan
from bench.runs.record import write_json
from bench.training.trainer import Trainer, gradient_norm
from datasets import Dataset, Writer, codecs
from datasets.parallel import cores

IMAGES = 256  # of the random dataset
AGREEMENT = 20  # steps over which the loss must agree with plain fp32 within 1 %, while the learning rate rises to its full value
LOGGED = 10  # a step in so many is logged, with its gradient's norm: as in the suite `quick`; in longer ones it is one in thousands
CHOICES: dict[str, dict] = {
    "fp32": {},
    "fp32 channels-last": {"channels_last": True},
    "fp32 recomputed": {"checkpointing": True},
    "fp32 compiled": {"compile": True},
    "fp32 compiled channels-last": {"compile": True, "channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16 channels-last": {"precision": "bf16", "channels_last": True},
    "bf16 compiled": {"precision": "bf16", "compile": True},
    "bf16 compiled channels-last": {"precision": "bf16", "compile": True, "channels_last": True},
}

TITLES = ("images/s", "ratio", "step / bare", "reading", "loss differs", "GB", "bf16 peak")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds of a step with its share of logging, of its bare forward and backward, and of reading its batch; losses of the first steps.

    memory: bytes, the most that was held; flops: of a forward pass of one image.
    """

    step: float
    bare: float
    reading: float
    losses: list[float]
    memory: int
    flops: int


def show(presets: list[str] | None, batch: int, steps: int, device: str, threads: int, only: list[str] | None) -> None:
    """Print a row per preset and choice as soon as it is measured, and which is the fastest of those that agree."""
    for name in only or ():
        if name not in CHOICES:
            raise unknown("--choice", name, CHOICES)
    check(device, threads)
    chosen = {name: CHOICES[name] for name in CHOICES if not only or name in only or name == "fp32"}
    presets = presets or [cell.backbone for cell in suites.load("quick").cells]
    chip = environment.device_name(device)
    widths = [max(map(len, ("preset", *presets))), max(map(len, ("choice", *chosen))), *(max(9, len(title)) for title in TITLES)]
    print(_row(widths, "preset", "choice", *TITLES), flush=True)
    for preset in presets:
        found: dict[str, Measurement] = {}
        for name, choice in chosen.items():  # the first is plain fp32
            _doing(f"{preset}, {name}: {AGREEMENT} steps for the loss, {steps + 2} for the time")
            m = found[name] = measure(preset, choice, batch, steps, device, threads)
            _doing("")
            plain = found["fp32"]
            print(_row(widths, preset, name, f"{batch / m.step:,.2f}", f"{plain.step / m.step:.2f}x", f"{m.step / m.bare:.3f}",
                       f"{m.reading / m.step:.2%}", f"{difference(m.losses, plain.losses):.2%}", f"{m.memory / 1e9:.1f}",
                       _share(m, batch, device, chip)), flush=True)
        agreeing = [name for name, m in found.items() if difference(m.losses, plain.losses) <= 0.01]
        print(f"{preset}: the fastest that agrees is {min(agreeing, key=lambda name: found[name].step)}", flush=True)
    print(f"one process, {chip} ({device}), {threads} threads, batch {batch}, no dropout; medians of {steps} steps, {_clock(device, threads)[1]}. "
          "step / bare: the whole step (reading, loss, optimizer, EMA, a tenth of logging with the gradient's norm) over its forward and backward. "
          f"loss differs: the largest over {AGREEMENT} steps. GB: the most held, of {'the GPU' if device == 'cuda' else 'the whole process'}. "
          "bf16 peak: the share of the chip's dense bf16 peak (GPUs that bench/performance/chips.py knows)")


def _doing(text: str) -> None:
    """On a terminal, a line that the next one replaces: a row of a large network takes minutes on a CPU."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def check(device: str, threads: int) -> None:
    """BadInput, one line, for a device or threads that this machine has not."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device: 'cuda' is not there on this machine; choose cpu")
    if threads > cores():
        raise BadInput(f"--threads: {threads:,} is more than the {cores():,} cores here")


def _row(widths: list[int], *cells: str) -> str:
    """One line of the table: names to the left, figures to the right."""
    aligned = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(aligned)


def _share(m: Measurement, batch: int, device: str, chip: str) -> str:
    share = chips.share(m.flops, batch / m.step, chip) if device == "cuda" else None
    return "–" if share is None else f"{share:.1%}"


def _clock(device: str, threads: int) -> tuple[Callable[[], float], str]:
    """What times a step, and its name. The processor's time where it is that of a quiet machine: what else runs does not enter."""
    return (time.process_time, "processor time") if device == "cpu" and threads == 1 else (time.perf_counter, "wall time")


def difference(losses: list[float], plain: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a / b - 1) for a, b in zip(losses, plain, strict=True))


def measure(preset: str, choice: dict, batch: int, steps: int, device: str = "cpu", threads: int = 1) -> Measurement:
    """Train a preset on random data under a choice, its parts timed in turn, so that a change of speed meets them alike."""
    clock = _clock(device, threads)[0]
    with _trainer(preset, choice, batch, device, threads) as trainer:
        flops = models.flops(trainer.model, trainer.store.shape)
        trainer._compile()
        losses = [trainer.step() for _ in range(AGREEMENT)]
        data = trainer.batch()

        parts: dict[str, Callable[[], object]] = {
            "bare": lambda: trainer.gradients(data), "step": trainer.step,
            "log": lambda: trainer._log_training(gradient_norm(trainer.model)), "reading": trainer.batch}
        times: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(steps + 2):
            for name, part in parts.items():
                began = clock()
                part()
                trainer._elapsed(0.0)  # waits for the device
                times[name].append(clock() - began)
        held = memory.peak(device)
    seconds = {name: median(taken[2:]) for name, taken in times.items()}
    return Measurement(seconds["step"] + seconds["log"] / LOGGED, seconds["bare"], seconds["reading"], losses, held, flops)


@contextmanager
def _trainer(preset: str, choice: dict, batch: int, device: str, threads: int) -> Iterator[Trainer]:
    """A trainer of the preset on random data of its shape and condition."""
    run = plan(suites.load("quick"))[0]
    budget = round(batch * AGREEMENT / run.spec["optimizer"]["warmup"])
    evaluation = run.spec["evaluation"] | {"images": [budget], "samples": 128}
    spec = run.spec | fastest.PLAIN | {"checkpointing": False} | choice | {
        "dataset": "random", "backbone": preset, "batch": batch, "budget": budget, "device": device, "threads": threads,
        "dropout": 0.0,  # its masks differ between choices, and with them the losses
        "evaluation": evaluation, "optimizer": run.spec["optimizer"] | {"lr": 2e-4}}
    folder = Path(tempfile.mkdtemp())
    try:
        _random_store(preset, folder)
        run = dataclasses.replace(run, spec=spec)
        write_json(folder / "config.json", run.config)
        memory.restart(device)
        trainer = Trainer(run, folder, folder)
        yield trainer
        trainer.log.close()
    finally:
        shutil.rmtree(folder)
        torch.compiler.reset()


def _random_store(preset: str, folder: Path) -> None:
    config = models.spec(preset)
    bits = np.random.Generator(np.random.Philox(0))
    shape = (config.in_channels, config.image_size, config.image_size)

    def prepare(writer: Writer, options: datasets.Options) -> None:
        writer.write("images", bits.integers(0, 256, (IMAGES, *shape), dtype=np.uint8))
        if config.classes:
            writer.write("labels", bits.integers(0, config.classes, IMAGES))
        if config.context:
            writer.write("moments", bits.standard_normal((IMAGES, 2 * shape[0], *shape[1:])).astype(np.float16))
            writer.write("texts", bits.standard_normal((IMAGES, *config.context)).astype(np.float16))
            writer.write("val_texts", bits.standard_normal((1, *config.context)).astype(np.float16))
            writer.write("empty", np.zeros(config.context, np.float16))
            writer.write("first", np.arange(IMAGES + 1))
            writer.write("reference", bits.integers(0, 256, (IMAGES, 3, 16, 16), dtype=np.uint8))
            codec = codecs.Blocks(np.eye(shape[0], 12), np.zeros(12), 1.0)
            codec.save(writer.path)
            writer.facts |= {"codec": codec.facts, "reference": {"array": "reference", "count": IMAGES}}
        writer.count = IMAGES

    dataset = Dataset("random", shape, "", "", prepare, classes=config.classes, context=config.context)
    with Writer(folder, dataset) as writer:
        prepare(writer, datasets.Options())
