"""What a frame is: uint8, shape (height, width, 3), blue, green, red."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def check_frame(frame: object) -> NDArray[np.uint8]:
    """Give the frame back if it is one; it need not be contiguous.

    Raises
    ------
    TypeError
        If it is no array.
    ValueError
        If it has another dtype or shape, or no pixel; the message says what to do.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(
            f"a frame must be an array, got {type(frame).__name__} (None: imread found no picture)"
        )
    fits = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size > 0
    if not fits:
        raise ValueError(
            f"a frame must be uint8 of shape (height, width, 3), BGR; "
            f"got {frame.dtype} {frame.shape}: {_cure(frame)}"
        )
    return frame


def check_frame_of(frame: object, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Give the frame back if it is one of this (height, width); ValueError or TypeError if not."""
    checked = check_frame(frame)
    if checked.shape[:2] != frame_size:
        raise ValueError(
            f"the detections are of a frame of {frame_size} (height, width), "
            f"got a frame of {checked.shape[:2]}"
        )
    return checked


def _cure(frame: NDArray[np.generic]) -> str:
    if frame.size == 0:
        return "it has no pixel"
    if frame.dtype != np.uint8:
        if frame.dtype.kind == "b":
            return "for True and False use frame.astype(np.uint8) * 255"
        if frame.dtype.kind == "u" and frame.dtype.itemsize == 2:
            return "for 16 bit use (frame // 257).astype(np.uint8)"
        if frame.dtype.kind == "f":
            return "for 0 to 1 use (frame * 255).round().astype(np.uint8)"
        return "convert it to 0 to 255 with frame.astype(np.uint8)"
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return "for grey use cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)"
    if frame.ndim == 3 and frame.shape[2] == 4:
        return "for BGRA use cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)"
    return "pass one picture at a time" if frame.ndim == 4 else "it is no picture"
