"""Patterns and colours of backgrounds and objects."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.outlines import Floats

_MIN_CONTRAST = 70.0


def make_background(rng: np.random.Generator, height: int, width: int) -> Floats:
    first, second = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    second = first + (second - first) * rng.uniform(0.15, 1)
    kinds = ("gradient", "stripes", "checker", "blobs", "noise", "solid")
    picture = _mix(_pattern(rng, height, width, kinds), first, second)
    if rng.random() < 0.5:
        picture += rng.uniform(4, 30) * (rng.random((height, width, 1), np.float32) - np.float32(0.5))
    return picture


def make_texture(rng: np.random.Generator, side: int, avoid: Floats) -> NDArray[np.uint8]:
    """A texture of uint8 (side, side, 3) whose colours are far from `avoid`."""
    first, second = _far_color(rng, avoid), _far_color(rng, avoid)
    second = first + (second - first) * rng.uniform(0.1, 1)
    kinds = ("solid", "solid", "gradient", "stripes", "checker", "noise", "blobs")
    return np.clip(_mix(_pattern(rng, side, side, kinds), first, second), 0, 255).astype(np.uint8)


def _pattern(rng: np.random.Generator, height: int, width: int, kinds: tuple[str, ...]) -> Floats:
    """A pattern of float32 (height, width) in 0..1."""
    kind = kinds[rng.integers(len(kinds))]
    if kind == "solid":
        return np.zeros((height, width), np.float32)
    if kind == "noise":
        return rng.random((height, width), np.float32)
    if kind == "blobs":
        cells = rng.random((int(rng.integers(3, 9)), int(rng.integers(3, 9))), np.float32)
        return np.clip(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    angle = rng.uniform(0, np.pi)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    if kind == "gradient":
        low, high = along.min(), along.max()
        return cast("Floats", (along - low) / max(high - low, np.float32(1)))
    period = np.float32(rng.uniform(5, 40))
    wave = np.sin(along * (2 * np.float32(np.pi) / period) + np.float32(rng.uniform(0, 6)))
    if kind == "checker":
        across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
        wave = wave * np.sin(across * (2 * np.float32(np.pi) / period))
    return cast("Floats", (wave > 0).astype(np.float32) if rng.random() < 0.5 else wave / 2 + np.float32(0.5))


def _mix(pattern: Floats, first: Floats, second: Floats) -> Floats:
    return first.astype(np.float32) + pattern[..., None] * (second - first).astype(np.float32)


def _far_color(rng: np.random.Generator, avoid: Floats) -> Floats:
    for _ in range(20):
        color = rng.uniform(0, 255, 3)
        if np.linalg.norm(color - avoid) > _MIN_CONTRAST:
            break
    return color
