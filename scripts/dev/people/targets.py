"""What the network should answer: the targets of each stage. Boxes are (y1, x1, y2, x2) in pixels."""

from __future__ import annotations

import numpy as np
import torch
from shapes import boxes as bx

from . import config as c
from .data import Mixer, Person

RPN_POSITIVES = 48
ROI_POSITIVES, ROI_NEGATIVES = 14, 24
MASKS, MASK_JITTER = 4, 0.08
FINE = 4  # samples a mask cell, each way


def anchors(size_wh: tuple[int, int]) -> np.ndarray:
    """Anchors of a picture whose sides are multiples of the stride: float32 (n, 4), clipped, rows of cells first."""
    width, height = size_wh
    y, x = np.mgrid[0 : height + 1 : c.STRIDE, 0 : width + 1 : c.STRIDE].astype(np.float32)
    h, w = np.array(c.ANCHOR_SIZES_HW, np.float32).T / 2
    y, x = y[..., None], x[..., None]
    corners = np.stack([y - h, x - w, y + h, x + w], axis=-1).reshape(-1, 4)
    return np.clip(corners, 0, np.array([height, width, height, width], np.float32))


class Samples(torch.utils.data.IterableDataset):
    """Samples with their targets, without end; each worker has its own."""

    def __init__(self, mixer: Mixer, seed: int):
        self.mixer, self.seed = mixer, seed
        self.anchors = anchors((c.SIZE, c.SIZE))

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            image, persons, partly = self.mixer.sample(rng)
            yield make(image, persons, partly, self.anchors, rng)


def make(
    image: np.ndarray, persons: list[Person], partly: bool, all_anchors: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One sample as the losses take it."""
    known = [p for p in persons if not p.unsure]
    truth = _boxes(known)
    unsure = _boxes([p for p in persons if p.unsure])
    return {
        "image": image[..., ::-1].copy(),
        "boxes": truth,
        "unsure": unsure,
        "partly": np.array(partly),
        **rpn_targets(all_anchors, truth, unsure, partly, rng),
        **mask_targets(known, truth, rng),
    }


def _boxes(persons: list[Person]) -> np.ndarray:
    return np.array([p.box[[1, 0, 3, 2]] for p in persons], np.float32).reshape(-1, 4)


def rpn_targets(
    all_anchors: np.ndarray, truth: np.ndarray, unsure: np.ndarray, partly: bool, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Anchors that are persons (indices, with encodings), and all that are certainly none."""
    overlaps = bx.iou(all_anchors, truth) if len(truth) else np.zeros((len(all_anchors), 1), np.float32)
    best = overlaps.max(axis=1)
    is_person = best >= 0.55
    if len(truth):
        is_person |= (overlaps == overlaps.max(axis=0)).any(axis=1) & (best > 0.2)
    positive = _choose(np.flatnonzero(is_person), RPN_POSITIVES, rng)
    nothing = (best < 0.4) & ~is_person & ~_doubtful(all_anchors, truth, unsure, partly)
    encodings = np.zeros((0, 4), np.float32)
    if len(positive):
        encodings = bx.encode(truth[overlaps[positive].argmax(axis=1)], all_anchors[positive])
    return {"rpn_positive": positive, "rpn_negative": np.flatnonzero(nothing), "rpn_encodings": encodings}


def _doubtful(boxes: np.ndarray, truth: np.ndarray, unsure: np.ndarray, partly: bool) -> np.ndarray:
    """Where a person may be that is not in the truth."""
    doubtful = np.zeros(len(boxes), bool)
    if len(unsure):
        doubtful |= inside(boxes, unsure).max(axis=1) > 0.5
        doubtful |= bx.iou(boxes, unsure).max(axis=1) > 0.2
    if partly:  # only what lies within a labelled person is surely no whole one
        doubtful |= (inside(boxes, truth).max(axis=1) < 0.85) if len(truth) else True
    return doubtful


def inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of each box lies in each of the others: (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2) / np.maximum(bx.area(boxes)[:, None], 1e-6)


def mask_targets(persons: list[Person], truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Boxes near those of some persons with masks, as the second stage will give them, and the mask inside each."""
    masked = [i for i, p in enumerate(persons) if p.mask is not None]
    chosen = [int(i) for i in rng.permutation(masked)[:MASKS]]
    boxes = jitter(truth[chosen], MASK_JITTER, rng)
    cells = [cover(persons[i].mask, box) for i, box in zip(chosen, boxes)]
    stacked = np.stack(cells) if cells else np.zeros((0, c.MASK_SIZE, c.MASK_SIZE), np.float32)
    return {"mask_boxes": boxes, "mask_cells": stacked}


def cover(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How much of the surroundings of each mask sample is covered, in TensorFlow's convention.

    Sample i of n lies at i / (n - 1) of the box, the first and the last on its edges, as crop_and_resize
    takes them; its surroundings reach half way to the next. Beyond the picture, its edge goes on.
    """
    n = c.MASK_SIZE
    steps = (np.arange(n)[:, None] + (np.arange(FINE) + 0.5) / FINE - 0.5).reshape(-1) / (n - 1)
    y = np.floor(box[0] + steps * (box[2] - box[0])).astype(int).clip(0, mask.shape[0] - 1)
    x = np.floor(box[1] + steps * (box[3] - box[1])).astype(int).clip(0, mask.shape[1] - 1)
    return mask[np.ix_(y, x)].reshape(n, FINE, n, FINE).mean(axis=(1, 3), dtype=np.float32)


def jitter(boxes: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Boxes with every side moved by up to `amount` of the box, kept inside the picture."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.clip(boxes + rng.uniform(-amount, amount, boxes.shape) * sides, 0, c.SIZE).astype(np.float32)


def parts(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of each box, as of a face or a torso: between an eighth and a half of its area."""
    size = boxes[:, 2:] - boxes[:, :2]
    part = size * rng.uniform(0.3, 0.75, size.shape)
    corner = boxes[:, :2] + rng.uniform(0, 1, size.shape) * (size - part)
    return np.concatenate([corner, corner + part], axis=1).astype(np.float32)


def roi_targets(
    proposals: np.ndarray, sample: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes for the second stage, their classes (0 is background) and encodings of their truth."""
    truth, partly = sample["boxes"], bool(sample["partly"])
    candidates = proposals
    if len(truth):
        candidates = np.concatenate([proposals, jitter(np.repeat(truth, 2, axis=0), 0.2, rng), parts(truth, rng)])
    overlaps = bx.iou(candidates, truth) if len(truth) else np.zeros((len(candidates), 1), np.float32)
    best, match = overlaps.max(axis=1), overlaps.argmax(axis=1)
    positive = _choose(np.flatnonzero(best >= 0.5), ROI_POSITIVES, rng)
    nothing = (best < 0.5) & ~_doubtful(candidates, truth, sample["unsure"], partly)
    negative = _choose(np.flatnonzero(nothing), ROI_NEGATIVES, rng)
    chosen = np.concatenate([positive, negative])
    labels = np.repeat(np.array([1, 0]), [len(positive), len(negative)])
    encodings = np.zeros((len(chosen), 4), np.float32)
    encodings[: len(positive)] = bx.encode(truth[match[positive]], candidates[positive]) if len(positive) else 0
    return candidates[chosen], labels, encodings


def _choose(items: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return items if len(items) <= count else rng.choice(items, count, replace=False)
