"""Read the header of a picture file before anything is decoded.

OpenCV decodes without checks: a file of 50 kB may need 1.2 GB, and half a JPEG is accepted silently. So the
kind, the size and a few facts are read here first.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from cvmask.streams.sources.pam import pam_fields

# After data of a scan only these can follow: no stuffed byte, no restart, no fill byte.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
# Between segments libjpeg skips everything that is no marker, so the search for the size must do the same.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff]")
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))  # they have no length
_PNM_MAXVAL = re.compile(rb"P[2356](?:(?:\s|#[^\n]*\n)+\d{1,10}){2}(?:\s|#[^\n]*\n)+(\d{1,5})\b")
_PNM_SIZE = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})\b")
# Real files have some hundred. A file with more is made to keep a reader busy: the rest is ignored.
_MOST_JPEG_SEGMENTS = 10_000
_LONGEST_PNM_HEAD = 1 << 13  # matching more of it, all blanks, would stop every thread of Python for seconds
_MOST_GIF_BLOCKS = 1_000_000
_RADIANCE_SIZE = re.compile(rb"-Y\s*\+?(\d{1,10})\s*\+X\s*\+?(\d{1,10})")
_MOST_TAGS = 0xFFFF
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8, 18: 8}
_START_BYTES, _END_BYTES = 4096, 18
# Width, height, bits, what values mean, orientation, values a pixel, whether each has a plane, what the fourth is.
_TAGS = frozenset((256, 257, 258, 262, 274, 277, 284, 338))

ALL = "of any kind"  # what is odd about a format that OpenCV does not read at all


class Header(NamedTuple):
    """The facts in the header of a picture file.

    Attributes
    ----------
    kind
        The usual name of the format: ``PNG``.
    size_wh
        Width and height in pixels before any rotation; None where this reader cannot tell.
    alpha
        Whether some pixels may be transparent.
    more
        Whether more pictures follow the first: an animation, or pages.
    whole
        False if the end is missing. Only checked in a JPEG, where OpenCV would not notice.
    orientation
        1 to 8 as EXIF counts them, where OpenCV does not turn the picture itself; otherwise 1.
    largest
        The value of white, if it is not the largest of 8 or 16 bits; otherwise 0.
    premultiplied
        Whether colours are multiplied with their alpha already.
    apart
        Whether this is a TIFF whose alpha OpenCV does not find where it is.
    deep
        Whether this is a PNG or a TIFF of 16 bits a value.
    odd
        What OpenCV reads wrongly or not at all: ``with a palette``; otherwise empty.
    """

    kind: str
    size_wh: tuple[int, int] | None = None
    alpha: bool = False
    more: bool = False
    whole: bool = True
    orientation: int = 1
    largest: int = 0
    premultiplied: bool = False
    apart: bool = False
    deep: bool = False
    odd: str = ""


def read_header(data: bytes) -> Header | None:
    """Read the header of `data`, a whole file; None if it is no known kind of picture."""
    for magic, kind, read in _KINDS:
        if data[magic[0] : magic[0] + len(magic[1])] == magic[1]:
            try:
                return read(data)
            except (struct.error, IndexError, OverflowError):
                return Header(kind, whole=False)
    return next((Header(kind, odd=ALL) for kind, start in _FOREIGN.items() if start.match(data)), None)


def picture_kind(path: str) -> str:
    """Return the kind of a picture file by its first bytes; "" if it is no picture or cannot be read."""
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            data = file.read(_START_BYTES)
            if len(data) == _START_BYTES:
                file.seek(-_END_BYTES, os.SEEK_END)
                data += file.read(_END_BYTES)  # a TGA only identifies itself at its end
            header = read_header(data)
    except (OSError, ValueError):  # a name with a NUL
        return ""
    return header.kind if header else ""


def _png(data: bytes) -> Header:
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    chunks = dict(png_chunks(data))
    orientation = _exif_orientation(chunks.get(b"eXIf", b""))
    alpha = color_type in (4, 6) or b"tRNS" in chunks
    more, deep = b"acTL" in chunks, bits == 16
    return Header("PNG", (width, height), alpha=alpha, more=more, orientation=orientation, deep=deep)


def without_exif_mark(exif: bytes) -> bytes:
    """Give EXIF data from their TIFF header on."""
    return exif[6:] if exif.startswith(b"Exif\0\0") else exif


def _exif_orientation(exif: bytes) -> int:
    """Read the orientation from EXIF data, 1 to 8; 1 if there is none."""
    try:
        tags, _ = _tiff_tags(without_exif_mark(exif))
    except (struct.error, IndexError, OverflowError):
        return 1
    return _orientation(tags)


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(274, 1)
    return value if 1 <= value <= 8 else 1


def _jpeg(data: bytes) -> Header:
    size = None
    end = len(data)
    for marker, place in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            size = size or (width, height)  # libjpeg allocates by the first
        end = place
    return Header("JPEG", size, whole=data[end : end + 2] == b"\xff\xd9")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Give the marker and place of each segment, ending with 0xD9 if the end is there."""
    place = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        found = _NEXT_MARKER.search(data, place)
        if found is None:
            return
        place = found.start()
        marker = data[place + 1]
        yield marker, place
        if marker in _BARE_MARKERS:
            place += 2
            continue
        if marker == 0xD9 or place + 4 > len(data):
            return
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA:
            following = _JPEG_MARKER.search(data, place)
            place = following.start() if following else len(data)


def _gif(data: bytes) -> Header:
    size = struct.unpack_from("<HH", data, 6)
    return Header("GIF", size, alpha=True, more=len(list(islice(_gif_pictures(data), 2))) > 1)


def _gif_pictures(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the graphic control block of each picture of a GIF, empty where it has none, and its data."""
    place, control, blocks = _gif_start(data), b"", 0
    while data[place : place + 1] in (b"!", b",") and len(data) >= place + 10:
        begin, picture = place, data[place : place + 1] == b","
        place += 11 + (3 << (data[place + 9] & 7) + 1 if data[place + 9] & 0x80 else 0) if picture else 2
        while data[place : place + 1] not in (b"", b"\0"):
            place += data[place] + 1
            blocks += 1
            if blocks > _MOST_GIF_BLOCKS:
                return
        place += 1
        if picture:
            yield control, data[begin:place]
            control = b""
        elif data[begin + 1] == 0xF9:
            control = data[begin:place]


def _gif_start(data: bytes) -> int:
    flags = data[10] if len(data) > 10 else 0
    return 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)


def first_gif_frame(data: bytes) -> bytes:
    """Return a GIF of the first picture alone.

    A GIF can declare a transparent colour in several places. Some versions of OpenCV find it only right before the
    picture, and otherwise paint the background.
    """
    control, picture = next(_gif_pictures(data), (b"", b""))
    return data[: _gif_start(data)] + control + picture + b";" if picture else data


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return Header("BMP", struct.unpack_from("<HH", data, 18))
    length, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
    # From 56 bytes on, a header of bit fields says where alpha is; OpenCV takes whatever is left over for it.
    masked = length >= 56 and bits == 32 and compression == 3
    alpha = masked and struct.unpack_from("<I", data, 66)[0] != 0
    return Header("BMP", (abs(width), abs(height)), alpha=alpha)


def _webp(data: bytes) -> Header:
    form = data[12:16]
    if form == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        alpha, more = bool(data[20] & 0x10), bool(data[20] & 0x02)
        return Header("WebP", (width, height), alpha, more, orientation=_webp_orientation(data))
    if form == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("WebP", size, alpha=bool(bits >> 28 & 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WebP", (width & 0x3FFF, height & 0x3FFF))


def _webp_orientation(data: bytes) -> int:
    exif = dict(webp_chunks(data)).get(b"EXIF", b"") if data[20] & 0x08 else b""
    return _exif_orientation(exif)


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the name and the data of each chunk of a WebP."""
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        yield name, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the name and the data of each chunk of a PNG before its pixels."""
    place = 8
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IDAT":
            return
        yield name, data[place + 8 : place + 8 + length]
        place += 12 + length


def _tiff(data: bytes) -> Header:
    kind = "BigTIFF" if 43 in data[2:4] else "TIFF"
    tags, more = _tiff_tags(data)
    size = (tags[256], tags[257]) if 256 in tags and 257 in tags else None
    count, extra, meaning = tags.get(277, 1), tags.get(338), tags.get(262)
    apart = (count == 4 and meaning == 2 and tags.get(284) == 2) or (count == 2 and meaning in (0, 1))
    # libtiff multiplies 8 bits with their alpha.
    done = tags.get(258, 1) == 8 and not apart and extra == 2
    return Header(
        kind,
        size,
        alpha=extra != 0,  # then it is something else, or nothing
        more=more,
        orientation=_orientation(tags) if apart and extra != 0 else 1,
        premultiplied=extra == 1 or done,
        apart=apart and extra != 0,
        deep=tags.get(258) == 16,
    )


def _tiff_tags(data: bytes) -> tuple[dict[int, int], bool]:
    """Read the first value of some tags of a TIFF or of EXIF data, and whether another directory follows."""
    order, entries, more = tiff_entries(data)
    tags: dict[int, int] = {}
    for tag, (form, _, place) in entries.items():
        if tag in _TAGS:
            tags[tag] = struct.unpack_from(order + {3: "H", 16: "Q"}.get(form, "I"), data, place)[0]
    return tags, more


def tiff_entries(data: bytes) -> tuple[str, dict[int, tuple[int, int, int]], bool]:
    """Find the entries of the first directory of a TIFF or of EXIF data.

    Returns
    -------
    The order of bytes as `struct` writes it; by tag the type, how many values there are, and where; whether
    another directory follows. struct.error if it leads out of the data.
    """
    order = "<" if data[:2] == b"II" else ">"
    start, length, step, number = 4, "H", 12, "I"
    if 43 in data[2:4]:
        start, length, step, number = 8, "Q", 20, "Q"
    place = struct.unpack_from(order + number, data, start)[0]
    count = struct.unpack_from(order + length, data, place)[0]
    first = place + struct.calcsize(length)
    entries: dict[int, tuple[int, int, int]] = {}
    for entry in range(first, first + step * min(count, _MOST_TAGS), step):
        tag, form = struct.unpack_from(order + "HH", data, entry)
        many = struct.unpack_from(order + number, data, entry + 4)[0]
        value_at = entry + 4 + struct.calcsize(number)
        if many * _TYPE_BYTES.get(form, 4) > struct.calcsize(number):
            value_at = struct.unpack_from(order + number, data, value_at)[0]
        entries.setdefault(tag, (form, many, value_at))  # if a tag is there twice, libtiff takes the first
    end = first + step * count
    following = data[end : end + struct.calcsize(number)]
    return order, entries, any(following)


def _radiance(data: bytes) -> Header:
    lines = io.BytesIO(data)
    # OpenCV splits lines of more than 127 bytes.
    while lines.readline(127) not in (b"\n", b""):
        pass
    size = _RADIANCE_SIZE.match(lines.readline(127))
    return Header("Radiance HDR", (int(size[2]), int(size[1])) if size else None)


def _sun(data: bytes) -> Header:
    return Header("Sun raster", struct.unpack_from(">II", data, 4))


def _pnm(data: bytes) -> Header:
    head = data[:_LONGEST_PNM_HEAD]
    size, most = _PNM_SIZE.match(head), _PNM_MAXVAL.match(head)
    largest = int(most[1]) if most and int(most[1]) not in (255, 0xFFFF) else 0
    return Header("PNM", (int(size[1]), int(size[2])) if size else None, largest=largest)


def _pam(data: bytes) -> Header:
    fields = pam_fields(data)
    return Header("PAM", fields[:2] if fields else None)


def _jp2(data: bytes) -> Header:
    boxes = data[: data.index(b"jp2c") if b"jp2c" in data else 4096]
    place = boxes.index(b"ihdr") if b"ihdr" in boxes else len(data)
    height, width, channels = struct.unpack_from(">IIH", data, place + 4)
    odd = "with a palette" if b"pclr" in boxes else "of CMYK" if b"colr\x01\0\0\0\0\0\x0c" in boxes else ""
    return Header("JPEG 2000", (width, height), alpha=channels == 4, odd=odd)


def _j2k(data: bytes) -> Header:
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    channels = struct.unpack_from(">H", data, 40)[0]
    return Header("JPEG 2000", (right - left, bottom - top), alpha=channels == 4)


# By irot (quarter turns against the clock), then imir (0: upside down, 1: left to right; None: not at all).
_TURNED = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


def _heif(data: bytes) -> Header | None:
    """Read AVIF, and tell HEIC; other files of this build are videos."""
    brands = data[8 : struct.unpack_from(">I", data)[0]]
    major = brands[:4]
    if major in (b"avif", b"avis") or (major in (b"mif1", b"msf1") and b"avif" in brands):
        return _avif(data)
    return Header("HEIF", odd=ALL) if major in _HEIF_BRANDS else None


def _avif(data: bytes) -> Header:
    place = data.index(b"ispe") if b"ispe" in data[:65536] else len(data)
    size = struct.unpack_from(">II", data, place + 8)
    of_first = dict(heif_properties(data))
    turns = of_first[b"irot"][0] & 3 if b"irot" in of_first else 0
    mirror = of_first[b"imir"][0] & 1 if b"imir" in of_first else None
    deep = of_first.get(b"av1C", b"\0\0\0")[2]
    largest = 0 if not deep & 0x40 else 4095 if deep & 0x20 else 1023
    more = data[8:12] == b"avis"
    return Header("AVIF", size, alpha=True, more=more, orientation=_TURNED[mirror][turns], largest=largest)


def heif_properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Give the properties of the primary item of a HEIF file, with their names (ISO/IEC 23008-12, 6.5 and 9.3)."""
    meta = dict(_boxes(data, 0, len(data))).get(b"meta", b"")
    inside = dict(_boxes(meta, 4, len(meta)))
    parts = list(_boxes(inside.get(b"iprp", b""), 0, len(inside.get(b"iprp", b""))))
    known = next((list(_boxes(box, 0, len(box))) for name, box in parts if name == b"ipco"), [])
    primary_box = inside.get(b"pitm", bytes(6))
    primary = int.from_bytes(primary_box[4 : 8 if primary_box[0] else 6], "big")
    for name, box in parts:
        if name != b"ipma":
            continue
        wide_id, wide_index = 4 if box[0] else 2, 2 if box[3] & 1 else 1
        place = 8
        for _ in range(struct.unpack_from(">I", box, 4)[0]):
            item = int.from_bytes(box[place : place + wide_id], "big")
            place += wide_id + 1
            count = box[place - 1]
            if item == primary:
                ends = range(place, place + count * wide_index, wide_index)
                mask = 0x7FFF if wide_index == 2 else 0x7F
                indices = [int.from_bytes(box[at : at + wide_index], "big") & mask for at in ends]
                return [known[index - 1] for index in indices if 0 < index <= len(known)]
            place += count * wide_index
    return []


def _boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while place + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, place + 8)[0], 16
        length = length or end - place
        if length < head:
            return
        yield name, data[place + head : place + length]
        place += length


_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Pictures that OpenCV does not read, though FFmpeg would make a video of one frame of most.
_FOREIGN = {
    "Photoshop file": re.compile(rb"8BPS\x00[\x01\x02]"),
    "QOI": re.compile(rb"qoif"),
    "DDS": re.compile(rb"DDS \x7c\x00{3}"),
    "SGI": re.compile(rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]"),
    "PCX": re.compile(rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]"),
    "OpenEXR": re.compile(rb"\x76\x2f\x31\x01"),
    "ICO": re.compile(rb"\x00\x00\x01\x00[\x01-\xff]\x00...\x00", re.DOTALL),
    "CUR": re.compile(rb"\x00\x00\x02\x00[\x01-\xff]\x00...\x00", re.DOTALL),
    "ICNS": re.compile(rb"icns"),
    "JPEG XL": re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
    "DPX": re.compile(rb"SDPX|XPDS"),
    "PFM": re.compile(rb"P[fF]\s"),
    "FITS": re.compile(rb"SIMPLE  ="),
    "XPM": re.compile(rb"/\* XPM \*/"),
    "XBM": re.compile(rb"#define \w{1,200}_width \d"),
    "TGA": re.compile(rb".[\x00\x01][\x01-\x03\x09-\x0b].*TRUEVISION-XFILE\.\x00\Z", re.DOTALL),
}
_KINDS = (
    ((0, b"\x89PNG\r\n\x1a\n"), "PNG", _png),
    ((0, b"\xff\xd8\xff"), "JPEG", _jpeg),
    ((0, b"GIF8"), "GIF", _gif),
    ((0, b"BM"), "BMP", _bmp),
    ((8, b"WEBP"), "WebP", _webp),
    ((0, b"II*\0"), "TIFF", _tiff),
    ((0, b"MM\0*"), "TIFF", _tiff),
    ((4, b"ftyp"), "HEIF", _heif),
    ((4, b"jP  "), "JPEG 2000", _jp2),
    ((0, b"\xff\x4f\xff\x51"), "JPEG 2000", _j2k),
    *(((0, b"P%d" % number), "PNM", _pnm) for number in range(1, 7)),
    ((0, b"P7"), "PAM", _pam),
    ((0, b"II+\0"), "BigTIFF", _tiff),
    ((0, b"MM\0+"), "BigTIFF", _tiff),
    ((0, b"#?RADIANCE"), "Radiance HDR", _radiance),
    ((0, b"#?RGBE"), "Radiance HDR", _radiance),
    ((0, b"\x59\xa6\x6a\x95"), "Sun raster", _sun),
)
