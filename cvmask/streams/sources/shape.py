"""How a video's frames are shown: upright, with square pixels, on white where they are transparent."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)
# Beyond this a file is damaged rather than anamorphic.
_MOST_ASPECT = 8


def square_size(size_wh: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """Give the size that a picture has with square pixels: it grows to one side, and no pixel is lost.

    Parameters
    ----------
    aspect
        Width of a pixel by its height.
    """
    width, height = size_wh
    if not Fraction(1, _MOST_ASPECT) <= aspect <= _MOST_ASPECT:
        return size_wh
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def squared(image: NDArray[np.uint8], aspect: Fraction) -> NDArray[np.uint8]:
    """Return a picture scaled to square pixels; the picture itself if they are square."""
    size_wh = image.shape[1], image.shape[0]
    wanted_wh = square_size(size_wh, aspect)
    if wanted_wh == size_wh:
        return image
    grown: NDArray[np.uint8] = cv2.resize(image, wanted_wh, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return grown


def aspect_of(numerator: float, denominator: float, turned: bool) -> Fraction:
    """Return the pixel aspect ratio that a file states, for the frame as shown; 1 if it states none."""
    if numerator < 1 or denominator < 1:
        return Fraction(1)
    aspect = Fraction(int(numerator), int(denominator))
    return 1 / aspect if turned else aspect


def laid_upright(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Lay the picture as the matrix says: x of the screen is a x + c y, y is b x + d y."""
    a, b, c, d = matrix
    if a == 0:
        image, (across, down) = image.transpose(1, 0, 2), (c, b)
    else:
        across, down = a, d
    return np.ascontiguousarray(image[::down, ::across])


def right_angles(numbers: NDArray[np.int32]) -> Matrix:
    """Give where a frame's x and y axes point, rounded to right angles: the four corners of its 3x3 matrix."""
    a, b, _, c, d = np.sign(numbers[:5].astype(np.int64)).tolist()
    turned = (a == 0 and d == 0 and b and c) or (b == 0 and c == 0 and a and d)
    return (a, b, c, d) if turned else UPRIGHT


def is_mirrored(matrix: Matrix) -> bool:
    """Return whether frames are mirrored, which OpenCV ignores."""
    a, b, c, d = matrix
    return a * d - b * c < 0


def mp4_matrix(path: str) -> Matrix:
    """Read how the first video track of an MP4 or MOV file is shown (ISO/IEC 14496-12, 8.3.2); upright if unknown."""
    try:
        with open(path, "rb") as file:
            if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return UPRIGHT
            size = file.seek(0, 2)
            for moov in _boxes(file, b"moov", 0, size):
                for track in _boxes(file, b"trak", *moov):
                    kinds = [at for media in _boxes(file, b"mdia", *track) for at in _boxes(file, b"hdlr", *media)]
                    heads = list(_boxes(file, b"tkhd", *track))
                    if kinds and heads and _read(file, kinds[0][0] + 8, 4) == b"vide":
                        place = heads[0][0]
                        place += 52 if _read(file, place, 1)[0] else 40  # behind times of 64 or of 32 bits
                        return right_angles(np.frombuffer(_read(file, place, 20), ">i4"))
    except (OSError, struct.error, ValueError, IndexError):
        pass
    return UPRIGHT


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _boxes(file: BinaryIO, wanted: bytes, place: int, end: int) -> Iterator[tuple[int, int]]:
    """Give where the insides of each box of this name begin and end."""
    while place + 8 <= end:
        length, name = struct.unpack(">I4s", _read(file, place, 8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", _read(file, place + 8, 8))[0], 16
        length = length or end - place
        if length < head:
            return
        if name == wanted:
            yield place + head, min(place + length, end)
        place += length


def laid_on_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a BGRA picture on white, as pictures are; shape (height, width, 3)."""
    alpha = image[:, :, 3:].astype(np.uint16)
    mixed = image[:, :, :3] * alpha + 255 * (255 - alpha)
    laid: NDArray[np.uint8] = ((mixed + 127) // 255).astype(np.uint8)
    return laid


# FFmpeg's codes of formats with alpha: YUVA, gray and GBR planes with it, and packed ones.
_ALPHA_STARTS = (b"Y4", b"Y2\0", b"G4", b"RGBA", b"BGRA", b"ARGB", b"ABGR", b"RBA@", b"BRA@")

_START_BYTES = 4096
_EBML = b"\x1aE\xdf\xa3"
_ALPHA_MODE = b"\x53\xc0\x81\x01"


def has_alpha(path: str, pixel_format: float) -> bool:
    """Tell from a video and its ``CAP_PROP_CODEC_PIXEL_FORMAT`` whether OpenCV leaves out its transparency.

    VP8 and VP9 keep it beside their packets, and only the container says so.
    """
    with suppress(OSError, ValueError), open(path, "rb") as file:
        start = file.read(_START_BYTES)
        if start.startswith(_EBML) and _ALPHA_MODE in start:
            return True
    if not 0 < pixel_format < 2**32:
        return False
    code = int(pixel_format).to_bytes(4, "little")
    return code.startswith(_ALPHA_STARTS) or code[::-1].startswith(_ALPHA_STARTS)
