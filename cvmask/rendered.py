"""Objects on a background become a picture, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.outlines import Floats
from cvmask.things import Thing, clip_to, cover_of


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    image is uint8 (H, W, 3) BGR. masks is bool (n, H, W): the pixels of each object that are really
    seen. xyxy is float32 (n, 4) in pixels, right and bottom exclusive: the tight box around the mask.
    class_id is int32 (n,) into LABELS; instance_id is int32 (n,), the same for the same object in
    every frame of a moving scene.
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
