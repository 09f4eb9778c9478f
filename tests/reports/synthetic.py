"""Synthetic suites: power-law curves whose speeds are log-normal, with noisy evaluations, as folders that `reports` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reports import Curve
from reports.reading import summarize
from reports.targets import derive

TAU = 100_000
IMAGES = np.rint(np.geomspace(0.1 * TAU, TAU, 30)).astype(int)


def distances(speed: float, rng: np.random.Generator, noise: float = 0.01, images: np.ndarray = IMAGES) -> np.ndarray:
    """100 (images x speed / tau)^-1: at speed 1 the distance 100 / 0.6 is crossed at 0.6 tau."""
    return 100 * (images * speed / TAU) ** -1.0 * np.exp(noise * rng.standard_normal(len(images)))


def arm(seeds: list[int], speedup: float, rng: np.random.Generator, sigma: float = 0.05, **kwargs) -> list[Curve]:
    """A curve per seed, speeds log-normal around `speedup`."""
    return [Curve(s, kwargs.get("images", IMAGES), distances(speedup * np.exp(sigma * rng.standard_normal()), rng, **kwargs)) for s in seeds]


def config(role: str, method: str, seed: int, pair: int | None, backbone: str = "uvit-xs") -> dict:
    run = f"digits-{backbone}-{method}-{role}-s{seed}"
    spec = {"protocol": 1, "dataset": "digits", "backbone": backbone, "method": {"name": method}, "seed": seed, "budget": TAU, "batch": 10,
            "ema": {"half_life": 0.02}, "evaluation": {"images": IMAGES.tolist(), "samples": 512, "sampler": "dpmpp-2m", "steps": 6,
                                                       "extractor": "small-conv", "repeats": 4}, "device": "cpu"}
    return {"run": run, "suite": "s", "role": role, "pair": pair, "hash": f"{abs(hash(run)):064x}"[:64], "label": method, "spec": spec}


def start(cfg: dict) -> dict:
    digest = f"{cfg['spec']['seed']:064x}"
    return {"event": "start", "images": 0, "time": 1.0, "run": cfg["run"], "hash": cfg["hash"], "protocol": 1, "params": 1000, "backbone_params": 990,
            "method_params": 10, "flops": 10**6, "init_digest": digest, "data_digest": "d" * 64, "reference_digest": "r" * 64, "reference_size": 1797,
            "extractor": "small-conv", "extractor_digest": "e" * 64, "resize": "none", "device": "cpu", "device_name": "A CPU", "host": "h",
            "cpu_count": 2, "versions": {"python": "3.11"}, "git": {"commit": "c" * 40, "dirty": False}}


def events(cfg: dict, fid: np.ndarray, status: str = "complete") -> list[dict]:
    made = [start(cfg)]
    for images, value in zip(IMAGES.tolist(), fid.tolist(), strict=True):
        made.append({"event": "eval", "images": images, "time": 2.0, "seconds": images / 1000, "fid": value, "eval_seconds": 0.1, "nfe": 6,
                     "samples": 512, "draws": f"{cfg['spec']['seed']}-{images}"})
    if cfg["role"] == "pilot":
        made.append({"event": "probe", "images": TAU, "time": 3.0, "probe": "evaluation_noise", "fids": [10.0, 10.1, 9.9, 10.0]})
    return [*made, {"event": "end", "images": TAU, "time": 4.0, "seconds": 100.0, "status": status}]


def suite(root: Path, speedups: dict[str, float], n: int = 6, noise: float = 0.01, sigma: float = 0.05, backbones=("uvit-xs", "unet-xs"), seed: int = 0,
          done: float = 1.0) -> Path:
    """A whole suite "s" under root; speedups by method, `none` and the null arm at 1. done: fraction of comparison runs that exist."""
    rng = np.random.default_rng(seed)
    folder = root / "s"
    seeds = {"paired": list(range(n)), "pilots": [100, 101, 102], "null": [10000 + k for k in range(n)]}
    arms = ["none", *speedups]
    listed, pilots = [], []
    for backbone in backbones:
        plan = [("pilot", "none", s, None) for s in seeds["pilots"]]
        plan += [("paired", arm, s, s) for s in seeds["paired"] for arm in arms] + [("null", "none", 10000 + s, s) for s in seeds["paired"]]
        for i, (role, method, s, pair) in enumerate(plan):
            cfg = config(role, method, s, pair, backbone)
            listed.append({"run": cfg["run"], "dataset": "digits", "backbone": backbone, "method": method, "role": role, "seed": s, "pair": pair})
            if role != "pilot" and i > done * len(plan):
                continue
            log = events(cfg, distances(speedups.get(method, 1.0) * np.exp(sigma * rng.standard_normal()), rng, noise))
            write_run(folder, cfg, log)
            if role == "pilot":
                pilots.append(summarize(cfg, log))
    content = {"protocol": 1, "suite": "s", "title": "Synthetic", "scale": "mini", "baseline": "none", "arms": arms, "seeds": seeds,
               "cells": [{"dataset": "digits", "backbone": b, "budget": TAU, "evaluations": IMAGES.tolist()} for b in backbones], "runs": listed}
    (folder / "suite.json").write_text(json.dumps(content))
    (folder / "protocol.json").write_text(json.dumps(derive(pilots)))
    return folder


def write_run(folder: Path, cfg: dict, log: list[dict]) -> None:
    where = folder / cfg["run"]
    where.mkdir(parents=True, exist_ok=True)
    (where / "config.json").write_text(json.dumps(cfg))
    (where / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in log))
    (where / "result.json").write_text(json.dumps(summarize(cfg, log)))
