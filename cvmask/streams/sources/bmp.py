"""BMP files that OpenCV reads wrongly: those with channel masks, and those with a wrong start of the pixels."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROW_FILLING = 3
_BITFIELDS, _ALPHA_BITFIELDS = 3, 6


def decode_bmp(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a BMP with masks (Microsoft, BITMAPINFOHEADER to BITMAPV5HEADER).

    Returns
    -------
    Shape (height, width, 3), BGR, or with alpha (height, width, 4), BGRA; None if it has no masks, or its
    rows are not all there.
    """
    if len(data) < 54:
        return None
    place, length, width, height, _, bits, form = struct.unpack_from("<IIiiHHI", data, 10)
    if length < 40 or bits not in (16, 32) or form not in (_BITFIELDS, _ALPHA_BITFIELDS) or len(data) < 70:
        return None
    red, green, blue, alpha = struct.unpack_from("<4I", data, 54)
    masks = [blue, green, red]
    # Without a place of its own in the header, the alpha mask would be the first pixel.
    if alpha and (length >= 56 or form == _ALPHA_BITFIELDS):
        masks.append(alpha)
    pitch = (width * bits // 8 + 3) // 4 * 4
    if width < 1 or place + pitch * abs(height) > len(data):
        return None
    rows = np.frombuffer(data, np.uint8, pitch * abs(height), place).reshape(abs(height), pitch)
    values = rows[:, : width * bits // 8].copy().view("<u2" if bits == 16 else "<u4")
    image = np.empty((*values.shape, len(masks)), np.uint8)
    for channel, mask in enumerate(masks):
        image[..., channel] = _channel(values, mask)
    return image if height < 0 else np.ascontiguousarray(image[::-1])


def mended_bmp(data: bytes) -> bytes:
    """Mend a BMP whose stated start of the pixels is that of the palette, or whose last row lacks its padding."""
    if len(data) < 54:
        return data
    place, length, _, _, _, bits = struct.unpack_from("<IIiiHH", data, 10)
    if length >= 40 and bits <= 8 and place == 14 + length:
        colors = min(struct.unpack_from("<I", data, 46)[0] or 1 << bits, 1 << bits)
        place += 4 * colors
    return data[:10] + struct.pack("<I", place) + data[14:] + bytes(_ROW_FILLING)


def _channel(values: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    most = mask >> shift
    part = (values & values.dtype.type(mask & np.iinfo(values.dtype).max)) >> values.dtype.type(shift)
    if most > 255:
        return np.asarray(part >> values.dtype.type(most.bit_length() - 8), np.uint8)
    table = (np.arange(most + 1) * 255 + most // 2) // max(most, 1)
    return np.asarray(table.astype(np.uint8)[part])
