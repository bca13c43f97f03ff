"""From BGR to what video codecs take: luma of every pixel, colour of every 2x2."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Rec. ITU-R BT.601: what luma is of blue, green and red; colour differences from 16 to 240.
_LUMA_BGR = np.array([0.114, 0.587, 0.299])
_SPAN = 224 / 255
# OpenCV shares more pixels than these out among its threads, which then wait for more by keeping a core busy:
# in a loop that has work for all cores the conversion takes twice the CPU time so.
_BAND_PIXELS = 1 << 16

Plane = NDArray[np.uint8]


def _shares(channel: int) -> list[float]:
    """What blue, green and red add to the difference of one of them from the luma."""
    difference = np.eye(3)[channel] - _LUMA_BGR
    shares: list[float] = (difference / (1 - _LUMA_BGR[channel]) / 2 * _SPAN).tolist()
    return shares


_U, _V = _shares(0), _shares(2)


def to_i420_(image: NDArray[np.uint8], y: Plane, u: Plane, v: Plane) -> None:
    """Convert as BT.601 says, in its limited range; the colour of four pixels is that of their mean.

    OpenCV's own conversion takes the colour of every second pixel of every second row, and a line of two
    pixels loses it in places.

    Parameters
    ----------
    image
        BGR, shape (height, width, 3), both sides even.
    y
        Takes the luma, shape (height, width).
    u, v
        Take the colour, shape (height / 2, width / 2) each.
    """
    height, width = image.shape[:2]
    rows = max(_BAND_PIXELS // width // 2 * 2, 2)
    luma = np.empty((rows * 3 // 2, width), np.uint8)
    small = np.empty((height // 2, width // 2, 3), np.uint8)
    for top in range(0, height, rows):
        band = image[top : top + rows]
        count = len(band)
        cv2.cvtColor(band, cv2.COLOR_BGR2YUV_I420, dst=luma[: count * 3 // 2])
        y[top : top + count] = luma[:count]
        means = small[top // 2 : (top + count) // 2]
        cv2.resize(band, means.shape[1::-1], dst=means, interpolation=cv2.INTER_AREA)
    blue, green, red = cv2.split(small)
    for plane, share in ((u, _U), (v, _V)):
        most = cv2.addWeighted(blue, share[0], green, share[1], 128)
        cv2.addWeighted(most, 1, red, share[2], 0, dst=plane)
