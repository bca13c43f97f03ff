"""Turns soft masks into pixels. Only this module decides which pixels a detection covers.

There are two ways to paste, see `MASK_PASTES`. Both paint within the whole pixels of the box.

"tensorflow" is the Object Detection API's ``reframe_box_masks_to_image_masks``, to the pixel: the first and the last
sample of a soft mask lie on the edges of its box, bilinear between them. Models are trained for it.

"tutorial" is what OpenCV's tutorials and its sample do, to the pixel: the corners of the box are cut to whole numbers
and clamped to the frame, both corner pixels belong to the box, and ``cv2.resize`` enlarges the soft mask to it. Its
samples lie half a cell within the edges, so masks shrink towards the middle of the box.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.arrays import check_range
from cvmask.results.refine import refine

# Ways to paste, and where each cuts if nobody says otherwise.
MASK_PASTES: Mapping[str, float] = MappingProxyType({"tensorflow": 0.5, "tutorial": 0.3})


def check_mask_paste(name: object) -> str:
    """Give the name back if it is one of `MASK_PASTES`; ValueError if not."""
    if not isinstance(name, str) or name not in MASK_PASTES:
        raise ValueError(f"mask_paste must be one of {', '.join(MASK_PASTES)}, got {str(name)[:40]!r}")
    return name


def threshold_of(mask_paste: str, threshold: float | None) -> float:
    """Give the threshold, or the usual one of `mask_paste` if None; TypeError or ValueError if not in 0 to 1."""
    if threshold is None:
        return MASK_PASTES[mask_paste]
    check_range("mask_threshold", threshold, 0, 1)
    return threshold


class BoxMask(NamedTuple):
    """The mask of one object, as large as its box, and where the box lies in the frame.

    Attributes
    ----------
    mask
        Shape (h, w).
    left, top
        Frame pixel of ``mask[0, 0]``.
    """

    mask: NDArray[np.bool_]
    left: int
    top: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box: ``frame[box_mask.window]`` is as large as the mask."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def whole_boxes(xyxy: NDArray[np.float32], frame_size: tuple[int, int]) -> NDArray[np.int32]:
    """Cut boxes to the whole pixels that they cover.

    The pixel in which a corner lies belongs to the box, at all four sides: a box from 2.0 to 5.0
    covers the pixels 2, 3, 4 and 5. That is how the tutorials and OpenCV's sample read a box. No box
    is empty: one that lies outside the frame covers the nearest pixels of the frame's edge.

    Parameters
    ----------
    xyxy
        Shape (n, 4): left, top, right, bottom in pixels.
    frame_size
        Height and width in pixels.

    Returns
    -------
    Shape (n, 4): left, top, right, bottom; right and bottom exclusive, so that
    ``frame[top:bottom, left:right]`` is the box.
    """
    height, width = frame_size
    last_pixel = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float32)
    corners = np.clip(xyxy, np.float32(0), last_pixel).astype(np.int32)
    corners[:, 2:] = np.maximum(corners[:, :2], corners[:, 2:]) + 1
    return corners


def paste(
    soft_masks: NDArray[np.float32],
    xyxy: NDArray[np.float32],
    frame_size: tuple[int, int],
    mask_paste: str = "tensorflow",
    threshold: float | None = None,
    guide: NDArray[np.uint8] | None = None,
) -> Iterator[BoxMask]:
    """Turn soft masks into the pixels of their boxes, one by one, because all may not fit into memory.

    Parameters
    ----------
    soft_masks
        Shape (n, h, w), range 0 to 1, spanning the box.
    xyxy
        Shape (n, 4): left, top, right, bottom in pixels.
    frame_size
        Height and width in pixels.
    mask_paste
        One of `MASK_PASTES`.
    threshold
        A pixel is on where the enlarged soft mask is greater than this, 0 to 1; None: that of the paste.
    guide
        The frame, shape (height, width, 3), whose edges the masks follow; None: masks stay as they are.

    Raises
    ------
    TypeError, ValueError
        If the threshold is not a number or out of range, or `mask_paste` is unknown.
    """
    cut = threshold_of(check_mask_paste(mask_paste), threshold)
    boxes = whole_boxes(xyxy, frame_size)
    for soft, (left, top, _, _) in zip(enlarge(soft_masks, xyxy, frame_size, mask_paste), boxes.tolist()):
        if guide is not None:
            soft = _refined(soft, guide[top : top + soft.shape[0], left : left + soft.shape[1]], soft_masks.shape)
        yield BoxMask(soft > cut, left, top)


def _refined(
    soft: NDArray[np.float32], picture: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    (height, width), (_, rows, columns) = soft.shape, shape
    return refine(soft, picture, (width / max(columns - 1, 1), height / max(rows - 1, 1)))


def enlarge(
    soft_masks: NDArray[np.float32], xyxy: NDArray[np.float32], frame_size: tuple[int, int], mask_paste: str
) -> Iterator[NDArray[np.float32]]:
    """Give each soft mask as large as the whole pixels of its box, before it is cut; arguments as for `paste`."""
    boxes = whole_boxes(xyxy, frame_size).tolist()
    if mask_paste == "tutorial":
        for soft, (left, top, right, bottom) in zip(soft_masks, boxes):
            stretched = cv2.resize(soft, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
            yield cast("NDArray[np.float32]", stretched)
        return
    size = np.array(frame_size[::-1] * 2, dtype=np.float32)
    cells = soft_masks.shape[2], soft_masks.shape[1]
    starts, steps = _sampling(xyxy / size, frame_size[::-1], cells)
    for soft, start, step, (left, top, right, bottom) in zip(soft_masks, starts.tolist(), steps.tolist(), boxes):
        columns, column, right_share = _samples(start[0], step[0], cells[0], left, right)
        rows, row, lower_share = _samples(start[1], step[1], cells[1], top, bottom)
        across = _between(soft, column, right_share, axis=1)
        pixels = _between(across, row, lower_share[:, None], axis=0)
        if pixels.shape != (bottom - top, right - left):
            inside, pixels = pixels, np.zeros((bottom - top, right - left), np.float32)
            pixels[rows, columns] = inside
        yield pixels


def _sampling(
    boxes: NDArray[np.float32], size_wh: tuple[int, int], cells_wh: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the position of frame pixel 0 in samples of each mask, and the samples per pixel: (n, 2) each.

    TensorFlow's own arithmetic, step by step in single precision: ``transform_boxes_relative_to_boxes`` of the unit
    box, then the kernel of ``crop_and_resize``, which takes pixel i of n from i / (n - 1) of the frame. `boxes` are
    (n, 4) in 0 to 1 of the frame.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(high - low, np.float32(1e-4))
    first, last = (0 - low) / side, (1 - low) / side
    cells = np.array(cells_wh, np.float32) - 1
    pixels = np.array(size_wh, np.float32)
    starts, steps = first * cells, (last - first) * cells / np.maximum(pixels - 1, 1)
    single = pixels == 1  # one pixel is taken from the middle
    starts[:, single] = (np.float32(0.5) * (first + last) * cells)[:, single]
    return starts, steps


def _samples(
    start: float, step: float, cells: int, first: int, end: int
) -> tuple[slice, NDArray[np.intp], NDArray[np.float32]]:
    """For pixels `first` to `end`: those within the mask, the sample before each, the weight of the next."""
    at = np.arange(first, end, dtype=np.float32)
    at *= np.float32(step)
    at += np.float32(start)
    within = slice(int(at.searchsorted(0)), int(at.searchsorted(cells - 1, "right")))
    at = at[within]
    before = at.astype(np.intp)
    at -= before
    return within, before, at


def _between(
    values: NDArray[np.float32], before: NDArray[np.intp], share: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Interpolate between neighbours along an axis."""
    low = values.take(before, axis)
    result = values.take(before + 1, axis, mode="clip")
    result -= low
    result *= share
    result += low
    return result


def to_frame(box_masks: Iterable[BoxMask], frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Put each mask into a frame of its own.

    Returns
    -------
    Shape (n, height, width). This is the one large array here: 100 masks at 1920x1080 are 200 MB.
    """
    box_masks = list(box_masks)
    full = np.zeros((len(box_masks), *frame_size), dtype=np.bool_)
    for frame, box_mask in zip(full, box_masks):
        frame[box_mask.window] = box_mask.mask
    return full
