"""Adds colour profile and resolution to the bytes of a PNG, JPEG, WebP, TIFF or BMP.

OpenCV writes neither. Pixels keep their values, so without its source's profile a Display P3 or Adobe RGB
picture would look paler. Definitions: ICC.1:2022 (annex B), PNG 3 (11.3.2), JFIF 1.02, RFC 9649 (WebP),
TIFF 6.0.
"""

from __future__ import annotations

import struct
import zlib
from typing import Callable, NamedTuple

_INCH_M = 0.0254
_JPEG_SEGMENT = 0xFFFF - 2
_ICC_NAME = b"ICC_PROFILE\0"
# TIFF tags: colour profile, horizontal and vertical resolution, and its unit.
ICC_TAG, X_TAG, Y_TAG, UNIT_TAG = 34675, 282, 283, 296
_PER_INCH = 2


class Metadata(NamedTuple):
    """The metadata of a picture file.

    Attributes
    ----------
    icc
        Its RGB colour profile; empty if unknown.
    dpi
        Pixels per inch in x and y of the upright picture; None if unknown.
    upright
        Whether the file shows its pixels unrotated: it has no EXIF orientation.
    """

    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    upright: bool = True


NO_METADATA = Metadata()


def embed(data: bytes, metadata: Metadata) -> bytes:
    """Add `metadata`, as far as the format can hold it, to a picture file that OpenCV encoded."""
    if not metadata.icc and metadata.dpi is None:
        return data
    add = next((add for start, add in _ADD.items() if data.startswith(start)), None)
    return data if add is None else add(data, metadata)


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Write one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(data: bytes, metadata: Metadata) -> bytes:
    after_ihdr = 8 + 4 + 4 + 13 + 4
    chunks = b""
    if metadata.icc:
        chunks += png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = _per_metre(metadata.dpi)
        chunks += png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    return data[:after_ihdr] + chunks + data[after_ihdr:]


def _jpeg(data: bytes, metadata: Metadata) -> bytes:
    if data[2:4] != b"\xff\xe0" or data[6:11] != b"JFIF\0":
        return data
    head, place = bytearray(data[:18]), 4 + struct.unpack_from(">H", data, 4)[0]
    if metadata.dpi:
        x, y = (min(round(value), 0xFFFF) for value in metadata.dpi)
        struct.pack_into(">BHH", head, 13, 1, x, y)
    step = _JPEG_SEGMENT - len(_ICC_NAME) - 2
    parts = [metadata.icc[start : start + step] for start in range(0, len(metadata.icc), step)]
    segments = b""
    for number, part in enumerate(parts, 1) if len(parts) < 256 else ():
        body = _ICC_NAME + bytes([number, len(parts)]) + part
        segments += b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body
    return bytes(head) + data[18:place] + segments + data[place:]


def _webp(data: bytes, metadata: Metadata) -> bytes:
    flags, body = 0, data[12:]
    if data[12:16] == b"VP8X":
        flags, size, body = data[20], data[24:30], data[30:]
    elif data[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        flags = 0x10 if bits >> 28 & 1 else 0
        size = _webp_size(bits & 0x3FFF, bits >> 14 & 0x3FFF)
    else:
        width, height = struct.unpack_from("<HH", data, 26)
        size = _webp_size((width & 0x3FFF) - 1, (height & 0x3FFF) - 1)
    if metadata.icc:
        flags, body = flags | 0x20, _riff_chunk(b"ICCP", metadata.icc) + body
    if metadata.dpi:
        flags, body = flags | 0x08, body + _riff_chunk(b"EXIF", _exif(metadata.dpi))
    content = b"WEBP" + _riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _webp_size(width_less_1: int, height_less_1: int) -> bytes:
    return width_less_1.to_bytes(3, "little") + height_less_1.to_bytes(3, "little")


def _riff_chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _exif(dpi: tuple[float, float]) -> bytes:
    return _with_tags(struct.pack("<2sHIHI", b"II", 42, 8, 0, 0), Metadata(dpi=dpi))


def _tiff(data: bytes, metadata: Metadata) -> bytes:
    return _with_tags(data, metadata)


def _with_tags(data: bytes, metadata: Metadata) -> bytes:
    """Append the first directory of a little-endian TIFF again, with more entries."""
    place = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, place)[0]
    entries = {}
    for at in range(place + 2, place + 2 + 12 * count, 12):
        entries[struct.unpack_from("<H", data, at)[0]] = data[at : at + 12]
    following = data[place + 2 + 12 * count : place + 6 + 12 * count]
    body = data + b"\0" * (len(data) % 2)
    if metadata.icc:
        entries[ICC_TAG] = struct.pack("<HHII", ICC_TAG, 7, len(metadata.icc), len(body))
        body += metadata.icc + b"\0" * (len(metadata.icc) % 2)
    if metadata.dpi:
        for tag, value in zip((X_TAG, Y_TAG), metadata.dpi):
            entries[tag] = struct.pack("<HHII", tag, 5, 1, len(body))
            body += struct.pack("<II", round(value * 1000), 1000)
        entries[UNIT_TAG] = struct.pack("<HHIHH", UNIT_TAG, 3, 1, _PER_INCH, 0)
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + following
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory


def _bmp(data: bytes, metadata: Metadata) -> bytes:
    if not metadata.dpi or struct.unpack_from("<I", data, 14)[0] < 40:
        return data
    return data[:38] + struct.pack("<ii", *_per_metre(metadata.dpi)) + data[46:]


def _per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    return round(dpi[0] / _INCH_M), round(dpi[1] / _INCH_M)


_ADD: dict[bytes, Callable[[bytes, Metadata], bytes]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"RIFF": _webp,
    b"II*\0": _tiff,
    b"BM": _bmp,
}
