"""Turns raw rows and masks of the network into Detections. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections

SCORE, CLASS = 2, 1


def keep_rows(
    rows: NDArray[np.float32],
    score_threshold: float = 0.0,
    classes: Collection[int] | None = None,
    max_detections: int = 100,
) -> NDArray[np.float32]:
    """Pick the rows that are real and wanted, best first as the network gives them.

    Parameters
    ----------
    rows
        ``detection_out_final``, shape (1, 1, n, 7): image id, class, score, left, top, right, bottom;
        the last four in 0..1 of the picture. Rows past the last detection are all zero.
    score_threshold
        In 0..1; a row needs a higher score.
    classes
        0-based class ids to keep; None keeps all.
    max_detections
        How many of the best to keep.

    Returns
    -------
    Shape (1, 1, k, 7), contiguous: the input of the mask head.
    """
    flat = rows.reshape(-1, 7)
    wanted = flat[:, SCORE] > score_threshold
    if classes is not None:
        wanted &= np.isin(flat[:, CLASS], list(classes))
    kept = flat[wanted]
    if len(kept) > max_detections:
        kept = kept[np.sort(np.argsort(-kept[:, SCORE], kind="stable")[:max_detections])]
    return np.ascontiguousarray(kept.reshape(1, 1, -1, 7))


def limit_rows(rows: NDArray[np.float32], max_of_a_class: int, max_total: int) -> NDArray[np.float32]:
    """Keep the best rows of each class, and of those the best in total: limits that OpenCV's layer lacks.

    Parameters
    ----------
    rows
        As `keep_rows` takes them.
    max_of_a_class
        Most rows of each class.
    max_total
        Most rows in total; 0 or less: any number.

    Returns
    -------
    Shape (1, 1, k, 7), contiguous, best first.
    """
    flat = rows.reshape(-1, 7)
    flat = flat[flat[:, SCORE] > 0]
    flat = flat[np.argsort(-flat[:, SCORE], kind="stable")]
    kept = np.zeros(len(flat), bool)
    for number in np.unique(flat[:, CLASS]):
        kept[np.flatnonzero(flat[:, CLASS] == number)[:max_of_a_class]] = True
    best = flat[kept][: max_total if max_total > 0 else None]
    return np.ascontiguousarray(best.reshape(1, 1, -1, 7))


def to_detections(
    rows: NDArray[np.float32],
    masks: NDArray[np.float32],
    frame_size: tuple[int, int],
    mask_paste: str = "tensorflow",
    labels: Sequence[str] = (),
) -> Detections:
    """Convert rows and their masks to Detections of a frame.

    Parameters
    ----------
    rows
        Shape (1, 1, n, 7), as `keep_rows` gives them.
    masks
        ``detection_masks`` of these rows, shape (n, number of classes, h, w), range 0 to 1; (n, 1, h, w)
        if the network has one mask for all classes.
    frame_size
        Height and width of the frame in pixels.
    mask_paste
        One of `cvmask.results.masks.MASK_PASTES`.
    labels
        The names of the classes.
    """
    flat = rows.reshape(-1, 7)
    height, width = frame_size
    # In float32, as the tutorials' frameW * box[3]: the corner must fall into the same pixel.
    size = np.array([width, height, width, height], np.float32)
    class_id = flat[:, CLASS].astype(np.int32)
    named = len(labels) > class_id.max(initial=-1)
    return Detections(
        xyxy=np.clip(flat[:, 3:] * size, np.float32(0), size),
        confidence=flat[:, SCORE].copy(),
        class_id=class_id,
        soft_masks=masks[np.arange(len(flat)), class_id if masks.shape[1] > 1 else 0],
        frame_size=(height, width),
        mask_paste=mask_paste,
        labels=np.array([labels[i] for i in class_id.tolist()], np.str_) if named else None,
    )
