"""The box operations of the Object Detection API in NumPy: anchors, decoding, clipping, suppression.

All arithmetic is in 32-bit floats and in TensorFlow's order, so that ties and suppressions are the same as there.
Boxes are top, left, bottom, right in pixels of the resized picture, or in 0..1 where stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, cast

import numpy as np
from numpy.typing import NDArray

from cvmask.graph.facts import Anchors, GraphFacts, Suppression

Floats = NDArray[np.float32]
Scales = tuple[float, float, float, float]
BoxesOf = Callable[[NDArray[np.intp], NDArray[np.intp]], Floats]
_CHUNK = 128  # candidates compared with each other at a time
_SORTED_FIRST = 2000


@dataclass(frozen=True)
class Found:
    """Boxes (n, 4), their scores (n,) and 0-based classes (n,), best first."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.intp]


def anchor_grid(anchors: Anchors, cells: tuple[int, int], size: tuple[int, int]) -> Floats:
    """Return the anchors of a feature map of `cells` (rows, columns), for a picture of `size` (height, width).

    Returns
    -------
    Shape (n, 4): by rows, columns, anchors of a cell. Clipped to the picture where the model does that.
    """
    sides = np.array([anchors.heights, anchors.widths], np.float32)  # (2, a)
    boxes = np.empty((*cells, len(anchors), 4), np.float32)
    for axis in (0, 1):
        centers = np.arange(cells[axis], dtype=np.float32) * np.float32(anchors.stride[axis])
        centers += np.float32(anchors.offset[axis])
        centers = centers.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        half = np.float32(0.5) * sides[axis]
        boxes[..., axis], boxes[..., axis + 2] = centers - half, centers + half
    flat = boxes.reshape(-1, 4)
    return clip(flat, size) if anchors.clip else flat


def decode(codes: Floats, anchors: Floats, scales: Scales) -> Floats:
    """Decode codes (..., 4) in the order y, x, height, width with anchors (..., 4), as FasterRcnnBoxCoder does.

    An anchor without height or width gives a box without it. Sizes too large for a float become infinite.
    """
    low, high = anchors[..., :2], anchors[..., 2:]
    sizes = high - low
    centers = low + sizes / np.float32(2)
    divisors = np.array(scales, np.float32)
    with np.errstate(over="ignore"):
        half = np.exp(codes[..., 2:] / divisors[2:]) * sizes / np.float32(2)
    middle = codes[..., :2] / divisors[:2] * sizes + centers
    boxes = np.empty((*half.shape[:-1], 4), np.float32)
    boxes[..., :2], boxes[..., 2:] = middle - half, middle + half
    return boxes


def clip(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Clip boxes (..., 4) to a picture of `size` (height, width)."""
    limits = np.array([*size, *size], np.float32)
    return cast(Floats, np.clip(boxes, np.float32(0), limits))


def areas(boxes: Floats) -> Floats:
    """Return the areas of boxes (..., 4), 0 or more."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], np.float32(0))
    return cast(Floats, sides[..., 0] * sides[..., 1])


def overlaps(some: Floats, others: Floats) -> Floats:
    """Return the IoU of boxes (n, 4) with boxes (m, 4), shape (n, m); 0 for a box without area."""
    common = _common(some, others, 0) * _common(some, others, 1)
    first, second = areas(some)[:, None], areas(others)[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = common / (first + second - common)
    ratio[~((first > 0) & (second > 0))] = 0
    return cast(Floats, ratio)


def _common(some: Floats, others: Floats, axis: int) -> Floats:
    """Return the overlap of boxes along an axis, shape (n, m)."""
    ends = np.minimum(some[:, None, axis + 2], others[None, :, axis + 2])
    ends -= np.maximum(some[:, None, axis], others[None, :, axis])
    return cast(Floats, np.maximum(ends, np.float32(0), out=ends))


def suppress(scores: Floats, boxes_of: BoxesOf, rule: Suppression, size: tuple[int, int]) -> Found:
    """Apply non-maximum suppression to each class, with all limits; return the best boxes of all classes.

    A box has to score above the floor. A better box of the same class that overlaps it by more than the threshold
    removes it. Ties go to the lower class, then to the first box, as in TensorFlow, whose sorts are stable.

    Parameters
    ----------
    scores
        Shape (n, classes), numbers.
    boxes_of
        Returns the boxes (k, 4) for k row numbers and k classes. It is called for the best candidates only.
    rule
        Thresholds and limits. Boxes are clipped before the suppression, and those without area dropped; or after it,
        and then those without area do not count in the total.
    size
        Height and width of the picture in pixels.
    """
    count, classes = scores.shape
    flat = np.ascontiguousarray(scores.T).reshape(-1)  # class by class, which decides ties
    boxes, owners, numbers = np.empty((0, 4), np.float32), np.empty(0, np.intp), np.empty(0, np.intp)
    room = np.full(classes, rule.max_per_class)
    for part in _best_first(flat, np.flatnonzero(flat > np.float32(rule.score_threshold))):
        part = part[room[part // count] > 0]
        own = boxes_of(part % count, part // count)
        if rule.clip_first:
            own = clip(own, size)
            part, own = part[areas(own) > 0], own[areas(own) > 0]
        alive = ~_taken(own, part // count, boxes, owners, rule.iou_threshold).any(axis=1)
        part, own = part[alive], own[alive]
        kept = _greedy(own, part // count, room, rule.iou_threshold)
        boxes, numbers = np.concatenate([boxes, own[kept]]), np.concatenate([numbers, part[kept]])
        owners = numbers // count
        if len(numbers) >= rule.max_total and _there(boxes, rule, size).sum() >= rule.max_total:
            break
    there = np.flatnonzero(_there(boxes, rule, size))[: rule.max_total]
    return Found(clip(boxes[there], size), flat[numbers[there]], owners[there])


def _best_first(scores: Floats, candidates: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield the candidates in chunks, best first and stable; the first chunk is all that most pictures need."""
    values, done = scores[candidates], 0
    for count in (_SORTED_FIRST, len(candidates)):
        best = candidates
        if count < len(candidates):
            best = candidates[values >= np.partition(values, -count)[-count]]
        best = best[np.argsort(-scores[best], kind="stable")]
        for at in range(done, len(best), _CHUNK):
            yield best[at : at + _CHUNK]
        done = len(best)


def _taken(
    some: Floats, classes: NDArray[np.intp], others: Floats, other_classes: NDArray[np.intp], threshold: float
) -> NDArray[np.bool_]:
    """Return which of some boxes are removed by which others of the same class, shape (n, m)."""
    same = classes[:, None] == other_classes
    return cast("NDArray[np.bool_]", same & (overlaps(some, others) > np.float32(threshold)))


def _greedy(boxes: Floats, classes: NDArray[np.intp], room: NDArray[Any], threshold: float) -> list[int]:
    """Return the numbers of the boxes that stay, best first; decreases `room` of their classes."""
    takes = _taken(boxes, classes, boxes, classes, threshold)
    gone, kept = np.zeros(len(boxes), bool), []
    for number, owner in enumerate(classes.tolist()):
        if not gone[number] and room[owner] > 0:
            kept.append(number)
            room[owner] -= 1
            gone |= takes[number]
    return kept


def _there(boxes: Floats, rule: Suppression, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which boxes have an area inside the picture."""
    return np.ones(len(boxes), bool) if rule.clip_first else areas(clip(boxes, size)) > 0


def proposals(
    codes: Floats, scores: Floats, cells: tuple[int, int], size: tuple[int, int], facts: GraphFacts
) -> Floats:
    """Return the proposals (k, 4), in 0..1, of the first stage.

    Parameters
    ----------
    codes, scores
        Of the anchors, shapes (n, 4) and (n,).
    cells
        Rows and columns of the feature map.
    size
        Height and width of the picture in pixels.
    """
    anchors = anchor_grid(facts.anchors, cells, size)
    found = suppress(
        scores[:, None], lambda rows, _: decode(codes[rows], anchors[rows], facts.first_scales), facts.first_stage, size
    )
    return found.boxes * _shares(size)


def detections(codes: Floats, scores: Floats, boxes: Floats, size: tuple[int, int], facts: GraphFacts) -> Floats:
    """Return the second stage's rows (1, 1, n, 7): image id, class, score, left, top, right, bottom, the last in 0..1.

    Parameters
    ----------
    codes, scores
        Of k proposals: shapes (k, 4) or (k, 4 classes), and (k, classes).
    boxes
        The proposals, shape (k, 4), in 0..1.
    size
        Height and width of the picture in pixels.
    """
    each = codes.reshape(len(boxes), codes.shape[1] // 4, 4)
    pixels = boxes * np.array([*size, *size], np.float32)

    def boxes_of(rows: NDArray[np.intp], classes: NDArray[np.intp]) -> Floats:
        return decode(each[rows, classes if each.shape[1] > 1 else 0], pixels[rows], facts.second_scales)

    found = suppress(scores, boxes_of, facts.second_stage, size)
    rows = np.zeros((len(found.scores), 7), np.float32)
    rows[:, 1], rows[:, 2] = found.classes, found.scores
    rows[:, 3:] = (found.boxes * _shares(size))[:, [1, 0, 3, 2]]
    return rows.reshape(1, 1, -1, 7)


def _shares(size: tuple[int, int]) -> Floats:
    """Return the factors that turn pixels into 0..1: reciprocals, as in the Object Detection API."""
    return cast(Floats, np.float32(1) / np.array([*size, *size], np.float32))
