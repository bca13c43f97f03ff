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
MASK_SAMPLES = (c.MASK_SIZE - 1) * c.MASK_FINE + 1


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
    samples = [sample_mask(mask, roi) for mask, roi in zip(scene.masks, rois)]
    side = MASK_SAMPLES
    stacked = np.stack(samples) if samples else np.zeros((0, side, side), np.float32)
    return {"mask_boxes": rois, "mask_samples": stacked.astype(np.float32)}


def sample_mask(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The mask from edge to edge of the box: where TensorFlow's pasting puts the cells, and between them.

    TensorFlow takes pixel i of n from i / (n - 1) of the picture, so place y of the box is pixel y (n - 1) / n.
    """
    steps = np.linspace(0, 1, MASK_SAMPLES)
    rows, columns = (
        np.clip(np.rint((box[k] + steps * (box[k + 2] - box[k])) * (side - 1) / side), 0, side - 1).astype(int)
        for k, side in enumerate(mask.shape)
    )
    return mask[np.ix_(rows, columns)]


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
