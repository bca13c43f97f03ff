"""Prepares the network's input: resizes the frame as the model's own resizer does, and makes the blob."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Union, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.graph.facts import Resizer

Size = Union[str, int, tuple[int, int]]
MAX_SIDE = 8192
_WARP_LIMIT = 32766  # the longest side that warpAffine accepts
_CUBIC_STEPS = 1024  # TensorFlow looks its weights up in a table
_BAND = 32  # rows that are resized at a time


def parse_size(size: Size, trained: Resizer) -> Resizer:
    """Return the resizer for a user's `size`.

    Parameters
    ----------
    size
        "auto" (as trained), "native" (as the frame is), a number (the short side, without a limit of the
        long one), "WIDTHxHEIGHT" or (width, height): exact.
    trained
        The model's own.

    Raises
    ------
    ValueError
        If `size` is none of these.
    """
    if size == "auto":
        return trained
    if size == "native":
        return Resizer()
    whole = (int, np.integer)
    if (isinstance(size, whole) and not isinstance(size, bool)) or (isinstance(size, str) and size.isdecimal()):
        side = int(size)
        if 1 <= side <= MAX_SIDE:
            return Resizer("keep_aspect_ratio", side, 0, sampling=trained.sampling, method=trained.method)
    match = re.fullmatch(r"(\d+)x(\d+)", size) if isinstance(size, str) else None
    exact = (int(match[1]), int(match[2])) if match else size
    if isinstance(exact, tuple) and len(exact) == 2 and all(isinstance(n, whole) and 1 <= n <= MAX_SIDE for n in exact):
        fixed_wh = int(exact[0]), int(exact[1])
        return Resizer("fixed", fixed_wh=fixed_wh, sampling=trained.sampling, method=trained.method)
    raise ValueError(
        f"size must be auto, native, a short side such as 640, or WIDTHxHEIGHT, up to {MAX_SIDE}; got {size!r}"
    )


def to_blob(frame: NDArray[np.uint8], resizer: Resizer) -> NDArray[np.float32]:
    """Make the network's input: float32, shape (1, 3, h, w), RGB, 0 to 255.

    Resized as TensorFlow's ResizeBilinear does, which is not what cv2.resize does, and not rounded. On
    OpenCV 5 within 0.03 of 255 levels of TensorFlow's on noise, for it rounds large coordinates; OpenCV 4
    rounds its weights to 1/32: up to 8 levels on noise, 0.8 on average (cv2.resize samples other places: up to 28).

    Parameters
    ----------
    frame
        uint8, shape (H, W, 3), BGR.
    """
    width, height = resizer.target_wh((frame.shape[1], frame.shape[0]))
    if (height, width) == frame.shape[:2]:
        return cast("NDArray[np.float32]", cv2.dnn.blobFromImage(frame, swapRB=True, crop=False))
    blob = np.empty((1, 3, height, width), np.float32)
    if resizer.method != "bilinear":
        resized = _weighted(frame, (width, height), resizer)
        cv2.mixChannels([resized], list(blob[0]), [0, 2, 1, 1, 2, 0])
        return blob
    for top, band in _bands(_within_limit(frame), (width, height), resizer.sampling):
        planes = [blob[0, channel, top : top + len(band)] for channel in range(3)]
        cv2.mixChannels([band], planes, [0, 2, 1, 1, 2, 0])
    return blob


def _weighted(frame: NDArray[np.uint8], size_wh: tuple[int, int], resizer: Resizer) -> NDArray[np.float32]:
    """Resize by weighted sums of pixels along each axis: float32, shape (h, w, 3)."""
    (columns, across), (lines, down) = (
        _taps(resizer.method, resizer.sampling, old, new) for old, new in zip(frame.shape[1::-1], size_wh)
    )
    wide = np.zeros((frame.shape[0], size_wh[0], 3), np.float32)
    for place, weight in zip(columns.T, across.T):
        wide += frame[:, place] * weight[:, None]
    resized = np.zeros((size_wh[1], size_wh[0], 3), np.float32)
    for place, weight in zip(lines.T, down.T):
        resized += wide[place] * weight[:, None, None]
    return resized


def _taps(method: str, sampling: str, old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which of `old` pixels make each of `new` ones, and their weights, both of shape (new, n).

    As TensorFlow's resize_nearest_neighbor_op, resize_area_op and resize_bicubic_op compute them, in float32.
    """
    corners, half = sampling == "align_corners" and new > 1, np.float32(0.5 if sampling == "half_pixel" else 0)
    scale = np.float32((old - 1) / (new - 1) if corners else old / new)
    number = np.arange(new, dtype=np.float32)
    if method == "nearest":
        place = np.floor((number + half) * scale + np.float32(0.5 if corners else 0))
        weights = np.ones((new, 1), np.float32)
        taps = place[:, None]
    elif method == "area":
        start, end = number[:, None] * scale, (number[:, None] + 1) * scale
        first = np.floor(start)
        taps = first + np.arange(int((np.ceil(end) - first).max()))
        weights = np.maximum(np.minimum(taps + 1, end) - np.maximum(taps, start), 0) / scale
    else:
        place = (number + half) * scale - half
        first = np.floor(place)
        share = np.round((place - first) * _CUBIC_STEPS)[:, None] / _CUBIC_STEPS
        taps = first[:, None] + np.arange(-1, 3)
        weights = _cubic(np.abs(share - np.arange(-1, 3)), -0.5 if half else -0.75)
        if half:  # pixels beyond the border do not count in this mode
            weights = np.where((taps >= 0) & (taps < old), weights, 0)
            weights /= weights.sum(1, keepdims=True)
    return np.clip(taps, 0, old - 1).astype(np.int64), weights.astype(np.float32)


def _cubic(x: NDArray[np.floating], a: float) -> NDArray[np.floating]:
    """Keys' cubic convolution kernel at distances of 0 to 2 pixels."""
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)


def _bands(
    frame: NDArray[np.uint8], target_wh: tuple[int, int], sampling: str
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the resized picture in bands (rows, width, 3) from the top, each with its first row.

    A band and its source pixels fit into the processor's cache, which takes a third less time than all at once.
    """
    height, width = frame.shape[:2]
    if sampling == "half_pixel":
        whole = cv2.resize(frame.astype(np.float32), target_wh, interpolation=cv2.INTER_LINEAR)
        yield 0, cast("NDArray[np.float32]", whole)
        return
    corners = int(sampling == "align_corners")
    scale_x, scale_y = (
        (old - corners) / max(new - corners, 1) for old, new in zip((width, height), target_wh)
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for top in range(0, target_wh[1], _BAND):
        rows = min(_BAND, target_wh[1] - top)
        first = max(int(top * scale_y) - 1, 0)
        source = frame[first : int((top + rows - 1) * scale_y) + 3].astype(np.float32)
        matrix = np.array([[scale_x, 0, 0], [0, scale_y, top * scale_y - first]], np.float64)
        size_wh = target_wh[0], rows
        band = cv2.warpAffine(source, matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        yield top, cast("NDArray[np.float32]", band)


def _within_limit(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if max(frame.shape[:2]) <= _WARP_LIMIT:
        return frame
    within = min(frame.shape[1], _WARP_LIMIT), min(frame.shape[0], _WARP_LIMIT)
    return cast("NDArray[np.uint8]", cv2.resize(frame, within, interpolation=cv2.INTER_AREA))
