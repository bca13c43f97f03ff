"""Follow objects over a video by matching boxes from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections

_SAME_CLASS = 2.0
_SMOOTHING = 0.5
MAX_GAP = 10


class Tracker:
    """Gives objects ids from 1 that they keep; call `update` for each frame in order.

    The tracker predicts each object's box from its movement. It matches pairs of the same class first, and the pair
    with the largest overlap before others. Objects that cross keep their ids as long as their movement does not
    change. An object that is hidden for longer than the gap, or turns while hidden, gets a new id.

    Parameters
    ----------
    min_iou
        Box IoU that a match needs, 0 to 1.
    max_gap
        For how many frames an object may be missing.
    """

    def __init__(self, min_iou: float = 0.2, max_gap: int = MAX_GAP) -> None:
        if not 0 < min_iou <= 1 or max_gap < 0:
            raise ValueError(f"needs 0 < min_iou <= 1 and max_gap >= 0, got {min_iou} and {max_gap}")
        self._min_iou, self._max_gap = min_iou, max_gap
        self._next_id = 1
        # One row for each object followed; velocity is of the box's sides, in pixels a frame.
        self._ids = np.zeros(0, dtype=np.int32)
        self._class_id = np.zeros(0, dtype=np.int32)
        self._xyxy = np.zeros((0, 4), dtype=np.float32)
        self._velocity = np.zeros((0, 4), dtype=np.float32)
        self._gap = np.zeros(0, dtype=np.int32)

    def update(self, detections: Detections) -> Detections:
        """Give the detections of the next frame with their `tracker_id`."""
        # Both corner pixels belong to a box: so that of one pixel overlaps itself.
        found_xyxy = detections.xyxy + np.array([0, 0, 1, 1], dtype=np.float32)
        ages = (self._gap + 1)[:, None].astype(np.float32)
        expected = self._xyxy + self._velocity * ages
        scores = box_iou(expected, found_xyxy)
        scores[scores < self._min_iou] = 0
        scores *= np.where(self._class_id[:, None] == detections.class_id[None], _SAME_CLASS, 1)
        rows, columns = match(scores)
        moved = (found_xyxy[columns] - self._xyxy[rows]) / ages[rows]
        blended = _SMOOTHING * self._velocity[rows] + (1 - _SMOOTHING) * moved
        # The second sighting of an object is the first to say how it moves.
        moving = self._velocity[rows].any(axis=1, keepdims=True)
        self._velocity[rows] = np.where(moving, blended, moved)
        self._xyxy[rows] = found_xyxy[columns]
        self._class_id[rows] = detections.class_id[columns]
        self._gap += 1
        self._gap[rows] = 0
        ids = np.zeros(len(detections), dtype=np.int32)
        ids[columns] = self._ids[rows]
        self._begin(detections, found_xyxy, ids)
        self._forget()
        return replace(detections, tracker_id=ids)

    def _begin(
        self, detections: Detections, found_xyxy: NDArray[np.float32], ids: NDArray[np.int32]
    ) -> None:
        """Start a track for each object without an id, and write the id into `ids`."""
        new = np.flatnonzero(ids == 0)
        ids[new] = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)
        self._ids = np.concatenate([self._ids, ids[new]])
        self._class_id = np.concatenate([self._class_id, detections.class_id[new]])
        self._xyxy = np.concatenate([self._xyxy, found_xyxy[new]])
        self._velocity = np.concatenate([self._velocity, np.zeros((len(new), 4), dtype=np.float32)])
        self._gap = np.concatenate([self._gap, np.zeros(len(new), dtype=np.int32)])

    def _forget(self) -> None:
        kept = self._gap <= self._max_gap
        self._ids, self._class_id, self._gap = self._ids[kept], self._class_id[kept], self._gap[kept]
        self._xyxy, self._velocity = self._xyxy[kept], self._velocity[kept]


def box_iou(first_xyxy: NDArray[np.float32], second_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare each box with each: shapes (n, 4) and (m, 4) in, IoU of shape (n, m) out."""
    first, second = first_xyxy[:, None], second_xyxy[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.clip(sides, 0, None).prod(axis=2)
    areas = [np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=2) for boxes in (first, second)]
    whole = areas[0] + areas[1] - common
    iou: NDArray[np.float32] = common / np.maximum(whole, np.float32(1e-9))
    return iou


def match(scores: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows with columns, the best score first; pairs of score 0 are none.

    Returns
    -------
    The rows and the columns of the pairs; no row and no column comes twice.
    """
    rows: list[int] = []
    columns: list[int] = []
    free_row, free_column = np.ones(scores.shape[0], dtype=bool), np.ones(scores.shape[1], dtype=bool)
    row_of, column_of = np.nonzero(scores)
    order = np.argsort(-scores[row_of, column_of], kind="stable")
    for row, column in zip(row_of[order].tolist(), column_of[order].tolist()):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            rows.append(row)
            columns.append(column)
    return np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)
