"""Where each JPEG begins and ends in a run of bytes, although some are damaged or cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Callable

from cvmask.errors import SourceError

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
