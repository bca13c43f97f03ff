"""Colours: the text file that users know from the tutorials, and the default colours."""

from __future__ import annotations

import functools
import os
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError
from cvmask.system.files import read_text


def read_colors(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read colours, one per line: three numbers from 0 to 255, with spaces or commas between them.

    The tutorials call the numbers r, g, b but pass them to OpenCV, which paints them as blue, green, red. cvmask gives
    the same colours: the first number is blue.

    Returns
    -------
    Shape (n, 3), BGR.

    Raises
    ------
    CvmaskError
        If the file cannot be read, is empty, or a line holds something else.
    """
    lines = read_text(path).rstrip().splitlines()
    if not lines:
        raise CvmaskError(f"{path}: a colours file needs one colour a line, got an empty file")
    return np.array([_parse_color(line, f"{path}: line {n}") for n, line in enumerate(lines, 1)], np.uint8)


def distinct_colors(count: int) -> NDArray[np.uint8]:
    """Return `count` colours that differ from each other as much as possible, above all the first ones.

    They are always the same, and a longer list starts with the shorter one. Beyond 256 they repeat.

    Returns
    -------
    Shape (count, 3), BGR.
    """
    colors: NDArray[np.uint8] = _all_distinct()[np.arange(count) % 256]
    return colors


def _parse_color(line: str, place: str) -> list[int]:
    try:
        values = [float(word) for word in line.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise CvmaskError(f"{place}: a colour is three numbers from 0 to 255, got {line!r}")
    return [round(value) for value in values]


# The first ones, as R, G, B: blue, orange, green, magenta, yellow, cyan, violet, brown. They are as far from each other
# as eight of these names can be, for eyes that tell red from green and for those that do not.
_FIRST_RGB = (
    (0, 85, 255),
    (255, 136, 0),
    (17, 187, 153),
    (187, 34, 153),
    (238, 238, 51),
    (102, 255, 255),
    (170, 136, 255),
    (170, 85, 17),
)
# What deuteranopes see, in linear R, G, B (Machado, Oliveira and Fernandes 2009, severity 1).
_DEUTERANOPE = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
_WEIGHT_OF_DEUTERANOPES = 2.0  # of squares: they have a dimension of colour less


@functools.lru_cache(maxsize=1)
def _all_distinct() -> NDArray[np.uint8]:
    """Continue from the first colours: each is as far as possible from all before it, in the OKLab space.

    The distance is the smaller of two: that for normal vision and that for deuteranopes.
    """
    levels = np.linspace(0, 255, 16).round()
    bgr = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(bgr)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # Saturated colours, but not garish, and neither near black nor near white: they are visible on any picture.
    usable = (chroma > 0.09) & (chroma < 0.24) & (lab[:, 0] > 0.55) & (lab[:, 0] < 0.9)
    bgr, lab = bgr[usable], lab[usable]
    seen = _oklab(bgr, _DEUTERANOPE)
    colors = [color[::-1] for color in _FIRST_RGB]
    distance = np.full(len(lab), np.inf)
    for index in range(256):
        if index == len(colors):
            colors.append(tuple(bgr[distance.argmax()].astype(int).tolist()))
        # Hue tells two objects apart better than lightness does. Rounded, so that the last bit of
        # another maths library cannot change a choice.
        new = np.array(colors[index : index + 1], dtype=np.float64)
        apart = (lab - _oklab(new)) * (0.7, 1, 1)
        without_red = seen - _oklab(new, _DEUTERANOPE)
        least = np.minimum((apart**2).sum(axis=1), _WEIGHT_OF_DEUTERANOPES * (without_red**2).sum(axis=1))
        distance = np.minimum(distance, least.round(9))
    return np.array(colors, dtype=np.uint8)


def _oklab(bgr: NDArray[np.float64], eye: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Convert sRGB (B, G, R in 0 to 255) to OKLab, after https://bottosson.github.io/posts/oklab/.

    `eye` is a matrix of linear R, G, B: what an eye sees of them.
    """
    rgb = bgr[:, ::-1] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if eye is not None:
        linear = np.clip(linear @ eye.T, 0, 1)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    lab = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return cast("NDArray[np.float64]", lab)
