"""Aligns the edges of masks with those of the picture: a guided filter with the picture as guide.

He, Sun and Tang, "Guided Image Filtering" (2010) and "Fast Guided Filter" (2015): within each neighbourhood the mask is
modelled as a linear function of the picture's colours. It is computed on a smaller picture; only its coefficients are
enlarged.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

_EPS = 1e-4  # regularization, for colours in 0 to 1: edges weaker than its root count as noise
_SHRINK = 4  # at most
_LEAST_RADIUS = 1.5  # in pixels of the smaller picture
Image = NDArray[np.float32]


def refine(
    soft: NDArray[np.float32], picture: NDArray[np.uint8], cell_wh: tuple[float, float]
) -> NDArray[np.float32]:
    """Align the edges of a soft mask with the edges of the picture under it.

    Parameters
    ----------
    soft
        Shape (height, width), 0 to 1: the enlarged soft mask.
    picture
        Shape (height, width, 3), uint8: the same pixels.
    cell_wh
        Width and height of a cell of the mask in pixels; the filter's radius is half of it.

    Returns
    -------
    Shape (height, width), 0 to 1: to be cut like `soft`.
    """
    height, width = soft.shape
    factor = int(max(1, min(_SHRINK, min(cell_wh) / 2 / _LEAST_RADIUS)))
    size_wh = max(1, width // factor), max(1, height // factor)
    colors = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    mask = cv2.resize(soft, size_wh, interpolation=cv2.INTER_AREA)
    reach = tuple(max(1, round(cell / 2 / factor)) for cell in cell_wh)
    slopes, offset = _coefficients(colors, cast(Image, mask), (2 * reach[0] + 1, 2 * reach[1] + 1))
    large = cv2.resize(np.dstack([slopes, offset]), (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = np.dstack([picture, np.full((height, width), 255, np.uint8)])
    refined = cv2.transform(cv2.multiply(large, pixels, scale=1 / 255, dtype=cv2.CV_32F), np.ones((1, 4), np.float32))
    return cast(Image, np.clip(refined.reshape(height, width), 0, 1))


def _coefficients(colors: Image, mask: Image, size_wh: tuple[int, int]) -> tuple[Image, Image]:
    """Give the slopes (h, w, 3) and the offset (h, w) that map colours to the mask, each averaged over a window."""

    def mean(values: Image) -> Image:
        return cast(Image, cv2.blur(values, size_wh, borderType=cv2.BORDER_REPLICATE))

    mean_color, mean_mask = mean(colors), mean(mask)
    shared = mean(colors * mask[..., None]) - mean_color * mean_mask[..., None]
    b, g, r = cv2.split(colors)
    mb, mg, mr = cv2.split(mean_color)
    bb, gg, rr = mean(b * b) - mb * mb + _EPS, mean(g * g) - mg * mg + _EPS, mean(r * r) - mr * mr + _EPS
    bg, br, gr = mean(b * g) - mb * mg, mean(b * r) - mb * mr, mean(g * r) - mg * mr
    # The inverse of the symmetric matrix [[bb, bg, br], [bg, gg, gr], [br, gr, rr]], times its determinant.
    i_bb, i_bg, i_br = gg * rr - gr * gr, br * gr - bg * rr, bg * gr - br * gg
    i_gg, i_gr, i_rr = bb * rr - br * br, bg * br - bb * gr, bb * gg - bg * bg
    determinant = bb * i_bb + bg * i_bg + br * i_br
    x, y, z = cv2.split(shared)
    slopes = np.dstack(
        [i_bb * x + i_bg * y + i_br * z, i_bg * x + i_gg * y + i_gr * z, i_br * x + i_gr * y + i_rr * z]
    ) / determinant[..., None]  # fmt: skip
    return mean(slopes), mean(mean_mask - (slopes * mean_color).sum(axis=2))
