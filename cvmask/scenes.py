"""Made-up scenes of eight shapes with exact ground truth, still or moving.

The bundled model is trained on them, `cvmask demo` shows them, and the tests take their truth from
them. The same seed gives the same scene on every machine with the same NumPy and OpenCV.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import cv2
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
    """Return left, top and how much of each pixel the object covers: float32 (h, w) in 0..1."""
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


def move_(thing: Thing, seconds: float, size_wh: tuple[int, int]) -> None:
    """Move an object on; at the borders it turns back."""
    thing.center = thing.center + thing.velocity * seconds
    thing.angle += thing.spin * seconds
    margin = np.minimum(reach(thing), np.array(size_wh) / 2 - 1)
    too_low, too_high = thing.center < margin, thing.center > np.array(size_wh) - margin
    thing.velocity = np.where(too_low, np.abs(thing.velocity), thing.velocity)
    thing.velocity = np.where(too_high, -np.abs(thing.velocity), thing.velocity)


def bounce_apart_(things: list[Thing]) -> None:
    """Make objects that come near each other bounce."""
    for i, first in enumerate(things):
        for second in things[:i]:
            apart = first.center - second.center
            distance = float(np.linalg.norm(apart)) or 1.0
            if distance < reach(first) + reach(second) + 6:
                toward = apart / distance
                first.velocity = toward * np.linalg.norm(first.velocity)
                second.velocity = -toward * np.linalg.norm(second.velocity)


_MIN_VISIBLE = 0.5
_MIN_INSIDE = 0.75


def place_things(
    rng: np.random.Generator, size_wh: tuple[int, int], count: int, background: Floats, overlap: bool
) -> list[Thing]:
    """Place objects from back to front, with at least half of each visible."""
    things: list[Thing] = []
    owner = np.full(size_wh[::-1], -1, np.int16)
    full: list[int] = []
    for _ in range(count * 8):
        if len(things) == count:
            break
        center = rng.uniform(0, 1, 2) * size_wh
        spot = int(center[1]), int(center[0])
        below = owner[spot]
        under = background[spot] if below < 0 else things[below].paint.mean(axis=(0, 1))
        thing = new_thing(rng, size_wh, center, under)
        left, top, cover = cover_of(thing)
        rows, columns, cut = clip_to(size_wh, left, top, cover)
        solid = cut >= 0.5
        area = int((cover >= 0.5).sum())
        if solid.sum() < _MIN_INSIDE * area:
            continue
        hidden = np.bincount(owner[rows, columns][solid] + 1, minlength=len(things) + 1)[1:]
        seen = np.bincount(owner.ravel() + 1, minlength=len(things) + 1)[1:]
        if hidden.any() and (not overlap or (seen - hidden < _MIN_VISIBLE * np.array(full)).any()):
            continue
        owner[rows, columns][solid] = len(things)
        things.append(thing)
        full.append(area)
    return things


@dataclass(frozen=True)
class Scene:
    """A picture and its ground truth.

    image is uint8 (H, W, 3) BGR. masks is bool (n, H, W): the visible pixels of each object. xyxy is
    float32 (n, 4) in pixels, right and bottom exclusive: the tight box around the mask. class_id is int32 (n,)
    into LABELS; instance_id is int32 (n,), the same for the same object in every frame of a moving scene.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int32]
    instance_id: NDArray[np.int32]


def render(things: list[Thing], background: Floats) -> Scene:
    """Paint objects, from back to front, on a background of float32, shape (height, width, 3)."""
    height, width = background.shape[:2]
    picture = background.copy()
    owner = np.full((height, width), -1, np.int16)
    for index, thing in enumerate(things):
        left, top, cover = cover_of(thing)
        rows, columns, cut = clip_to((width, height), left, top, cover)
        if cut.size:
            _paint_on(picture, thing, rows, columns, (left, top), cut)
            owner[rows, columns][cut >= 0.5] = index
    image = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return _with_truth(image, owner, things)


def _paint_on(
    picture: Floats,
    thing: Thing,
    rows: slice,
    columns: slice,
    top_left: tuple[int, int],
    cut: Floats,
) -> None:
    """Lay the object over float32 (H, W, 3) `picture`, in place."""
    y0, x0 = rows.start - top_left[1], columns.start - top_left[0]
    height, width = cut.shape
    side = thing.paint.shape[0]
    texture = thing.paint[np.ix_(np.arange(y0, y0 + height) % side, np.arange(x0, x0 + width) % side)]
    texture = texture.astype(np.float32)
    if thing.edge is not None:
        inner = cv2.erode(cut, np.ones((3, 3), np.uint8))[..., None]
        texture = texture * inner + thing.edge.astype(np.float32) * (1 - inner)
    region = picture[rows, columns]
    region += cut[..., None] * (texture - region)


def _with_truth(image: NDArray[np.uint8], owner: NDArray[np.int16], things: list[Thing]) -> Scene:
    ids = [i for i in range(len(things)) if (owner == i).any()]
    masks = np.stack([owner == i for i in ids]) if ids else np.zeros((0, *owner.shape), bool)
    boxes = [cv2.boundingRect(mask.astype(np.uint8)) for mask in masks]
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32).reshape(-1, 4)
    class_id = np.array([things[i].class_id for i in ids], np.int32)
    return Scene(image, masks, xyxy, class_id, np.array(ids, np.int32))


__all__ = ["LABELS", "MAX_SIDE", "MIN_SIDE", "Scene", "make_scene", "moving_scene"]


def make_scene(
    seed: int, size_wh: tuple[int, int] = (320, 320), objects: int | None = None, overlap: bool = True
) -> Scene:
    """A still scene.

    Parameters
    ----------
    seed
        The same seed and arguments give the same scene.
    size_wh
        Width and height in pixels, at least 32 each.
    objects
        How many to place; 1 to 8 at random if None. Fewer are placed if there is no room.
    overlap
        Whether objects may hide parts of each other (never more than half).

    Raises
    ------
    ValueError
        If a side is below 32 pixels.
    """
    background, things = _compose(seed, size_wh, objects, overlap)
    return render(things, background)


def moving_scene(
    seed: int,
    frames: int,
    size_wh: tuple[int, int] = (320, 320),
    objects: int | None = None,
    frame_rate: float = 25.0,
    overlap: bool = True,
) -> Iterator[Scene]:
    """The frames of a scene whose objects drift, turn and bounce off the borders.

    Parameters are those of `make_scene`; frame_rate is in frames a second. With overlap=False the
    objects bounce off each other's circles as well, so that none ever hides another.
    """
    background, things = _compose(seed, size_wh, objects, overlap)
    for _ in range(frames):
        yield render(things, background)
        if not overlap:
            bounce_apart_(things)
        for thing in things:
            move_(thing, 1 / frame_rate, size_wh)


def _compose(
    seed: int, size_wh: tuple[int, int], objects: int | None, overlap: bool
) -> tuple[Floats, list[Thing]]:
    if min(size_wh) < 32:
        raise ValueError(f"size_wh must be at least 32 x 32, got {size_wh[0]} x {size_wh[1]}")
    rng = np.random.default_rng(seed)
    background = make_background(rng, size_wh[1], size_wh[0])
    count = int(rng.integers(1, 9)) if objects is None else objects
    return background, place_things(rng, size_wh, count, background, overlap)
