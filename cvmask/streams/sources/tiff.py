"""TIFF files with alpha that OpenCV drops or reads from uninitialised memory, rewritten as grey pictures.

Each channel in a plane of its own becomes a TIFF; grey with alpha becomes one TIFF of twice the width.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_FORMS = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_WIDTH, _BITS, _COMPRESSION, _MEANING, _COUNT, _PLANES, _PREDICTOR, _TILE_WIDTH = 256, 258, 259, 262, 277, 284, 317, 322
_OFFSETS_AND_LENGTHS = (273, 279, 324, 325)
# All that says where the pixels lie and how they are packed; not what they mean.
_KEPT = frozenset(
    (257, 266, 278, 323, 339, 347, _WIDTH, _BITS, _COMPRESSION, _PREDICTOR, _TILE_WIDTH, *_OFFSETS_AND_LENGTHS)
)
_NONE, _LZW, _DEFLATE, _PACKBITS = 1, 5, 8, 32773
_DIFFERENCES = 2  # a predictor: each value is written as its difference from the pixel before it
_BYTE_WISE = (_NONE, _LZW, _DEFLATE, 32946, _PACKBITS)

_Tags = dict[int, tuple[int, tuple[int, ...]]]


def decode_tiff_alpha(data: bytes) -> NDArray[Any] | None:
    """Decode a TIFF of RGB and alpha in planes, or of grey and alpha, before its orientation.

    Returns
    -------
    Shape (height, width, 4), BGRA, as many bits a value as the file has; None if OpenCV cannot read its parts.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        tags = _read_tags(data, order)
        count = tags[_COUNT][1][0]
        if count == 2 and tags.get(_PLANES, (3, (1,)))[1][0] == 1:
            return _grey(data, order, tags)
        parts = [_decode(_part(data, order, tags, channel, count)) for channel in range(count)]
    except (struct.error, KeyError, IndexError, OverflowError):
        return None
    planes = [part for part in parts if part is not None and part.ndim == 2]
    if len(planes) < count or len({part.shape for part in planes}) > 1:
        return None
    if count == 2:
        return _as_bgra(planes[0], planes[1], tags)
    red, green, blue, alpha = planes
    return np.dstack([blue, green, red, alpha])


def _decode(part: NDArray[np.uint8]) -> NDArray[Any] | None:
    return cv2.imdecode(part, cv2.IMREAD_UNCHANGED)


def _grey(data: bytes, order: str, tags: _Tags) -> NDArray[Any] | None:
    predictor = tags.get(_PREDICTOR, (3, (1,)))[1][0]
    if tags.get(_COMPRESSION, (3, (1,)))[1][0] not in _BYTE_WISE or predictor not in (1, _DIFFERENCES):
        return None
    twice = {tag: (tags[tag][0], (2 * tags[tag][1][0],)) for tag in (_WIDTH, _TILE_WIDTH) if tag in tags}
    both = _decode(_part(data, order, {**tags, **twice, _PREDICTOR: (3, (1,))}, 0, 1))
    if both is None or both.ndim != 2 or both.shape[1] != twice[_WIDTH][1][0]:
        return None
    pixels = both.reshape(len(both), -1, 2)
    if predictor == _DIFFERENCES:
        step = tags.get(_TILE_WIDTH, tags[_WIDTH])[1][0]
        for left in range(0, pixels.shape[1], max(step, 1)):
            tile = pixels[:, left : left + step]
            np.cumsum(tile, axis=1, dtype=tile.dtype, out=tile)
    return _as_bgra(pixels[..., 0], pixels[..., 1], tags)


def _as_bgra(grey: NDArray[Any], alpha: NDArray[Any], tags: _Tags) -> NDArray[Any]:
    grey = grey if tags[_MEANING][1][0] else np.iinfo(grey.dtype).max - grey
    return np.dstack([grey, grey, grey, alpha])


def _read_tags(data: bytes, order: str) -> _Tags:
    wide = 43 in data[2:4]
    start, length, step, number = (8, "Q", 20, "Q") if wide else (4, "H", 12, "I")
    place = struct.unpack_from(order + number, data, start)[0]
    entries = min(struct.unpack_from(order + length, data, place)[0], 0xFFFF)
    tags: _Tags = {}
    for entry in range(place + struct.calcsize(length), place + struct.calcsize(length) + step * entries, step):
        tag, form, many = struct.unpack_from(order + "HH" + number, data, entry)
        if tag not in (*_KEPT, _MEANING, _COUNT, _PLANES) or form not in _FORMS or tag in tags:
            continue
        values_at = entry + 4 + struct.calcsize(number)
        letter = _FORMS[form]
        if many * struct.calcsize(letter) > struct.calcsize(number):
            values_at = struct.unpack_from(order + number, data, values_at)[0]
        if values_at + many * struct.calcsize(letter) > len(data):
            raise IndexError
        tags[tag] = (form, struct.unpack_from(f"{order}{many}{letter}", data, values_at))
    return tags


def _part(data: bytes, order: str, tags: _Tags, index: int, parts: int) -> NDArray[np.uint8]:
    """Write the file again with a directory at its end that names one of its planes alone, as a grey picture."""
    wide = 43 in data[2:4]
    length, number = ("Q", "Q") if wide else ("H", "I")
    chosen: _Tags = {_MEANING: (3, (1,)), _COUNT: (3, (1,)), _PLANES: (3, (1,))}
    for tag in _KEPT & set(tags):
        form, values = tags[tag]
        if tag in _OFFSETS_AND_LENGTHS:
            each = len(values) // parts
            values = values[index * each : (index + 1) * each]
        elif tag != 347:
            values = values[:1]
        chosen[tag] = (form, values)
    place = len(data) + len(data) % 2
    room = struct.calcsize(number)
    after = place + struct.calcsize(length) + len(chosen) * (4 + 2 * room) + room
    directory, outside = struct.pack(order + length, len(chosen)), b""
    for tag, (form, values) in sorted(chosen.items()):
        packed = struct.pack(f"{order}{len(values)}{_FORMS[form]}", *values)
        directory += struct.pack(order + "HH" + number, tag, form, len(values))
        if len(packed) <= room:
            directory += packed.ljust(room, b"\0")
        else:
            directory += struct.pack(order + number, after + len(outside))
            outside += packed + bytes(len(packed) % 2)
    start = 8 if wide else 4
    head = data[:start] + struct.pack(order + number, place) + data[start + room :]
    whole = head + bytes(len(data) % 2) + directory + bytes(room) + outside
    return np.frombuffer(whole, np.uint8)
