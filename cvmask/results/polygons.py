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


def trace_edges(box_mask: BoxMask) -> list[Polygon]:
    """Trace a mask as `trace` does, but along the edges of its pixels: pixel 7 reaches from 7 to 8.

    The area of a polygon is then the number of its pixels, and readers that ask whether the centre of a pixel lies
    inside find exactly the mask.
    """
    doubled = box_mask.mask.repeat(2, axis=0).repeat(2, axis=1)
    corner = np.array([box_mask.left, box_mask.top], dtype=np.int32)
    return [
        Polygon(_to_edges(part.outline) + corner, [_to_edges(hole) + corner for hole in part.holes])
        for part in trace(BoxMask(doubled, 0, 0))
    ]


def _to_edges(doubled: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn vertices of a mask in which each pixel is four into corners of pixels, each once in a row."""
    corners = (doubled + 1) // 2
    kept: NDArray[np.int32] = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    return kept


def fill(polygons: Sequence[Polygon], frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill polygons again; shape (height, width)."""
    mask = np.zeros(frame_size, dtype=np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [polygon.outline, *polygon.holes], 1)
    return mask.view(np.bool_)


_LEAST_IOU, _SMALLEST_TOLERANCE_PX = 0.99, 0.2


def simplify(polygon: Polygon, tolerance_px: float = 1.0) -> Polygon:
    """Leave out vertices; rings stay within `tolerance_px` of what they were (Douglas-Peucker).

    The tolerance is halved until what is filled has an IoU of at least 0.99 with what was filled before.
    """
    left, top, width, height = cv2.boundingRect(polygon.outline)
    corner = np.array([left, top], dtype=np.int32)
    here = Polygon(polygon.outline - corner, [hole - corner for hole in polygon.holes])
    mask = fill([here], (height, width))
    while tolerance_px > _SMALLEST_TOLERANCE_PX:
        fewer = Polygon(_thinned(here.outline, tolerance_px), [_thinned(hole, tolerance_px) for hole in here.holes])
        filled = fill([fewer], (height, width))
        if np.count_nonzero(mask & filled) >= _LEAST_IOU * np.count_nonzero(mask | filled):
            return Polygon(fewer.outline + corner, [hole + corner for hole in fewer.holes])
        tolerance_px /= 2
    return polygon


def _thinned(ring: NDArray[np.int32], tolerance_px: float) -> NDArray[np.int32]:
    fewer = cv2.approxPolyDP(ring, tolerance_px, True).reshape(-1, 2)
    return np.asarray(fewer, dtype=np.int32) if len(fewer) >= 3 else ring


def one_ring(polygons: Sequence[Polygon]) -> NDArray[np.int32]:
    """Join all rings into a single one, for formats that know neither holes nor parts.

    The outline of a part runs along a row of its own pixels into each hole and back; parts are joined by short
    bridges between two vertices. The way there and back encloses nothing, so the area stays the same; at most,
    pixels of a bridge are added. Time and memory grow with the number of vertices, the time with that of parts too.

    Returns
    -------
    Shape (k, 2); (0, 2) for no polygons.
    """
    rings = [_open_holes(polygon) for polygon in polygons]
    joined = rings[0] if rings else np.zeros((0, 2), dtype=np.int32)
    for ring in rings[1:]:
        at, entry = _near(joined, ring)
        joined = np.concatenate([joined[: at + 1], ring[entry:], ring[: entry + 1], joined[at:]])
    return joined


def worth_joining(polygons: Sequence[Polygon]) -> list[Polygon]:
    """Leave out parts that have fewer pixels than the bridge to them would add.

    So the result of `one_ring`, painted with its outline, is never further from the mask than the largest part alone.
    """
    kept = list(polygons[:1])
    joined = kept[0].outline if kept else np.zeros((0, 2), dtype=np.int32)
    for part in polygons[1:]:
        at, entry = _near(joined, part.outline)
        bridge = int(np.abs(joined[at] - part.outline[entry]).max()) - 1
        left, top, width, height = cv2.boundingRect(part.outline)
        corner = np.array([left, top], dtype=np.int32)
        here = Polygon(part.outline - corner, [hole - corner for hole in part.holes])
        if bridge <= np.count_nonzero(fill([here], (height, width))):
            kept.append(part)
            joined = np.concatenate([joined, part.outline])
    return kept


_MOST_STARTS, _MOST_DISTANCES = 16, 200_000


def _near(joined: NDArray[np.int32], ring: NDArray[np.int32]) -> tuple[int, int]:
    """Find a vertex of each, close together: step to the nearest vertex of the other ring until neither moves."""
    count = max(1, min(_MOST_STARTS, len(ring), _MOST_DISTANCES // len(joined)))
    starts = np.linspace(0, len(ring) - 1, count).astype(int)
    apart = [_squares(joined, ring[start]).min() for start in starts]
    entry = int(starts[int(np.argmin(apart))])
    at, shortest = int(_squares(joined, ring[entry]).argmin()), min(apart)
    while True:
        nearer = int(_squares(ring, joined[at]).argmin())
        back = int(_squares(joined, ring[nearer]).argmin())
        distance = _squares(joined[back : back + 1], ring[nearer])[0]
        if distance >= shortest:
            return at, entry
        at, entry, shortest = back, nearer, distance


def _squares(points: NDArray[np.int32], point: NDArray[np.int32]) -> NDArray[np.int64]:
    squares: NDArray[np.int64] = ((points.astype(np.int64) - point) ** 2).sum(axis=1)
    return squares


def _open_holes(polygon: Polygon) -> NDArray[np.int32]:
    """Run the outline into each hole and back, along the row to the left of the hole's leftmost vertex."""
    if not polygon.holes:
        return polygon.outline
    turned = [np.roll(hole, -int(hole[:, 0].argmin()), axis=0) for hole in polygon.holes]
    # To the left of a hole is the outline or a hole that begins further left, so bridges form no cycle.
    rings = [polygon.outline, *sorted(turned, key=lambda ring: int(ring[0, 0]))]
    bridges: list[list[tuple[int, int, NDArray[np.int32], int]]] = [[] for _ in rings]
    for child, (ring, vertex, step, point) in enumerate(_left_of_holes(rings), 1):
        bridges[ring].append((vertex, step, point, child))
    pieces: list[list[NDArray[np.int32]]] = [[] for _ in rings]
    for number in range(len(rings) - 1, -1, -1):
        vertices, done = rings[number], 0
        for vertex, step, point, child in sorted(bridges[number], key=lambda bridge: bridge[:2]):
            pieces[number] += [vertices[done : vertex + 1], *([point] if step else []), *pieces[child], point]
            done = vertex + 1
        # A hole ends where it began; readers close the outline.
        pieces[number] += [vertices[done:], *([vertices[:1]] if number else [])]
    return np.concatenate(pieces[0])


def _left_of_holes(rings: Sequence[NDArray[np.int32]]) -> list[tuple[int, int, int, NDArray[np.int32]]]:
    """For each ring except the first, find the edge to the left of its first vertex.

    Returns
    -------
    The ring hit, the vertex at which the hit edge begins, how many rows further it is hit, and where, (1, 2).
    """
    lengths = [len(ring) for ring in rings]
    starts = np.cumsum([0, *lengths[:-1]])
    vertices = np.concatenate(rings).astype(np.int64)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.int64)
    ring_of = np.repeat(np.arange(len(rings)), lengths)
    # The crossing of every edge with every row; a level edge counts at its first vertex.
    rows = np.maximum(1, np.abs(ends[:, 1] - vertices[:, 1]))
    edges = np.repeat(np.arange(len(vertices)), rows)
    steps = np.arange(len(edges)) - np.repeat(np.cumsum(rows) - rows, rows)
    met = vertices[edges] + np.rint((ends - vertices)[edges] * (steps / rows[edges])[:, None]).astype(np.int64)
    corner, width = met.min(axis=0), int(np.ptp(met[:, 0])) + 1

    def key(points: NDArray[np.int64], ring: NDArray[np.int64]) -> NDArray[np.int64]:
        x, y = (points - corner).T
        keys: NDArray[np.int64] = (y * width + x) * len(rings) + ring
        return keys

    keys = key(met, ring_of[edges])
    order = keys.argsort()
    holes = np.arange(1, len(rings))
    places = np.searchsorted(keys[order], key(vertices[starts[1:]], holes)) - 1
    found = []
    for hole, place in zip(holes.tolist(), order[places].tolist()):
        edge, step, (x, y) = int(edges[place]), int(steps[place]), met[place].tolist()
        ring = int(ring_of[edge])
        if ring >= hole or y != rings[hole][0, 1]:  # rings may cross each other after simplification
            ring, edge, step = 0, int(_squares(rings[0], rings[hole][0]).argmin()), 0
            x, y = rings[0][edge].tolist()
        found.append((ring, edge - int(starts[ring]), step, np.array([[x, y]], dtype=np.int32)))
    return found
