"""Outlines of the eight shapes, as polygons in unit coordinates."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

LABELS = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "arrow")


def make_outline(name: str, rng: np.random.Generator) -> list[Floats]:
    """One polygon, or two for a ring: points (k, 2), x and y in about -1..1, filled by the even-odd rule."""
    if name == "circle":
        return [_circle_points()]
    if name == "square":
        return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)]
    if name == "triangle":
        return [_circle_points(count=3)]
    if name == "star":
        return [_star_points(rng.uniform(0.38, 0.5))]
    if name == "cross":
        return [_cross_points(rng.uniform(0.22, 0.4))]
    if name == "ring":
        return [_circle_points(), _circle_points(rng.uniform(0.5, 0.72))]
    if name == "heart":
        return [_heart_points()]
    return [_arrow_points(rng.uniform(0.2, 0.35), rng.uniform(-0.1, 0.3))]


def _circle_points(radius: float = 1.0, count: int = 64) -> Floats:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star_points(inner: float) -> Floats:
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    radii = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    return cast("Floats", radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _cross_points(arm: float) -> Floats:
    a = arm
    corners = [
        (-a, -1),
        (a, -1),
        (a, -a),
        (1, -a),
        (1, a),
        (a, a),
        (a, 1),
        (-a, 1),
        (-a, a),
        (-1, a),
        (-1, -a),
    ]
    return np.array([*corners, (-a, -a)], float)


def _heart_points() -> Floats:
    # x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t: the usual heart curve, scaled to about 1.
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 16


def _arrow_points(shaft: float, head: float) -> Floats:
    s, h = shaft, head
    return np.array([(-1, -s), (h, -s), (h, -0.75), (1, 0), (h, 0.75), (h, s), (-1, s)], float)
