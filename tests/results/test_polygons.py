"""Polygons keep holes and parts, and filling them gives the mask back."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from cvmask.results.detections import Detections
from cvmask.results.masks import BoxMask
from cvmask.results.polygons import fill, one_ring, trace

RING_AND_DOT = np.array(
    [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
    ],
    dtype=bool,
)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_trace_keeps_a_hole_and_a_part() -> None:
    ring, dot = trace(BoxMask(RING_AND_DOT, left=10, top=20))
    assert sorted(ring.outline.tolist()) == [[10, 20], [10, 24], [14, 20], [14, 24]]
    assert len(ring.holes) == 1
    assert ring.holes[0].min(axis=0).tolist() == [10, 20]
    assert (dot.outline.tolist(), dot.holes) == ([[16, 22]], [])


def test_trace_of_nothing() -> None:
    assert trace(BoxMask(np.zeros((4, 4), bool), 0, 0)) == []


def test_trace_sorts_parts_from_large_to_small() -> None:
    mask = np.zeros((20, 40), bool)
    mask[2:5, 2:5] = mask[5:18, 10:30] = True
    assert [part.outline.min(axis=0).tolist() for part in trace(BoxMask(mask, 0, 0))] == [[10, 5], [2, 2]]


def test_fill_gives_the_mask_back() -> None:
    assert np.array_equal(fill(trace(BoxMask(RING_AND_DOT, 0, 0)), (5, 7)), RING_AND_DOT)


def smooth_masks() -> list[np.ndarray]:
    rng = np.random.default_rng(6)
    sizes = [(40, 50), (90, 70), (300, 400), (700, 500)]
    made = [cv2.resize(rng.random((9, 9)), size) > limit for size in sizes for limit in (0.35, 0.5, 0.65)]
    return [mask for mask in made if mask.sum() > 1000]


def test_fill_covers_at_least_99_percent_of_masks_above_1000_pixels() -> None:
    masks = smooth_masks()
    assert len(masks) >= 8
    for mask in masks:
        polygons = trace(BoxMask(mask, 0, 0))
        assert iou(fill(polygons, mask.shape), mask) >= 0.99
        # and with the holes of each part bridged, for formats that know none
        rings = [fill_ring(one_ring([polygon]), mask.shape) for polygon in polygons]
        assert iou(np.logical_or.reduce(rings), mask) >= 0.99


def fill_ring(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [ring], 1)
    return canvas.astype(bool)


def test_one_ring_leaves_holes_open() -> None:
    mask = RING_AND_DOT[:, :5]
    assert np.array_equal(fill_ring(one_ring(trace(BoxMask(mask, 0, 0))), mask.shape), mask)


def test_one_ring_bridges_parts() -> None:
    filled = fill_ring(one_ring(trace(BoxMask(RING_AND_DOT, 0, 0))), (5, 7))
    assert (filled ^ RING_AND_DOT).sum() <= 2
    assert (filled & RING_AND_DOT).sum() == RING_AND_DOT.sum()


def test_one_ring_of_nothing() -> None:
    assert one_ring([]).shape == (0, 2)


def test_detections_trace_every_object(two: Detections) -> None:
    first, second = two.polygons()
    assert sorted(first[0].outline.tolist()) == [[1, 1], [1, 2], [3, 1], [3, 2]]
    assert sorted(second[0].outline.tolist()) == [[4, 2], [4, 5], [5, 2], [5, 5]]


def holed(height: int, width: int, holes: int) -> np.ndarray:
    """An ellipse with ragged edges that fills the frame, and round holes in it, some inside of others' rows."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    mask = np.hypot(2 * x / width - 1, 2 * y / height - 1) < 0.99
    drawn = mask.astype(np.uint8)
    for _ in range(holes):
        center = (int(rng.integers(width // 4, 3 * width // 4)), int(rng.integers(height // 4, 3 * height // 4)))
        cv2.circle(drawn, center, int(rng.integers(1, 12)), 0, -1)
    return drawn.astype(bool)


def test_one_ring_opens_every_hole_to_the_pixel() -> None:
    for mask in (holed(300, 400, 60), holed(90, 70, 300), np.random.default_rng(1).random((60, 80)) < 0.7):
        for polygon in trace(BoxMask(mask, 7, 9)):
            part = fill([polygon], (400, 500))
            assert np.array_equal(fill_ring(one_ring([polygon]), part.shape), part)


@pytest.mark.parametrize("holes", [1, 4000])
def test_one_ring_takes_memory_for_its_vertices_alone(holes: int) -> None:
    mask = np.zeros((4000, 6000), np.uint8)
    cv2.ellipse(mask, (3000, 2000), (2900, 1900), 0, 0, 360, 1, -1)
    for number in range(holes):
        place, radius = (1500 + 40 * (number % 80), 1000 + 40 * (number // 80)), 9
        cv2.circle(mask, *((place, radius) if holes > 1 else ((3000, 2000), 1500)), 0, -1)
    polygons = trace(BoxMask(mask.astype(bool), 0, 0))
    tracemalloc.start()
    try:
        ring = one_ring(polygons)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2000 * len(ring), "distances between all vertices would be many times that"
    assert np.array_equal(fill_ring(ring, mask.shape), mask.astype(bool))
