"""The verb `perf`: every way of computing a training step, as a ratio to plain eager fp32, in one process."""

from __future__ import annotations

import ctypes
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import models
from bench.errors import BadInput, unknown
from bench.planning import suite_file
from bench.planning.costs import TRAINING, peak_flops
from bench.planning.plan import plan
from bench.runs.run_spec import Execution
from bench.training import environment
from bench.training.trainer import Trainer, gradient_norm
from datasets import Dataset, Store, Writer, codecs
from datasets.parallel import cores
from reports.records.run_folder import RunFolder

IMAGES = 256  # of the random dataset
AGREEMENT = 20  # steps over which the loss must agree with plain fp32 within 1 %, while the learning rate rises
LOGGED = 10  # one step in so many is logged, with its gradient's norm, as in `quick`; fewer in longer suites
CHOICES = (
    "fp32", "fp32 channels-last", "fp32 recomputed", "fp32 compiled", "fp32 compiled channels-last",
    "bf16", "bf16 channels-last", "bf16 compiled", "bf16 compiled channels-last",
)  # fmt: skip
RESET = Path("/proc/self/clear_refs")  # Linux, proc(5): writing 5 sets the peak of this process to what it holds now
CLOCKS = {"processor time": time.process_time, "wall time": time.perf_counter}
TITLES = ("images/s", "ratio", "step / bare", "reading", "loss differs", "GB", "bf16 peak")
LEGEND = f"""\
step / bare: the whole step (reading, loss, optimizer, EMA, a tenth of logging with the gradient's norm) over its
forward and backward. loss differs: the largest over {AGREEMENT} steps. GB: the most held, of the GPU or of the whole
process. bf16 peak: the share of the chip's dense bf16 peak (GPUs that bench/planning/costs.py knows)"""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Seconds of a step with its share of logging, of its bare forward and backward, and of reading its batch.

    losses: of the first steps. memory: bytes, the most that was held. flops: of a forward pass of one image.
    """

    step: float
    bare: float
    reading: float
    losses: list[float]
    memory: int
    flops: int

    def difference(self, plain: Measurement) -> float:
        """The largest relative difference of losses."""
        return max(abs(a / b - 1) for a, b in zip(self.losses, plain.losses, strict=True))


def show(presets: list[str] | None, batch: int, steps: int, device: str, threads: int, only: list[str] | None) -> None:
    """Print a row per preset and choice as soon as it is measured, and which is the fastest of those that agree.

    BadInput, one line, for an unknown choice, and for a device or threads that this machine has not.
    """
    if wrong := set(only or ()) - set(CHOICES):
        raise unknown("--choice", min(wrong), CHOICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device: 'cuda' is not there on this machine; choose cpu")
    if threads > cores():
        raise BadInput(f"--threads: {threads:,} is more than the {cores():,} cores here")
    choices = [name for name in CHOICES if not only or name in only or name == "fp32"]  # plain fp32 is the first
    presets = presets or [cell.backbone for cell in suite_file.load("quick").cells]
    chip = environment.device_name(device)
    peak = peak_flops(chip) if device == "cuda" else None
    clock = "processor time" if device == "cpu" and threads == 1 else "wall time"  # then other programs do not enter it
    lengths = [max(map(len, ("preset", *presets))), max(map(len, choices))]
    names = "  ".join(f"{{:{length}}}" for length in lengths).format
    figures = "".join(f"  {{:>{max(9, len(title))}}}" for title in TITLES).format
    print(names("preset", "choice") + figures(*TITLES), flush=True)
    for preset in presets:
        found: dict[str, Measurement] = {}
        for name in choices:
            print(names(preset, name), end="", flush=True)
            m = found[name] = measure(preset, name, batch, steps, device, threads, clock)
            plain, speed = found["fp32"], batch / m.step
            ratios = (f"{plain.step / m.step:.2f}x", f"{m.step / m.bare:.3f}", f"{m.reading / m.step:.2%}")
            share = f"{TRAINING * m.flops * speed / peak:.1%}" if peak else "–"
            rest = (f"{m.difference(plain):.2%}", f"{m.memory / 1e9:.1f}", share)
            print(figures(f"{speed:,.2f}", *ratios, *rest), flush=True)
        agreeing = [name for name, m in found.items() if m.difference(plain) <= 0.01]
        print(f"{preset}: the fastest that agrees is {min(agreeing, key=lambda name: found[name].step)}", flush=True)
    where = f"one process, {chip} ({device}), {threads} threads, batch {batch}, no dropout"
    print(f"{where}; medians of {steps} steps, {clock}. {' '.join(LEGEND.split())}")


def measure(preset: str, choice: str, batch: int, steps: int, device: str, threads: int, clock: str) -> Measurement:
    """Train a preset on random data under a choice, its parts timed in turn: a change of speed meets them alike."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(preset, choice, batch, device, threads, Path(folder))
        flops = models.flops(trainer.model, trainer.store.shape)
        trainer._compile()
        losses = [float(trainer.step()) for _ in range(AGREEMENT)]
        data = trainer.batch()
        parts: list[Callable[[], object]] = [
            lambda: trainer.gradients(data),
            lambda: (trainer.step(), trainer.read_losses()),
        ]
        parts += [lambda: trainer._log_training(gradient_norm(trainer.weights)), trainer.batch]
        times = np.zeros((steps + 2, len(parts)))
        for row in times:
            for column, part in enumerate(parts):
                began = CLOCKS[clock]()
                part()
                trainer._elapsed(0.0)  # waits for the device
                row[column] = CLOCKS[clock]() - began
        memory = peak_memory(device)
        trainer.log.close()
    torch.compiler.reset()
    bare, step, log, reading = np.median(times[2:], axis=0).tolist()
    return Measurement(step + log / LOGGED, bare, reading, losses, memory, flops)


def _trainer(preset: str, choice: str, batch: int, device: str, threads: int, folder: Path) -> Trainer:
    """A trainer of the preset on random data of its shape and condition, in an empty folder."""
    run, words = plan(suite_file.load("quick"))[0], choice.split()
    old, budget = run.spec, round(batch * AGREEMENT / run.spec.optimizer.warmup)
    changes = {"dataset": "random", "backbone": preset, "batch": batch, "budget": budget}
    changes |= {"device": device, "threads": threads, "precision": words[0]}
    changes |= {"compile": "compiled" in words, "channels_last": "channels-last" in words}
    changes |= {"optimizer": old.optimizer.model_copy(update={"lr": 2e-4})}
    changes |= {"evaluation": old.evaluation.model_copy(update={"images": [budget], "samples": 128})}
    spec = old.but(**changes, dropout=0.0)  # masks of dropout differ between choices, and with them the losses
    run = dataclasses.replace(run, spec=spec, execution=Execution(checkpointing="recomputed" in words))
    write_store(folder, _random(preset), IMAGES)
    restart_memory(device)
    return Trainer(run, RunFolder(folder), folder)


def _random(preset: str) -> Dataset:
    """A dataset of the shape and condition that a preset takes."""
    config = models.config(preset)
    shape = (config.in_channels, config.image_size, config.image_size)
    return Dataset("random", shape, "", "", lambda *_: None, classes=config.classes, context=config.context)


def write_store(folder: Path, dataset: Dataset, count: int) -> None:
    """A store of random images, labels, latents and texts, as a dataset has them, unless it is there."""
    bits, shape = np.random.Generator(np.random.Philox(0)), dataset.shape
    with Writer(folder, dataset) as writer:
        if Store.exists(folder, dataset.name):
            return
        writer.count = count
        writer.write("images", bits.integers(0, 256, (1 if dataset.context else count, *shape), dtype=np.uint8))
        if dataset.classes or dataset.labelled:
            writer.write("labels", bits.integers(0, dataset.classes or 1, count))
        if dataset.context:
            texts = bits.standard_normal((count, *dataset.context), dtype=np.float32).astype(np.float16)
            moments = bits.standard_normal((count, 2 * shape[0], *shape[1:]), dtype=np.float32).astype(np.float16)
            arrays = {"moments": moments, "texts": texts, "val_texts": texts[:1], "empty": np.zeros_like(texts[0])}
            arrays |= {"first": np.arange(count + 1), "reference": np.zeros((IMAGES, 3, 16, 16), np.uint8)}
            for name, array in arrays.items():
                writer.write(name, array)
            codec = codecs.Blocks(np.eye(shape[0], 12), np.zeros(12), 1.0)
            codec.save(writer.path)
            writer.facts |= {"codec": codec.facts, "reference": {"array": "reference", "count": IMAGES}}


def restart_memory(device: str) -> None:
    """Begin to count the peak anew; where a CPU's system cannot, it stays that of the whole process so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif RESET.exists():
        ctypes.CDLL(None).malloc_trim(0)  # glibc: what earlier work freed goes back to the kernel
        RESET.write_text("5")


def peak_memory(device: str) -> int:
    """Bytes: allocated on an accelerator, resident in this process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
