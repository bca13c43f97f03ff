"""What the network should answer: training samples with the targets of each stage."""

from __future__ import annotations

import numpy as np

from cvmask import scenes

from . import boxes as bx
from . import config as c

MAX_OBJECTS = 12
RPN_SAMPLES, RPN_POSITIVES = 160, 64
ROI_SAMPLES, ROI_POSITIVES = 32, 16
MASK_JITTER = 0.05
# Pasting cuts corners to whole pixels and includes both: in the mean half a pixel more on each side.
PASTED_MARGIN = 0.5


class Samples:
    """An endless dataset of scenes; item i is made from seed first_seed + i."""

    def __init__(self, first_seed: int, count: int, size_wh: tuple[int, int]):
        self.first_seed, self.count, self.size_wh = first_seed, count, size_wh
        self.anchors = bx.anchors(size_wh)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        seed = self.first_seed + index
        rng = np.random.default_rng(seed ^ 0x5EED)
        scene = scenes.make_scene(seed, self.size_wh, objects=int(rng.integers(1, MAX_OBJECTS + 1)))
        truth = scene.xyxy[:, [1, 0, 3, 2]]
        return {
            "image": scene.image[..., ::-1].copy(),
            "boxes": truth,
            "classes": scene.class_id.astype(np.int64),
            **rpn_targets(self.anchors, truth, rng),
            **mask_targets(scene, truth, rng),
        }


def rpn_targets(anchors: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Which anchors to learn from (indices), what they are (0 or 1), and encodings of the ones."""
    overlaps = bx.iou(anchors, truth) if len(truth) else np.zeros((len(anchors), 1))
    best = overlaps.max(axis=1)
    labels = np.where(best >= 0.55, 1, np.where(best < 0.4, 0, -1))
    if len(truth):
        labels[(overlaps == overlaps.max(axis=0)).any(axis=1) & (best > 0.1)] = 1
    positive = _choose(np.flatnonzero(labels == 1), RPN_POSITIVES, rng)
    negative = _choose(np.flatnonzero(labels == 0), RPN_SAMPLES - len(positive), rng)
    matched = overlaps[positive].argmax(axis=1)
    encodings = (
        bx.encode(truth[matched], anchors[positive]) if len(positive) else np.zeros((0, 4), np.float32)
    )
    return {"rpn_positive": positive, "rpn_negative": negative, "rpn_encodings": encodings}


def _choose(items: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return items if len(items) <= count else rng.choice(items, count, replace=False)


def jitter(
    boxes: np.ndarray, amount: float, limit_yx: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Boxes with every side moved by up to `amount` of the box, kept inside the picture."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + rng.uniform(-amount, amount, boxes.shape) * sides
    return np.clip(moved, 0, [*limit_yx, *limit_yx]).astype(np.float32)


def mask_targets(scene: scenes.Scene, truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Boxes near the truth, as the second stage will give them, and the mask inside each."""
    rois = jitter(truth, MASK_JITTER, scene.image.shape[:2], rng)
    margin = np.array([-PASTED_MARGIN, -PASTED_MARGIN, PASTED_MARGIN, PASTED_MARGIN])
    cells = [calibrate(cover_cells(mask, roi + margin)) for mask, roi in zip(scene.masks, rois)]
    stacked = np.stack(cells) if cells else np.zeros((0, c.MASK_SIZE, c.MASK_SIZE), np.float32)
    return {"mask_boxes": rois, "mask_cells": stacked.astype(np.float32)}


def cover_cells(mask: np.ndarray, box: np.ndarray, fine: int = 4) -> np.ndarray:
    """How much of each of the 15 x 15 cells of the box the mask covers, from 4 x 4 samples a cell."""
    steps = (np.arange(c.MASK_SIZE * fine) + 0.5) / (c.MASK_SIZE * fine)
    padded = np.pad(mask, 1)
    y = np.clip(np.floor(box[0] + steps * (box[2] - box[0])).astype(int) + 1, 0, padded.shape[0] - 1)
    x = np.clip(np.floor(box[1] + steps * (box[3] - box[1])).astype(int) + 1, 0, padded.shape[1] - 1)
    return padded[np.ix_(y, x)].reshape(c.MASK_SIZE, fine, c.MASK_SIZE, fine).mean(axis=(1, 3))


def calibrate(cover: np.ndarray) -> np.ndarray:
    """Bend 0..1 so that one half becomes the default mask threshold: the contour then lies on the edge."""
    t = c.MASK_THRESHOLD
    return np.where(cover < 0.5, cover * 2 * t, t + (cover - 0.5) * 2 * (1 - t))


def roi_targets(
    proposals: np.ndarray,
    truth: np.ndarray,
    classes: np.ndarray,
    limit_yx: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes for the second stage, their classes (0 is background) and encodings of their truth."""
    if not len(truth):
        chosen = proposals[:ROI_SAMPLES]
        return chosen, np.zeros(len(chosen), np.int64), np.zeros((len(chosen), 4), np.float32)
    near = jitter(np.repeat(truth, 2, axis=0), 0.2, limit_yx, rng)
    candidates = np.concatenate([proposals, near])
    overlaps = bx.iou(candidates, truth)
    best, match = overlaps.max(axis=1), overlaps.argmax(axis=1)
    positive = _choose(np.flatnonzero(best >= 0.5), ROI_POSITIVES, rng)
    negative = _choose(np.flatnonzero(best < 0.5), ROI_SAMPLES - len(positive), rng)
    chosen = np.concatenate([positive, negative])
    labels = np.concatenate([classes[match[positive]] + 1, np.zeros(len(negative), np.int64)])
    return candidates[chosen], labels, bx.encode(truth[match[chosen]], candidates[chosen])
