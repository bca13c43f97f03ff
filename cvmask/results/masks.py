"""From soft masks to pixels: the one place that knows which pixels a detection covers.

The meaning is the tutorials', to the pixel: the corners of the box are cut to whole numbers and
clamped to the frame, both corner pixels belong to the box, the soft mask is resized to it with
bilinear interpolation, and a pixel is on where the result is greater than the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.arrays import check_range


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


def stretch(soft_mask: NDArray[np.float32], size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Resize one soft mask to its box, bilinear; shape (h, w) in, (height, width) out."""
    return cast("NDArray[np.float32]", cv2.resize(soft_mask, size_wh, interpolation=cv2.INTER_LINEAR))


def paste(
    soft_masks: NDArray[np.float32], boxes_ltrb: NDArray[np.int32], threshold: float = 0.3
) -> Iterator[BoxMask]:
    """Turn soft masks into the pixels of their boxes, each when it is asked for: all may not fit into memory.

    Parameters
    ----------
    soft_masks
        Shape (n, h, w), range 0 to 1, spanning the box.
    boxes_ltrb
        Shape (n, 4), as `whole_boxes` gives them.
    threshold
        A pixel is on where the resized soft mask is greater than this, 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If the threshold is no number, or out of range.
    """
    check_range("mask_threshold", threshold, 0, 1)
    for soft, (left, top, right, bottom) in zip(soft_masks, boxes_ltrb.tolist()):
        yield BoxMask(stretch(soft, (right - left, bottom - top)) > threshold, left, top)


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
