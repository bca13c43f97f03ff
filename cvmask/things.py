"""One object: its outline, where it is, how it is painted, and which pixels it covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.outlines import LABELS, Floats, make_outline
from cvmask.paint import make_texture

MIN_SIDE, MAX_SIDE = 20, 220
_SUPERSAMPLING = 2


@dataclass
class Thing:
    """One object: its outline in unit coordinates, where it is, and how it is painted."""

    class_id: int
    outline: list[Floats]
    center: Floats
    scale: float
    angle: float
    paint: NDArray[np.uint8]
    edge: Floats | None
    velocity: Floats
    spin: float


def new_thing(
    rng: np.random.Generator, size_wh: tuple[int, int], center: Floats, under: Floats
) -> Thing:
    """An object at `center` whose colours differ from the colour `under` it."""
    class_id = int(rng.integers(len(LABELS)))
    outline = make_outline(LABELS[class_id], rng)
    squeeze = np.array([1.0, rng.uniform(0.8, 1.0)])
    outline = [points * squeeze for points in outline]
    angle = rng.uniform(0, 2 * np.pi)
    extent = np.ptp(rotated(outline[0], angle), axis=0).max()
    limit = min(MAX_SIDE, 0.9 * min(size_wh))
    side = float(np.exp(rng.uniform(np.log(MIN_SIDE + 1), np.log(max(limit, MIN_SIDE + 2)))))
    texture = make_texture(rng, int(side * 1.5) + 4, under)
    edge = rng.uniform(0, 255, 3) if rng.random() < 0.3 else None
    speed, heading = rng.uniform(20, 90), rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    return Thing(
        class_id, outline, center, side / extent, angle, texture, edge, velocity, rng.uniform(-1, 1)
    )


def rotated(points: Floats, angle: float) -> Floats:
    """Turn points, shape (k, 2), around the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cast("Floats", points @ np.array([[cos, sin], [-sin, cos]]))


def reach(thing: Thing) -> float:
    """Give the radius in pixels of the circle around the centre that holds the object."""
    return thing.scale * float(np.linalg.norm(thing.outline[0], axis=1).max())


def cover_of(thing: Thing) -> tuple[int, int, Floats]:
    """Left, top and how much of each pixel the object covers: float32 (h, w) in 0..1."""
    polygons = [rotated(points, thing.angle) * thing.scale + thing.center for points in thing.outline]
    left, top = np.floor(polygons[0].min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(polygons[0].max(axis=0)).astype(int) + 1
    fine = np.zeros(((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING), np.uint8)
    # Pixel centres lie at whole coordinates for fillPoly and at halves here.
    points = [((p - (left, top)) * _SUPERSAMPLING - 0.5) * 256 for p in polygons]
    cv2.fillPoly(fine, [np.round(p).astype(np.int32) for p in points], 255, shift=8)
    cover = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return int(left), int(top), cover.astype(np.float32) / 255


def clip_to(
    size_wh: tuple[int, int], left: int, top: int, cover: Floats
) -> tuple[slice, slice, Floats]:
    """The part of a cover that lies in the frame: rows, columns and the cut."""
    height, width = cover.shape
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(min(left + width, size_wh[0]), x0), max(min(top + height, size_wh[1]), y0)
    return slice(y0, y1), slice(x0, x1), cover[y0 - top : y1 - top, x0 - left : x1 - left]
