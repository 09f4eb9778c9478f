"""Synthetic suites: power-law curves of log-normal speed with noisy evaluations, as folders that `reports` reads."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reports import Curve
from reports.analysis.bands import derive
from reports.records import labels
from reports.records.reading import summarize
from reports.records.suite_records import read
from reports.report.build import build
from reports.report.tree import Report

TAU = 100_000
IMAGES = np.rint(np.geomspace(0.1 * TAU, TAU, 30)).astype(int)
PILOTS, TUNING = [100, 101, 102], [200, 201, 202]
FLOORS = 3  # pairs whose baseline is trained again as the noise floor


def distances(speed: float, rng: np.random.Generator, noise: float = 0.01, images: np.ndarray = IMAGES) -> np.ndarray:
    """100 (images x speed / tau)^-1: at speed 1 the band from 250 to 125 is crossed from 0.4 to 0.8 tau."""
    return 100 * (images * speed / TAU) ** -1.0 * np.exp(noise * rng.standard_normal(len(images)))


def arm(seeds: Sequence[int], speedup: float, rng: np.random.Generator, sigma: float = 0.05) -> list[Curve]:
    """A curve per seed, speeds log-normal around `speedup`."""
    speeds = speedup * np.exp(sigma * rng.standard_normal(len(seeds)))
    return [Curve(seed, IMAGES, distances(speed, rng)) for seed, speed in zip(seeds, speeds, strict=True)]


def config(role: str, method: str, seed: int, pair: int | None, cell: str = "digits/uvit-xs", **changes: Any) -> dict:
    """config.json of a run, its hash that of its spec."""
    dataset, _, backbone = cell.partition("/")
    evaluation = {
        "images": IMAGES.tolist(),
        "samples": 512,
        "sampler": "dpmpp-2m",
        "steps": 6,
        "extractor": "small-conv",
        "repeats": 4,
    }
    spec = {
        "dataset": dataset,
        "backbone": backbone,
        "method": {"name": method},
        "seed": seed,
        "budget": TAU,
        "batch": 10,
        "optimizer": {"lr": labels.scaled(1e-3, labels.read(method)[1])},
        "ema": {"half_life": 0.02},
        "augment": {},
        "diffusion": {},
        "evaluation": evaluation,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    } | changes
    spec |= {"perturbation": 1e-6 if role == "floor" else 0.0}
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    slug = "".join(c if c.isalnum() else "-" for c in method)
    return {
        "protocol": 2,
        "run": f"{dataset}-{backbone}-{slug}-s{seed}-{digest[:12]}",
        "suite": "s",
        "role": role,
        "pair": pair,
        "hash": digest,
        "label": method,
        "spec": spec,
    }


def start(cfg: dict) -> dict:
    """The start event: what the arms of a pair share depends on the seed alone."""
    extra = 10 if cfg["spec"]["method"]["name"].startswith("learnable") else 0
    return {
        "event": "start",
        "images": 0,
        "time": 1.0,
        "run": cfg["run"],
        "hash": cfg["hash"],
        "protocol": 2,
        "params": 10_000 + extra,
        "backbone_params": 10_000,
        "method_params": extra,
        "flops": 10**6 + 100 * extra,
        "init_digest": digest_of("init", cfg["spec"]["seed"], cfg["role"] == "floor"),
        "init_change": 1e-6 * (cfg["role"] == "floor"),
        "data_digest": "d" * 64,
        "reference_digest": "e" * 64,
        "reference_size": 1797,
        "extractor": "small-conv",
        "extractor_digest": "f" * 64,
        "resize": "none",
        "device": "cpu",
        "device_name": "A CPU",
        "host": "h",
        "cpu_count": 2,
        "versions": {"python": "3.11", "torch": "2.14"},
        "git": {"commit": "c" * 40, "dirty": False},
    }


def events(cfg: dict, fid: Sequence[float], status: str = "complete", upto: int | None = None) -> list[dict]:
    """The whole log of a run; `upto` evaluations and no end if it is under way."""
    made: list[dict] = [start(cfg)]
    for i, (images, value) in enumerate(zip(cfg["spec"]["evaluation"]["images"], fid, strict=True)):
        if i == upto:
            return made
        clock = {"images": images, "time": 2.0, "seconds": images / 1000}
        made.append({"event": "train", **clock, "loss": 0.1, "lr": 1e-3, "grad_norm": 1.0})
        made.append(
            {
                "event": "eval",
                **clock,
                "fid": float(value) if np.isfinite(value) else str(float(value)),
                "kid": float(value) / 3 if np.isfinite(value) else "nan",
                "eval_seconds": 0.1,
                "nfe": 6,
                "samples": 512,
                "draws": digest_of("draws", cfg["spec"]["seed"], images),
            }
        )
    if cfg["role"] == "pilot":
        made.append(
            {"event": "probe", "images": TAU, "time": 3.0, "probe": "evaluation_noise", "fids": [10.0, 10.1, 9.9, 10.0]}
        )
    end = {"event": "end", "images": TAU, "time": 4.0, "seconds": 100.0, "status": status}
    return [*made, end | ({"reason": "the loss is nan"} if status == "diverged" else {})]


Edit = Callable[[dict, np.ndarray], np.ndarray | None]


def suite(
    root: Path,
    speedups: dict[str, float],
    n: int = 6,
    noise: float = 0.01,
    sigma: float = 0.05,
    seed: int = 0,
    cells: Sequence[str] = ("digits/uvit-xs", "digits/unet-xs"),
    done: float = 1.0,
    scale: str = "mini",
    edit: Edit | None = None,
    name: str = "s",
    tuning: dict[str, float] | None = None,
    baseline: str = "none",
    looks: Sequence[int] = (),
) -> Path:
    """A whole suite under root; speedups by method, the baseline and the null arm at 1.

    done: fraction of the comparison runs that exist. edit: changes the distances of a run, or leaves it out (None).
    tuning: speeds of the arms that tuning runs train.
    """
    rng = np.random.default_rng(seed)
    folder, arms, listed, pilots = root / name, [baseline, *speedups], [], []
    comparisons = [
        run
        for s in range(n)
        for run in (
            *(("paired", m, s, s) for m in arms),
            ("null", baseline, 10_000 + s, s),
            *[("floor", baseline, s, s)] * (s < FLOORS),
        )
    ]
    for cell in cells:
        speeds: dict[tuple[str, str, int], float] = {}
        before = [("pilot", baseline, s, None) for s in PILOTS]
        before += [("tuning", method, s, None) for method in tuning or {} for s in TUNING]
        for i, (role, method, s, pair) in enumerate([*before, *comparisons]):
            cfg = config(role, method, s, pair, cell) | {"suite": name}
            listed.append(entry(cfg))
            mean = (tuning or {} if role == "tuning" else speedups).get(method, 1.0)
            speed = mean * np.exp(sigma * rng.standard_normal())
            speeds[role, method, s] = speed = speeds["paired", method, s] if role == "floor" else speed
            fid = distances(speed, rng, noise, IMAGES)
            fid = edit(cfg, fid) if edit else fid
            if fid is None or i - len(before) >= done * len(comparisons):
                continue
            log = events(cfg, fid)
            write_run(folder, cfg, log)
            pilots += [summarize(cfg, log)] if role == "pilot" else []
    seeds = {
        "paired": list(range(n)),
        "pilots": PILOTS,
        "null": [10_000 + k for k in range(n)],
        "floor": list(range(min(n, FLOORS))),
        "tuning": TUNING if tuning else [],
    }
    write_suite(folder, cells, listed, pilots, scale=scale, arms=arms, seeds=seeds, baseline=baseline, looks=[*looks])
    return folder


def entry(cfg: dict) -> dict:
    """How suite.json lists a run."""
    return {
        "run": cfg["run"],
        "dataset": cfg["spec"]["dataset"],
        "backbone": cfg["spec"]["backbone"],
        "method": cfg["label"],
        "role": cfg["role"],
        "seed": cfg["spec"]["seed"],
        "pair": cfg["pair"],
    }


def write_suite(folder: Path, cells: Sequence[str], listed: list[dict], pilots: list[dict], **more: Any) -> None:
    """suite.json, and protocol.json if there are pilots."""
    folder.mkdir(parents=True, exist_ok=True)
    plans = [
        {"dataset": c.partition("/")[0], "backbone": c.partition("/")[2], "budget": TAU, "evaluations": IMAGES.tolist()}
        for c in cells
    ]
    content = {
        "protocol": 2,
        "suite": folder.name,
        "title": "Synthetic",
        "scale": "mini",
        "baseline": "none",
        "cells": plans,
        "runs": listed,
    } | more
    (folder / "suite.json").write_text(json.dumps(content))
    if pilots:
        (folder / "protocol.json").write_text(json.dumps(derive(pilots, tuple(more.get("looks", ())))))


def write_run(folder: Path, cfg: dict, log: list[dict]) -> Path:
    """A run folder; result.json only if the run has ended."""
    where = folder / cfg["run"]
    where.mkdir(parents=True, exist_ok=True)
    (where / "config.json").write_text(json.dumps(cfg))
    (where / "events.jsonl").write_text("".join(json.dumps(e, allow_nan=False) + "\n" for e in log))
    if log[-1]["event"] == "end":
        (where / "result.json").write_text(json.dumps(summarize(cfg, log)))
    return where


def runs_of(folder: Path) -> list[Path]:
    """The run folders of a suite."""
    return sorted(path.parent for path in folder.glob("*/config.json"))


def find(folder: Path, method: str, seed: int, backbone: str = "uvit-xs", role: str | None = None) -> Path:
    """The folder of a run, by default the first of any role."""
    entries = json.loads((folder / "suite.json").read_text())["runs"]
    keys = (method, seed, backbone)
    return folder / next(
        e["run"] for e in entries if (e["method"], e["seed"], e["backbone"]) == keys and role in (None, e["role"])
    )


def built(root: Path, speedups: dict[str, float], **changes: Any) -> Report:
    """The report of a suite made by `suite`."""
    return build(read(root, suite(root, speedups, **changes).name))


def change(run: Path, edit: Callable[[dict], Any]) -> None:
    """Edit the result of a run, as if it had been recorded so."""
    result = json.loads((run / "result.json").read_text())
    edit(result)
    (run / "result.json").write_text(json.dumps(result))


def grid(run: Path, images: int = TAU) -> None:
    """A sample grid: a small grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    (run / "samples").mkdir(exist_ok=True)
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(71)) for y in range(71))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 71, 71, 8, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (run / "samples" / f"{images:012d}.png").write_bytes(png)


def digest_of(*key: object) -> str:
    """A digest that depends on its key."""
    return hashlib.sha256(repr(key).encode()).hexdigest()
