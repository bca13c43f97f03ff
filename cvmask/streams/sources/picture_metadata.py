"""Colour profile and resolution of a picture file, read from its first bytes."""

from __future__ import annotations

import math
import struct
import zlib

from cvmask.formats.metadata import ICC_TAG, NO_METADATA, UNIT_TAG, X_TAG, Y_TAG, Metadata
from cvmask.streams.sources.headers import (
    heif_properties,
    jpeg_segments,
    png_chunks,
    read_header,
    tiff_entries,
    webp_chunks,
    without_exif_mark,
)

_MOST_ICC_BYTES = 8 << 20  # the largest in use have 3 MB
_INCH_CM = 2.54
_INCH_M = 0.0254
_ICC_NAME = b"ICC_PROFILE\0"
_SOS = 0xDA
_LARGEST_DPI = 100_000

Dpi = tuple[float, float]


def read_metadata(data: bytes) -> Metadata:
    """Read the metadata of `data`, a whole picture file; empty if it is damaged.

    Only RGB profiles are kept, because pictures become RGB when they are read.
    """
    header = read_header(data)
    read = None if header is None else _READ.get(header.kind)
    if header is None or read is None:
        return NO_METADATA
    try:
        icc, dpi, orientation = read(data)
    except (struct.error, IndexError, ValueError, OverflowError, zlib.error):
        return NO_METADATA
    if dpi is not None and not all(1 <= value <= _LARGEST_DPI for value in dpi):
        dpi = None
    orientation = max(orientation, header.orientation)
    if dpi is not None and orientation >= 5:
        dpi = dpi[::-1]
    return Metadata(icc if _is_rgb(icc) else b"", dpi, orientation <= 1)


def _is_rgb(icc: bytes) -> bool:
    whole = len(icc) >= 128 and struct.unpack_from(">I", icc)[0] == len(icc) <= _MOST_ICC_BYTES
    return whole and icc[16:20] == b"RGB " and icc[36:40] == b"acsp"


_Found = tuple[bytes, "Dpi | None", int]


def _png(data: bytes) -> _Found:
    chunks = dict(png_chunks(data))
    icc, dpi = b"", None
    if b"iCCP" in chunks:
        name_end = chunks[b"iCCP"].index(b"\0")
        icc = zlib.decompressobj().decompress(chunks[b"iCCP"][name_end + 2 :], _MOST_ICC_BYTES)
    if b"pHYs" in chunks:
        x, y, unit = struct.unpack(">IIB", chunks[b"pHYs"])
        dpi = (x * _INCH_M, y * _INCH_M) if unit == 1 else None
    return icc, dpi, 1


def _jpeg(data: bytes) -> _Found:
    parts: dict[int, bytes] = {}
    dpi, from_exif, orientation = None, None, 1
    for marker, place in jpeg_segments(data):
        if marker in (_SOS, 0xD9):
            break
        if marker not in (0xE0, 0xE1, 0xE2):
            continue
        body = data[place + 4 : place + 2 + struct.unpack_from(">H", data, place + 2)[0]]
        if body.startswith(b"JFIF\0") and dpi is None:
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            scale = {1: 1.0, 2: _INCH_CM}.get(unit, 0)
            dpi = (x * scale, y * scale) if scale else None
        elif body.startswith(b"Exif\0\0") and from_exif is None:
            from_exif, orientation = _exif(body)
        elif body.startswith(_ICC_NAME):
            parts.setdefault(body[12], body[14:])
    return b"".join(parts[number] for number in sorted(parts)), dpi or from_exif, orientation


def _webp(data: bytes) -> _Found:
    if data[12:16] != b"VP8X":
        return b"", None, 1
    chunks = dict(webp_chunks(data))
    return chunks.get(b"ICCP", b""), _exif(chunks.get(b"EXIF", b""))[0], 1


def _exif(exif: bytes) -> tuple[Dpi | None, int]:
    try:
        return _tiff(without_exif_mark(exif))[1:]
    except struct.error:  # damaged; the colour profile is kept
        return None, 1


def _tiff(data: bytes) -> _Found:
    """Read a TIFF or EXIF data."""
    order, entries, _ = tiff_entries(data)
    icc, sides = b"", []
    if ICC_TAG in entries:
        _, count, place = entries[ICC_TAG]
        icc = data[place : place + min(count, _MOST_ICC_BYTES)]
    unit, orientation = (
        struct.unpack_from(order + "H", data, entries[tag][2])[0] if tag in entries else otherwise
        for tag, otherwise in ((UNIT_TAG, 2), (274, 1))
    )
    for tag in (X_TAG, Y_TAG):
        if tag in entries:
            whole, parts = struct.unpack_from(order + "II", data, entries[tag][2])
            sides.append(whole / parts * {2: 1.0, 3: _INCH_CM}.get(unit, math.nan) if parts else math.nan)
    return icc, (sides[0], sides[1]) if len(sides) == 2 else None, orientation if orientation <= 8 else 1


def _heif(data: bytes) -> _Found:
    profiles = (box for name, box in heif_properties(data) if name == b"colr")
    return next((box[4:] for box in profiles if box[:4] in (b"prof", b"rICC")), b""), None, 1


def _bmp(data: bytes) -> _Found:
    x, y = struct.unpack_from("<ii", data, 38) if struct.unpack_from("<I", data, 14)[0] >= 40 else (0, 0)
    return b"", (x * _INCH_M, y * _INCH_M), 1


_READ = {
    **{"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "TIFF": _tiff, "BigTIFF": _tiff, "AVIF": _heif},
    **{"HEIF": _heif, "BMP": _bmp},
}
