"""Bring a frame to the size of a video."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray


def even(width: int, height: int) -> tuple[int, int]:
    """Round a size up to even sides: the codecs store colour for 2x2 pixels."""
    return width + width % 2, height + height % 2


def fit(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Give the frame in this size.

    One that only lacks a row or column to be even repeats its last one; any other is scaled with its
    proportions kept, black around it. The frame itself if it fits.
    """
    width, height = size_wh
    rows, columns = image.shape[:2]
    if (columns, rows) == size_wh:
        return image
    if even(columns, rows) == size_wh:
        sides = (0, height - rows, 0, width - columns)
        return cast("NDArray[np.uint8]", cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE))
    scale = min(width / columns, height / rows)
    columns, rows = max(1, round(columns * scale)), max(1, round(rows * scale))
    scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    left, top = (width - columns) // 2, (height - rows) // 2
    sides = (top, height - rows - top, left, width - columns - left)
    return cast("NDArray[np.uint8]", cv2.copyMakeBorder(scaled, *sides, cv2.BORDER_CONSTANT))
