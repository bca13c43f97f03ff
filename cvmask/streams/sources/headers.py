"""What the first bytes of a picture file say, read before anything is decoded.

OpenCV decodes first and asks no questions: a file of 50 kB may want 1.2 GB, and half a JPEG passes
without a word. So kind, size and a few facts are read here.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Callable, NamedTuple

from cvmask.errors import SourceError

# After data of a scan only these can follow: no stuffed byte, no restart, no fill byte.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff+")  # any number of these may stand before a marker
_GIF_FRAME = re.compile(rb"\x21\xf9\x04.{4}\x00\x2c", re.DOTALL)
_PNM_SIZE = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})\b")
# Real ones have some hundred; of more, made to keep a reader busy, the rest is not looked at.
_MOST_JPEG_SEGMENTS = 10_000
_RADIANCE_SIZE = re.compile(rb"-Y\s*\+?(\d{1,10})\s*\+X\s*\+?(\d{1,10})")
_MOST_TAGS = 0xFFFF


class Header(NamedTuple):
    """What a picture file says of itself.

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
        False if the end is missing. Only looked at where OpenCV would not notice: in a JPEG.
    """

    kind: str
    size_wh: tuple[int, int] | None = None
    alpha: bool = False
    more: bool = False
    whole: bool = True


def read_header(data: bytes) -> Header | None:
    """Tell what `data`, a whole file, is; None if it is no picture that OpenCV knows."""
    for magic, kind, read in _KINDS:
        if data[magic[0] : magic[0] + len(magic[1])] == magic[1]:
            try:
                return read(data)
            except (struct.error, IndexError, OverflowError):
                return Header(kind, whole=False)
    return None


def _png(data: bytes) -> Header:
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    chunks = set()
    place = 8
    while place + 8 <= len(data) and b"IDAT" not in chunks:
        length, name = struct.unpack_from(">I4s", data, place)
        chunks.add(name)
        place += 12 + length
    alpha = color_type in (4, 6) or b"tRNS" in chunks
    return Header("PNG", (width, height), alpha=alpha, more=b"acTL" in chunks)


def _jpeg(data: bytes) -> Header:
    size = None
    end = len(data)
    for marker, place in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            size = (width, height)
        end = place
    return Header("JPEG", size, whole=data[end : end + 2] == b"\xff\xd9")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Give the marker and place of each segment, ending with 0xD9 if the end is there."""
    place = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        if place + 2 > len(data) or data[place] != 0xFF:
            return
        place = _FILL.match(data, place).end() - 1  # type: ignore[union-attr]
        if place + 2 > len(data):
            return
        marker = data[place + 1]
        yield marker, place
        if marker == 0xD9 or place + 4 > len(data):
            return
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA:
            following = _JPEG_MARKER.search(data, place)
            place = following.start() if following else len(data)


def _gif(data: bytes) -> Header:
    size = struct.unpack_from("<HH", data, 6)
    return Header("GIF", size, alpha=True, more=len(_GIF_FRAME.findall(data)) > 1)


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
        return Header("WebP", (width, height), alpha=bool(data[20] & 0x10), more=bool(data[20] & 0x02))
    if form == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("WebP", size, alpha=bool(bits >> 28 & 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WebP", (width & 0x3FFF, height & 0x3FFF))


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    kind, start, length, step, number = "TIFF", 4, "H", 12, "I"
    if 43 in data[2:4]:
        kind, start, length, step, number = "BigTIFF", 8, "Q", 20, "Q"
    place = struct.unpack_from(order + number, data, start)[0]
    count = struct.unpack_from(order + length, data, place)[0]
    first = place + struct.calcsize(length)
    tags: dict[int, int] = {}
    for entry in range(first, first + step * min(count, _MOST_TAGS), step):
        tag, form = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            value_at = entry + 4 + struct.calcsize(number)
            value = struct.unpack_from(order + {3: "H", 16: "Q"}.get(form, "I"), data, value_at)[0]
            tags.setdefault(tag, value)  # of a tag that is there twice, libtiff takes the first
    end = first + step * count
    following = data[end : end + struct.calcsize(number)]
    size = (tags[256], tags[257]) if len(tags) == 2 else None
    return Header(kind, size, alpha=True, more=any(following))


def _radiance(data: bytes) -> Header:
    lines = io.BytesIO(data)
    # OpenCV takes a line of more than 127 bytes for several.
    while lines.readline(127) not in (b"\n", b""):
        pass
    size = _RADIANCE_SIZE.match(lines.readline(127))
    return Header("Radiance HDR", (int(size[2]), int(size[1])) if size else None)


def _sun(data: bytes) -> Header:
    return Header("Sun raster", struct.unpack_from(">II", data, 4))


def _pnm(data: bytes) -> Header:
    size = _PNM_SIZE.match(data)
    return Header("PNM", (int(size[1]), int(size[2])) if size else None)


def _jp2(data: bytes) -> Header:
    place = data.index(b"ihdr") if b"ihdr" in data[:4096] else len(data)
    height, width = struct.unpack_from(">II", data, place + 4)
    return Header("JPEG 2000", (width, height))


def _avif(data: bytes) -> Header:
    place = data.index(b"ispe") if b"ispe" in data[:65536] else len(data)
    size = struct.unpack_from(">II", data, place + 8)
    return Header("AVIF", size, alpha=True, more=data[8:12] == b"avis")


_KINDS = (
    ((0, b"\x89PNG\r\n\x1a\n"), "PNG", _png),
    ((0, b"\xff\xd8\xff"), "JPEG", _jpeg),
    ((0, b"GIF8"), "GIF", _gif),
    ((0, b"BM"), "BMP", _bmp),
    ((8, b"WEBP"), "WebP", _webp),
    ((0, b"II*\0"), "TIFF", _tiff),
    ((0, b"MM\0*"), "TIFF", _tiff),
    ((4, b"ftypavi"), "AVIF", _avif),
    ((4, b"jP  "), "JPEG 2000", _jp2),
    *(((0, b"P%d" % number), "PNM", _pnm) for number in range(1, 7)),
    ((0, b"II+\0"), "BigTIFF", _tiff),
    ((0, b"MM\0+"), "BigTIFF", _tiff),
    ((0, b"#?RADIANCE"), "Radiance HDR", _radiance),
    ((0, b"\x59\xa6\x6a\x95"), "Sun raster", _sun),
)


ReadSome = Callable[[], bytes]
_LARGEST_JPEG_BYTES = 64 << 20
_START = b"\xff\xd8\xff"
# In the data of a scan stand stuffed bytes, restarts and fill bytes; anything else ends it.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_SOS, _EOI = 0xDA, 0xD9
_SEGMENTS = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDA))
# Applications keep whole JPEGs in segments of their own: thumbnails. None is smaller than this.
_MAY_HOLD_JPEG = frozenset({*range(0xE0, 0xF0), 0xFE})
_SMALLEST_THUMBNAIL_BYTES = 256
_LONGEST_START = 64


def split_jpegs(read_some: ReadSome, on_damaged: Callable[[], None]) -> Iterator[bytes]:
    """Find each whole JPEG in a run of bytes; whatever stands between them is passed over.

    Every byte is looked at about once, and a JPEG is given as soon as its last byte is there.

    Parameters
    ----------
    read_some
        Gives the next bytes, as many as there are; none at the end.
    on_damaged
        Called for each JPEG that does not go on as it must, or whose end never comes.

    Raises
    ------
    SourceError
        If one is longer than 64 MB.
    """
    held = _Held(read_some)
    while held.begin():
        length, whole = _follow(held)
        if whole:
            yield bytes(held.data[:length])
        else:
            on_damaged()
        del held.data[:length]


class _Held:
    """The bytes from a JPEG's first on, as many as were needed until now."""

    def __init__(self, read_some: ReadSome) -> None:
        self._read_some = read_some
        self.data = bytearray()

    def begin(self) -> bool:
        """Drop what stands before the next JPEG; False if none comes."""
        while (start := self.data.find(_START)) < 0:
            del self.data[:-2]  # the first bytes of a JPEG may be here already
            if not self._more():
                return False
        del self.data[:start]
        return True

    def has(self, count: int) -> bool:
        """Read until there are so many bytes; False if the end comes before."""
        while len(self.data) < count:
            if not self._more():
                return False
        return True

    def find(self, start: bytes, place: int, end: int) -> int | None:
        """Find what begins between two places, as soon as it is there; None if it is not."""
        last = end + len(start) - 1
        while (found := self.data.find(start, place, last)) < 0:
            place = max(place, len(self.data) - len(start) + 1)
            if len(self.data) >= last or not self._more():
                return None
        return found

    def after_scan(self, place: int) -> int:
        """Find the marker that ends the data of a scan; the number of all bytes if there is none."""
        while (found := _AFTER_SCAN.search(self.data, place)) is None:
            place = max(place, len(self.data) - 1)
            if not self._more():
                return len(self.data)
        return found.start()

    def _more(self) -> bool:
        if len(self.data) > _LARGEST_JPEG_BYTES:
            raise SourceError(f"a JPEG of more than {_LARGEST_JPEG_BYTES >> 20} MB: not a stream of JPEGs")
        some = self._read_some()
        self.data += some
        return bool(some)


def _follow(held: _Held) -> tuple[int, bool]:
    """Go from segment to segment of a JPEG; its length and True, or where the next may begin and False."""
    place = next_from = 2
    while True:
        while held.has(place + 2) and held.data[place] == held.data[place + 1] == 0xFF:
            place += 1
        marker = held.data[place + 1] if held.has(place + 2) and held.data[place] == 0xFF else None
        if marker == _EOI:
            return place + 2, True
        if marker not in _SEGMENTS or not held.has(place + 4):
            return next_from, False
        end = place + 2 + int.from_bytes(held.data[place + 2 : place + 4], "big")
        opaque = marker in _MAY_HOLD_JPEG and end - place > _SMALLEST_THUMBNAIL_BYTES
        # A bogus length, or that of a segment that was cut, leads into the next JPEG.
        # A thumbnail does not begin as its picture does.
        start = bytes(held.data[: min(place + 2, _LONGEST_START)]) if opaque else _START
        if (following := held.find(start, place + 2, end)) is not None:
            return following, False
        if not held.has(end):
            return len(held.data), False
        place = next_from = held.after_scan(end) if marker == _SOS else end
