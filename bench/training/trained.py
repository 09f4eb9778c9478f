"""What a run leaves to others: images drawn from its EMA, and the EMA itself with a model card."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

import datasets
import models
from bench import __version__
from bench.diffusion.random_streams import RandomStreams
from bench.errors import BadInput
from bench.evaluation import frechet
from bench.evaluation.evaluator import BATCH, BLOCK, CONDITION, ImageSampler, chosen, save_grid
from bench.runs import checkpoint, compute
from bench.runs.run_spec import RunSpec
from bench.training.trainer import build
from datasets import Store
from models.weights import export as save
from reports.records import reading
from reports.records.event_log import read_events
from reports.records.files import replacing
from reports.records.run_folder import RunFolder
from reports.records.suite_records import versioned

CARD = Path(__file__).with_name("model_card.md")
CONDITIONS = {
    "none": "none",
    "class": "class numbers, long (B,)",
    "text": "states of captions, float (B, tokens, width)",
}
KNOWN = ("data_digest", "extractor_digest", "reference_digest", "reference_size")  # of the start event
LABELLED = 104  # pixels that an image with a caption is wide, at least


@dataclass(frozen=True)
class Trained:
    """A run and its EMA, on a CPU where the device that it was trained on is not there."""

    folder: RunFolder
    config: dict[str, Any]
    spec: RunSpec
    store: Store
    model: models.Backbone

    @classmethod
    def load(cls, folder: RunFolder, data: Path) -> Trained:
        """BadInput, one line, for a run that has no weights yet."""
        config = versioned(folder.config)
        spec = RunSpec.model_validate(config["spec"])
        if not torch.cuda.is_available():
            spec = spec.model_copy(update={"device": "cpu"})
        device, store = compute.set_up(spec), datasets.prepare(spec.dataset, data)
        model = build(spec, store, RandomStreams(spec.dataset, spec.backbone, spec.seed)).to(device)
        model.load_state_dict(_ema(folder, config["hash"]))
        compute.prepare(model, spec)
        return cls(folder, config, spec, store, model.requires_grad_(False).eval())

    @torch.inference_mode()
    def draw(self, count: int, seed: int, steps: int | None = None) -> tuple[Tensor, list[str]]:
        """`count` images, uint8 (N, C, H, W), and their classes or prompts, none without conditions.

        They are drawn as by the cell's evaluations: seed k takes the noise and the conditions of evaluation number k,
        of which 0 is that of every curve.
        """
        changes = {"samples": count} | ({"steps": steps} if steps else {})
        evaluation = self.spec.evaluation.model_copy(update=changes)
        sampler = ImageSampler(self.spec.model_copy(update={"evaluation": evaluation}), self.store)
        parts = [sampler.sample(self.model, seed, start) for start in range(0, count, BATCH)]
        blocks = (
            chosen(self.store, BLOCK, sampler.streams.generator("sample", seed, block, CONDITION))
            for block in range(-(-count // BLOCK))
        )
        numbers = [int(n) for block in blocks if block is not None for n in block][:count]
        return frechet.to_uint8(torch.cat(parts).cpu()), self._words(numbers)

    def _words(self, numbers: list[int]) -> list[str]:
        """What conditions are called: the dataset's words, else their numbers."""
        words = datasets.get(self.spec.dataset).words
        if not numbers or words is None:
            return [f"{'class' if self.store.condition == 'class' else 'val caption'} {n}" for n in numbers]
        known = words()
        return [known[n] for n in numbers]

    def sample(self, out: Path, count: int, seed: int, steps: int | None = None) -> str:
        """Write a grid of images as PNG; returns what was done in a line."""
        images, words = self.draw(count, seed, steps)
        if words:
            labelled(images, words, out)
        else:
            save_grid(out, images)
        settings = self.spec.evaluation
        how = f"{settings.sampler}, {steps or settings.steps} steps, seed {seed}"
        return f"{self.folder.path.name}: {count} images ({how}), written to {out}"

    def export(self, out: Path) -> str:
        """Write model.safetensors and README.md, a model card, to a folder; returns what was done in a line."""
        out.mkdir(parents=True, exist_ok=True)
        save(self.model, out / "model.safetensors")
        with replacing(out / "README.md") as file:
            file.write(Template(CARD.read_text(encoding="utf-8")).substitute(self._card()).encode())
        return f"{self.folder.path.name}: its EMA and a model card, written to {out}"

    def _card(self) -> dict[str, Any]:
        """What the model card says."""
        run = reading.summarize(self.config, read_events(self.folder.path, train=False, live=True))
        start, spec, settings = run["start"], self.spec, self.spec.evaluation
        channels, size = self.store.shape[0], self.store.shape[1]
        keys: dict[str, float] = {"in_channels": channels, "out_channels": channels, "image_size": size}
        keys |= {} if spec.dropout is None else {"dropout": spec.dropout}
        words = [f'"{spec.backbone}"', f'"{spec.method_text}"', *(f"{key}={value}" for key, value in keys.items())]
        measured = "not measured yet"
        if run["evaluations"]:
            last = run["evaluations"][-1]
            how = f"{settings.sampler}, {settings.steps} steps, {last['nfe']} network evaluations"
            measured = f"{float(last['fid']):.3f} after {last['images']:,} images, {last['samples']} samples by {how}"
        return run | {
            "version": __version__,
            "label": self.config["label"],
            "parameters": f"{sum(weight.numel() for weight in self.model.parameters()):,}",
            "digest": models.weights_digest(self.model),
            "method_text": spec.method_text,
            "build": ", ".join(words),
            "shape": f"(B, {channels}, {size}, {size})",
            "latent": "" if self.store.codec is None else f" Images are latents, scaled by {self.store.codec.scale}.",
            "condition": CONDITIONS[self.store.condition],
            "schedule": f"{spec.diffusion.schedule}, beta from {spec.diffusion.beta_min} to {spec.diffusion.beta_max}",
            "count": f"{self.store.count:,}",
            "budget": f"{spec.budget:,}",
            "trained": f"{run['images']:,}",
            "batch": spec.batch,
            "lr": spec.optimizer.lr,
            "half_life": spec.ema.half_life,
            "distance": "FID" if settings.extractor == "inception" else f"Frechet distance ({settings.extractor})",
            "measured": measured,
            **{key: start.get(key, "unknown") for key in KNOWN},
        }


def _ema(folder: RunFolder, identity: str) -> dict[str, Tensor]:
    """The EMA of a run that is done, or in its newest checkpoint."""
    if folder.weights.is_file():
        return load_file(folder.weights)
    state, _ = checkpoint.load(folder.checkpoints, identity, folder.events) if folder.events.is_file() else (None, [])
    if state is None:
        do = f"train it with: python -m bench run {folder.path.parent.name} --only run={folder.path.name}"
        raise BadInput(f"run: {folder.path.name} has no weights yet; {do}")
    found: dict[str, Tensor] = state["ema"]
    return found


def labelled(images: Tensor, words: list[str], out: Path) -> None:
    """Write uint8 (N, C, H, W) as a grid, eight in a row, each enlarged to be read and over its words."""
    times, lines = -(-LABELLED // images.shape[3]), [textwrap.wrap(text, 17) for text in words]
    width, height = images.shape[3] * times, images.shape[2] * times
    under, rows = 11 * max(map(len, lines)) + 6, -(-len(images) // 8)
    grid = Image.new("RGB", (min(8, len(images)) * (width + 4), rows * (height + under)), "white")
    pen = ImageDraw.Draw(grid)
    pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for i, (image, text) in enumerate(zip(pixels, lines, strict=True)):
        x, y = i % 8 * (width + 4), i // 8 * (height + under)
        shown = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.NEAREST)
        grid.paste(shown, (x, y))
        pen.multiline_text((x, y + height + 1), "\n".join(text), fill="black", spacing=1, font_size=9)
    with replacing(out) as file:
        grid.save(file, "PNG")
