"""The suite that tests train: seconds, not minutes."""

TINY = {
    "title": "Tiny",
    "scale": "mini",
    "trial": True,
    "cells": [{"dataset": "digits", "backbone": "uvit-xs"}],
    "arms": ["none", "learnable(r=4)"],
    "seeds": {"paired": [0, 1, 2], "pilots": [100, 101, 102]},
    "budget": 960,
    "batch": 32,
    "optimizer": {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.03, "warmup": 0.1},
    "ema": {"half_life": 0.1},
    "evaluation": {
        "count": 4,
        "samples": 128,
        "sampler": "dpmpp-2m",
        "steps": 2,
        "extractor": "small-conv",
        "repeats": 2,
    },
}
