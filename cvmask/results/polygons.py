"""Masks as polygons, with their holes and parts, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.masks import BoxMask


class Polygon(NamedTuple):
    """One connected part of a mask.

    Vertices are pixels of the mask itself, the outermost ones of the part and the ones that line its
    holes, as x, y with shape (k, 2). ``cv2.fillPoly`` over all rings gives the pixels back.
    """

    outline: NDArray[np.int32]
    holes: list[NDArray[np.int32]]


def trace(box_mask: BoxMask) -> list[Polygon]:
    """Trace a mask, in pixels of the frame; parts from large to small, none if nothing is on."""
    contours, hierarchy = cv2.findContours(
        box_mask.mask.view(np.uint8),
        cv2.RETR_CCOMP,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(box_mask.left, box_mask.top),
    )
    if not contours:
        return []
    parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
    rings = [np.asarray(contour, dtype=np.int32).reshape(-1, 2) for contour in contours]
    parts = {
        index: Polygon(ring, []) for index, (ring, parent) in enumerate(zip(rings, parents)) if parent < 0
    }
    for ring, parent in zip(rings, parents):
        if parent >= 0:
            parts[parent].holes.append(ring)
    return sorted(parts.values(), key=lambda part: -cv2.contourArea(part.outline))


def fill(polygons: Sequence[Polygon], frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill polygons again; shape (height, width)."""
    mask = np.zeros(frame_size, dtype=np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [polygon.outline, *polygon.holes], 1)
    return mask.view(np.bool_)


def one_ring(polygons: Sequence[Polygon]) -> NDArray[np.int32]:
    """Join all rings into a single one, for formats that know neither holes nor parts.

    Each ring is entered and left over the shortest bridge to what is already joined. The way there
    and back encloses nothing, so the area stays the same; at most, pixels of a bridge are added.

    Returns
    -------
    Shape (k, 2); (0, 2) for no polygons.
    """
    rings = [ring for polygon in polygons for ring in (polygon.outline, *polygon.holes)]
    joined = rings[0] if rings else np.zeros((0, 2), dtype=np.int32)
    for ring in rings[1:]:
        distances = ((joined[:, None].astype(np.int64) - ring[None]) ** 2).sum(axis=2)
        at, entry = np.unravel_index(int(distances.argmin()), distances.shape)
        detour = np.concatenate([ring[entry:], ring[: entry + 1]])
        joined = np.concatenate([joined[: at + 1], detour, joined[at:]])
    return joined
