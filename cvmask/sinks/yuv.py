"""From BGR to what video codecs take: luma of every pixel, colour of every 2x2."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Rec. ITU-R BT.601: what luma is of blue, green and red; colour differences from 16 to 240.
_LUMA_BGR = np.array([0.114, 0.587, 0.299])
_SPAN = 224 / 255


def _shares(channel: int) -> list[float]:
    """What blue, green and red add to the difference of one of them from the luma."""
    difference = np.eye(3)[channel] - _LUMA_BGR
    shares: list[float] = (difference / (1 - _LUMA_BGR[channel]) / 2 * _SPAN).tolist()
    return shares


_U, _V = _shares(0), _shares(2)


def to_i420(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert as BT.601 says, in its limited range; the colour of four pixels is that of their mean.

    OpenCV's own conversion takes the colour of every second pixel of every second row, and a line of two
    pixels loses it in places.

    Parameters
    ----------
    image
        BGR, shape (height, width, 3), both sides even.

    Returns
    -------
    Shape (height * 3 / 2, width): the rows of Y, then those of U and of V, two in a row.
    """
    height, width = image.shape[:2]
    planes: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)  # type: ignore[assignment]
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    blue, green, red = cv2.split(small)
    for plane, share in zip(planes[height:].reshape(2, height // 2, width // 2), (_U, _V)):
        most = cv2.addWeighted(blue, share[0], green, share[1], 128)
        cv2.addWeighted(most, 1, red, share[2], 0, dst=plane)
    return planes
