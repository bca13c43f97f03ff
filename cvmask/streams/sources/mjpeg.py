"""Frames from a stream of bytes: JPEGs or raw pixels."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.source import Frame, Notify, Source, ignore

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
    """Yield each whole JPEG in a stream of bytes; other bytes between them are skipped.

    Every byte is read about once, and a JPEG is yielded as soon as its last byte is there.

    Parameters
    ----------
    read_some
        Returns the next bytes, as many as are available; none at the end.
    on_damaged
        Called for each damaged JPEG, and each whose end is missing.

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
    """The bytes from the start of a JPEG, as many as were needed so far."""

    def __init__(self, read_some: ReadSome) -> None:
        self._read_some = read_some
        self.data = bytearray()

    def begin(self) -> bool:
        """Drop the bytes before the next JPEG; False if none comes."""
        while (start := self.data.find(_START)) < 0:
            del self.data[:-2]  # the first bytes of a JPEG may be here already
            if not self._more():
                return False
        del self.data[:start]
        return True

    def has(self, count: int) -> bool:
        """Read until this many bytes are there; False if the stream ends before."""
        while len(self.data) < count:
            if not self._more():
                return False
        return True

    def find(self, start: bytes, place: int, end: int) -> int | None:
        """Find a match that begins between two positions, as soon as its bytes are there; None if there is none."""
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


def decode_jpegs(
    read_some: ReadSome, name: str, on_damaged: Callable[[], None]
) -> Iterator[NDArray[np.uint8]]:
    """Decode each JPEG; a damaged one is reported and left out, never shown in part."""
    for data in split_jpegs(read_some, on_damaged):
        try:
            image, warnings = decode_image(data, name)
        except SourceError:
            image = None
        if image is None or warnings:
            on_damaged()
        else:
            yield image


class DamagedCount:
    """Counts the damaged JPEGs of a live stream; reports the 1st, the 10th, the 100th and so on.

    Attributes
    ----------
    count
        How many there were.
    """

    def __init__(self, name: str, notify: Notify) -> None:
        self._name, self._notify = name, notify
        self.count, self._tell_at = 0, 1

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count == self._tell_at:
            self._tell_at *= 10
            self._notify(f"{self._name}: damaged JPEGs left out so far: {self.count}")


def split_raw(
    read_some: ReadSome, size_wh: tuple[int, int], on_cut: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    """Cut raw BGR pixels into frames, shape (height, width, 3); `on_cut` gets the bytes of one that is cut short."""
    width, height = size_wh
    length = width * height * 3
    held = bytearray()
    while some := read_some():
        held += some
        while len(held) >= length:
            yield np.frombuffer(bytes(held[:length]), dtype=np.uint8).reshape(height, width, 3).copy()
            del held[:length]
    if held:
        on_cut(len(held))


_CHUNK_BYTES = 1 << 20


class Stdin(Source):
    """JPEGs or raw BGR pixels from a pipe: the writer waits until frames are taken.

    ``ffmpeg -i in.mp4 -f mjpeg - | cvmask predict -`` or, raw, ``-f rawvideo -pix_fmt bgr24``.

    Parameters
    ----------
    size_wh
        Width and height of raw frames; None: JPEGs.
    frame_rate
        Frames a second, which the bytes do not say; None: frames have no time.
    file
        A binary file to read instead.

    Raises
    ------
    SourceError
        If it is a terminal, or holds no whole frame; ValueError for a side below 1.
    """

    name = "-"

    def __init__(
        self,
        size_wh: tuple[int, int] | None = None,
        frame_rate: Fraction | None = None,
        *,
        file: Any = None,
        on_message: Notify = ignore,
    ) -> None:
        if size_wh is not None and min(size_wh) < 1:
            raise ValueError(f"needs a size_wh of at least 1x1, got {size_wh[0]}x{size_wh[1]}")
        self._file = sys.stdin.buffer if file is None else file
        if self._file.isatty():
            raise SourceError("-: frames are read from standard input, but it is a terminal: pipe them in")
        self.size_wh, self.frame_rate = size_wh, frame_rate
        self._notify = on_message
        self._closed = threading.Event()
        self._rest_bytes = 0

    def close(self) -> None:
        """Stop reading; standard input itself stays open."""
        self._closed.set()

    def _frames(self) -> Iterator[Frame]:
        index = -1
        if self.size_wh is None:
            images = decode_jpegs(self._read_some, self.name, self._count_damaged)
        else:
            images = split_raw(self._read_some, self.size_wh, self._keep_rest)
        for index, image in enumerate(images):
            time_s = None if self.frame_rate is None else float(index / self.frame_rate)
            yield Frame(image, index, time_s, self.name)
        if self.lost:
            self._notify(f"{self.name}: damaged JPEGs left out: {self.lost}")
        if self._closed.is_set():
            return
        if index < 0:
            raise SourceError(f"{self.name}: standard input holds no frame ({self._wanted()})")
        if self._rest_bytes:
            self._notify(f"{self.name}: ends within frame {index + 1}, which is left out ({self._wanted()})")

    def _wanted(self) -> str:
        if self.size_wh is None:
            return "JPEGs expected; raw pixels need their size, files of other kinds are given by name"
        width, height = self.size_wh
        came = f"{self._rest_bytes} of the {3 * width * height} bytes of {width}x{height} came: is --raw-size right?"
        return came if self._rest_bytes else "raw BGR pixels expected"

    def _read_some(self) -> bytes:
        try:
            descriptor = self._file.fileno()
        except (OSError, AttributeError):
            return b"" if self._closed.is_set() else bytes(self._file.read(_CHUNK_BYTES))
        # The writer may pause for long: check often whether frames are still wanted.
        while not self._closed.is_set():
            if os.name == "nt" or select.select([descriptor], [], [], 0.1)[0]:
                return os.read(descriptor, _CHUNK_BYTES)
        return b""

    def _count_damaged(self) -> None:
        if not self._closed.is_set():  # or no thread waited for its end
            self.lost += 1

    def _keep_rest(self, count: int) -> None:
        self._rest_bytes = count
