"""Boxes in NumPy: anchors, the box coder, overlaps. Boxes are (y1, x1, y2, x2) in pixels."""

from __future__ import annotations

import numpy as np

from . import config as c


def anchors(size_wh: tuple[int, int]) -> np.ndarray:
    """Anchors of a picture whose sides are multiples of the stride: float32 (n, 4), rows of cells first.

    They are clipped to the picture, as the Object Detection API does when it infers.
    """
    width, height = size_wh
    y, x = np.mgrid[0 : height + 1 : c.STRIDE, 0 : width + 1 : c.STRIDE].astype(np.float32)
    half = np.array(c.ANCHOR_SIDES, np.float32) / 2
    y, x = y[..., None], x[..., None]
    corners = np.stack([y - half, x - half, y + half, x + half], axis=-1).reshape(-1, 4)
    return np.clip(corners, 0, np.array([height, width, height, width], np.float32))


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    return shared / np.maximum(area(first)[:, None] + area(second)[None] - shared, 1e-6)


def area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def encode(boxes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The Faster R-CNN box coder: scaled offsets of centre and log size, (ty, tx, th, tw)."""
    center, size = _center_size(boxes)
    ref_center, ref_size = _center_size(reference)
    offsets = np.concatenate([(center - ref_center) / ref_size, np.log(size / ref_size)], axis=1)
    return (offsets * np.array(c.SCALES_YXHW)).astype(np.float32)


def decode(encodings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What `encode` made of a box, back to the box."""
    offsets = encodings / np.array(c.SCALES_YXHW, np.float32)
    ref_center, ref_size = _center_size(reference)
    center = offsets[:, :2] * ref_size + ref_center
    size = np.exp(np.clip(offsets[:, 2:], -8, 4)) * ref_size
    return np.concatenate([center - size / 2, center + size / 2], axis=1)


def _center_size(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, size


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, keep: int) -> np.ndarray:
    """Greedy non-maximum suppression: the indices kept, best first, at most `keep`."""
    order = np.argsort(-scores)
    overlaps = iou(boxes[order], boxes[order])
    alive, kept = np.ones(len(order), bool), []
    for i in range(len(order)):
        if alive[i]:
            kept.append(i)
            alive &= overlaps[i] <= threshold
            if len(kept) == keep:
                break
    return order[kept]
