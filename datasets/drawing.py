"""Draws simple coloured shapes: what `shapes` and `scenes` are made of."""

from __future__ import annotations

import numpy as np

SHAPES = ("disc", "square", "triangle")
COLOURS = {"red": (225, 60, 50), "green": (60, 180, 75), "blue": (50, 90, 220), "yellow": (240, 210, 60)}
FINE = 4  # sub-pixels per side, for smooth edges


def background(bits: np.random.Generator, size: int, low: int = 40, high: int = 160) -> np.ndarray:
    """A grey ground that brightens from one side to the other, float (size, size, 3)."""
    start, end = bits.integers(low, high, 2)
    ramp = np.linspace(start, end, size)
    ground = np.tile(ramp, (size, 1)) if bits.integers(2) else np.tile(ramp[:, None], (1, size))
    return np.stack([ground] * 3, axis=2)


def coverage(shape: str, x: float, y: float, radius: float, size: int) -> np.ndarray:
    """How much of each pixel a shape covers, float (size, size) in [0, 1]; x, y, radius in pixels."""
    at = (np.arange(size * FINE) + 0.5) / FINE
    dx, dy = at[None, :] - x, at[:, None] - y
    inside = {
        "disc": dx**2 + dy**2 <= radius**2,
        "square": np.maximum(abs(dx), abs(dy)) <= 0.9 * radius,
        "triangle": (dy <= 0.8 * radius) & (dy >= -radius + 1.8 * abs(dx)),
    }[shape]
    return np.asarray(inside.reshape(size, FINE, size, FINE).mean(axis=(1, 3)))


def paint(ground: np.ndarray, shape: str, colour: str, x: float, y: float, radius: float) -> np.ndarray:
    """The ground (size, size, 3) with a shape on it."""
    cover = coverage(shape, x, y, radius, len(ground))[:, :, None]
    return np.asarray(ground * (1 - cover) + np.array(COLOURS[colour]) * cover)


def to_uint8(images: list[np.ndarray]) -> np.ndarray:
    """Pictures (size, size, 3) as uint8 (n, 3, size, size)."""
    return np.array(np.rint(np.stack(images)).astype(np.uint8).transpose(0, 3, 1, 2), order="C")
