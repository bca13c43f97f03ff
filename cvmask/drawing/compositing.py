"""Soft masks of all objects together, and one picture over another through such a mask."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections

# Three bytes as one thing: NumPy moves such pixels several times as fast as rows of three.
_PIXEL = np.dtype((np.void, 3))


def union_mask(detections: Detections, mask_threshold: float = 0.3) -> NDArray[np.uint8]:
    """Join all masks; shape (height, width), 0 or 255."""
    union = np.zeros(detections.frame_size, dtype=np.uint8)
    for box_mask in detections.box_masks(mask_threshold):
        place = union[box_mask.window]
        cv2.bitwise_or(place, box_mask.mask * np.uint8(255), dst=place)
    return union


def feather(mask: NDArray[np.uint8], width_px: float) -> NDArray[np.uint8]:
    """Make the edge of a mask soft over this width, half of it on either side; 0 leaves it as it is."""
    if width_px <= 0:
        return mask
    # A wide blur of a large picture takes long, and looks the same when made on a small one.
    shrink = max(1, min(int(width_px / 3), *mask.shape))
    soft = cv2.GaussianBlur(_shrink(mask, shrink), (0, 0), width_px / shrink / 4)
    return _enlarge(cast("NDArray[np.uint8]", soft), shrink, mask.shape[:2])


def lay_over_(under: NDArray[np.uint8], over: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
    """Lay one frame over another, into the latter: over alpha + under (1 - alpha).

    Both are contiguous, of shape (height, width, 3); `alpha` (height, width) from 0 to 255.
    """
    # A reshaped view of anything else would be a copy, and the soft edge would be lost.
    assert under.flags.c_contiguous
    cv2.copyTo(over, (alpha == 255).view(np.uint8), under)
    # Only the soft edge needs arithmetic, and it is a small part of the frame.
    edge = np.flatnonzero(alpha - np.uint8(1) < np.uint8(254))
    share = alpha.ravel().take(edge).astype(np.uint16)[:, None]
    pixels = under.reshape(-1, 3)
    below, above = pixels.take(edge, axis=0), over.reshape(-1, 3).take(edge, axis=0)
    # Rounded: no multiple of 1/255 lies between two numbers.
    mixed = ((above * share + below * (255 - share) + 127) // 255).astype(np.uint8)
    np.put(pixels.view(_PIXEL), edge, mixed.view(_PIXEL))


def window_of(mask: NDArray[np.uint8], margin_px: int = 0, step_px: int = 1) -> tuple[slice, slice]:
    """Give the smallest rows and columns that hold all that is not 0, and a margin, within the picture.

    They start and end at multiples of `step_px`, or at the picture's edge.
    """
    left, top, width, height = cv2.boundingRect(mask)
    spans = ((top, height, mask.shape[0]), (left, width, mask.shape[1]))
    rows, columns = (
        slice(
            max(0, start - margin_px) // step_px * step_px,
            min(limit, -(-(start + length + margin_px) // step_px) * step_px),
        )
        if length
        else slice(0, 0)
        for start, length, limit in spans
    )
    return rows, columns


def blur(frame: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Blur a frame; `radius_px` is the standard deviation in its pixels."""
    shrink = shrink_of(radius_px, frame.shape)
    small = cv2.GaussianBlur(_shrink(frame, shrink), (0, 0), radius_px / shrink)
    return _enlarge(cast("NDArray[np.uint8]", small), shrink, frame.shape[:2])


def blur_outside(frame: NDArray[np.uint8], alpha: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Blur a frame with the pixels where `alpha` is low and no others, so that objects do not bleed.

    Parameters
    ----------
    frame
        Shape (height, width, 3).
    alpha
        Shape (height, width), 0 to 255.
    radius_px
        Standard deviation of the blur in pixels of the frame.
    """
    shrink = shrink_of(radius_px, frame.shape)
    sigma = radius_px / shrink
    # A trace of everything, for places from which no background is within reach.
    share = np.float32(255.5) - _shrink(alpha, shrink)
    colors = cv2.GaussianBlur(_shrink(frame, shrink) * share[..., None], (0, 0), sigma)
    blurred = colors / cv2.GaussianBlur(share, (0, 0), sigma)[..., None]
    small = np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
    return _enlarge(small, shrink, alpha.shape[:2])


def shrink_of(radius_px: float, shape: tuple[int, ...]) -> int:
    """Choose by how much to shrink a picture for a blur; never to less than one pixel."""
    return max(1, min(int(radius_px / 2), *shape[:2]))


def _shrink(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of factor x factor; what is left over at the right and the bottom is dropped."""
    if factor == 1:
        return picture
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    # Whole blocks alone: OpenCV takes many times as long for any other ratio. It is fastest at halving.
    blocks: NDArray[np.uint8] = picture[: height * factor, : width * factor]
    while factor % 2 == 0 and factor > 2:
        factor //= 2
        halved = cv2.resize(blocks, (width * factor, height * factor), interpolation=cv2.INTER_AREA)
        blocks = cast("NDArray[np.uint8]", halved)
    return cast("NDArray[np.uint8]", cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA))


def _enlarge(small: NDArray[np.uint8], factor: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Undo `_shrink` to (height, width); what was dropped repeats the last column and row."""
    if factor == 1:
        return small
    height, width = small.shape[0] * factor, small.shape[1] * factor
    whole = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if (height, width) != size:
        missing = (0, size[0] - height, 0, size[1] - width)
        whole = cv2.copyMakeBorder(whole, *missing, cv2.BORDER_REPLICATE)
    return cast("NDArray[np.uint8]", whole)


def fit_over(picture: NDArray[np.uint8], frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture until it covers a frame of (height, width), and cut off what is too much, evenly."""
    height, width = frame_size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size_wh = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, size_wh, interpolation=kind)
    top, left = (size_wh[1] - height) // 2, (size_wh[0] - width) // 2
    cut = np.ascontiguousarray(scaled[top : top + height, left : left + width])
    return cast("NDArray[np.uint8]", cut)
