"""What people build with masks: pure functions of a frame and its detections that give a new frame.

Filter the detections first: ``blur_objects(frame, found[found.class_id == 0])``. The functions take
`feather_px`, the width of the soft edge (default: by the size of the frame; 0 for a hard edge), and
`mask_threshold`; blocks have no soft edge. They raise TypeError or ValueError if the frame is none, or of another
size than that of the detections, or an option is out of range. Frames are BGR, shape (height, width, 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.compositing import (
    blur,
    blur_outside,
    feather,
    fit_over,
    lay_over_,
    shrink_of,
    union_mask,
    window_of,
)
from cvmask.results.arrays import check_range, whole_number
from cvmask.results.detections import Detections
from cvmask.results.frames import check_frame, check_frame_of

_LEAST_STRENGTH = 1e-3


def blur_background(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    strength: float = 1.0,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Blur all but the objects, like a lens wide open; the objects' colours do not bleed into the blur.

    `strength`, more than 0: 1 is a standard deviation of a fiftieth of the short side.
    """
    check_range("strength", strength, _LEAST_STRENGTH)
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    radius = max(0.5, strength * min(detections.frame_size) / 50)
    result = blur_outside(frame, alpha, radius)
    lay_over_(result, frame, alpha)
    return result


def remove_background(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Make all but the objects transparent; returns BGRA, shape (height, width, 4)."""
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    bgra = cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA)
    cv2.insertChannel(alpha, bgra, 3)
    return cast("NDArray[np.uint8]", bgra)


def replace_background(
    frame: NDArray[np.uint8],
    detections: Detections,
    background: NDArray[np.uint8] | Sequence[int],
    *,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Put the objects on another picture, scaled to cover the frame, or on one colour: b, g, r."""
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    picture = _one_color(background) if isinstance(background, (tuple, list)) else check_frame(background)
    result = fit_over(picture, detections.frame_size)
    lay_over_(result, frame, alpha)
    return result


def grey_background(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Leave colour to the objects alone."""
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    result = cast("NDArray[np.uint8]", grey)
    lay_over_(result, frame, alpha)
    return result


def spotlight(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    darkness: float = 0.7,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Darken all but the objects, with a wide soft edge; `darkness`, 0 to 1: 1 is black."""
    check_range("darkness", darkness, 0, 1)
    if feather_px is None:
        feather_px = min(detections.frame_size) / 20
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    light = cv2.convertScaleAbs(alpha, alpha=darkness, beta=255 * (1 - darkness))
    return cast("NDArray[np.uint8]", cv2.multiply(frame, cv2.merge([light] * 3), scale=1 / 255))


def blur_objects(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    strength: float = 1.0,
    feather_px: float | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Blur the objects beyond recognition; the soft edge lies outside the mask.

    `strength`, more than 0: 1 is a standard deviation of a thirtieth of the short side.
    """
    check_range("strength", strength, _LEAST_STRENGTH)
    frame = check_frame_of(frame, detections.frame_size)
    width = _width(detections, feather_px)
    union = union_mask(detections, mask_threshold)
    # Twice as wide and twice as strong: opaque up to the edge of the mask, fading outside it.
    soft = union if width <= 0 else cv2.convertScaleAbs(feather(union, 2 * width), alpha=2)
    alpha = cast("NDArray[np.uint8]", soft)
    radius = max(0.5, strength * min(detections.frame_size) / 30)
    result: NDArray[np.uint8] = frame.copy()
    # On the grid of the whole frame, so that the blur does not move with the objects.
    window = window_of(alpha, margin_px=int(3 * radius), step_px=shrink_of(radius, frame.shape))
    if frame[window].size:
        blurred = blur(frame[window], radius)
        lay_over_(blurred, frame[window], 255 - alpha[window])
        result[window] = blurred
    return result


def pixelate_objects(
    frame: NDArray[np.uint8],
    detections: Detections,
    *,
    block_px: int | None = None,
    mask_threshold: float = 0.3,
) -> NDArray[np.uint8]:
    """Turn the objects into square blocks; each block that holds a pixel of a mask is one colour.

    Parameters
    ----------
    block_px
        Side of a block, 1 or more; default a fortieth of the frame's short side.
    """
    frame = check_frame_of(frame, detections.frame_size)
    height, width = detections.frame_size
    block = max(2, round(min(height, width) / 40)) if block_px is None else whole_number("block_px", block_px)
    block = min(block, max(height, width))
    result: NDArray[np.uint8] = frame.copy()
    union = union_mask(detections, mask_threshold)
    # The grid is that of the whole frame, so that blocks stand still while objects move.
    window = window_of(union, step_px=block)
    if union[window].size:
        _pixelate_(result[window], union[window], block)
    return result


def _pixelate_(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], block: int) -> None:
    height, width = mask.shape
    size_wh = (_round_up(width, block), _round_up(height, block))
    rows, columns = size_wh[1] // block, size_wh[0] // block
    margin = (0, size_wh[1] - height, 0, size_wh[0] - width)
    whole = cv2.copyMakeBorder(canvas, *margin, cv2.BORDER_REPLICATE)
    mean = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    # cv2's own mean would lose a single pixel of the mask in a large block.
    padded = np.asarray(cv2.copyMakeBorder(mask, *margin, cv2.BORDER_CONSTANT))
    touched = padded.reshape(rows, block, -1).max(axis=1).reshape(rows, columns, block).max(axis=2)
    blocks = cv2.resize(mean, size_wh, interpolation=cv2.INTER_NEAREST)[:height, :width]
    where = cv2.resize(touched, size_wh, interpolation=cv2.INTER_NEAREST)[:height, :width]
    cv2.copyTo(blocks, where, canvas)


def _round_up(length: int, block: int) -> int:
    return -(-length // block) * block


class Effect(Protocol):
    """A function of a frame and its detections; options by name."""

    def __call__(
        self, frame: NDArray[np.uint8], detections: Detections, /, *, mask_threshold: float = 0.3
    ) -> NDArray[np.uint8]: ...


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "blur-background": blur_background,
        "remove-background": remove_background,
        "blur-objects": blur_objects,
        "pixelate-objects": pixelate_objects,
        "grey-background": grey_background,
        "spotlight": spotlight,
    }
)


def _prepare(
    frame: NDArray[np.uint8], detections: Detections, feather_px: float | None, mask_threshold: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    checked: NDArray[np.uint8] = np.ascontiguousarray(check_frame_of(frame, detections.frame_size))
    return checked, feather(union_mask(detections, mask_threshold), _width(detections, feather_px))


def _width(detections: Detections, feather_px: float | None) -> float:
    if feather_px is None:
        return max(1.0, min(detections.frame_size) / 150)
    check_range("feather_px", feather_px, 0)
    return feather_px


def _one_color(color: Sequence[int]) -> NDArray[np.uint8]:
    """A picture of one pixel."""
    if len(color) != 3 or not all(isinstance(part, (int, np.integer)) and 0 <= part <= 255 for part in color):
        raise ValueError(f"a background is a picture or b, g, r from 0 to 255, got {color!r}")
    return np.array([[color]], dtype=np.uint8)
