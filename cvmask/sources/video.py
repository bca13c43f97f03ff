"""Video files, through OpenCV's FFmpeg."""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.sources.base import Frame, Notify, Source, ignore

# OpenCV gives the rate as a float; the rates that files state have far smaller denominators than this.
_MAX_DENOMINATOR = 30000
# Many cameras take seconds until their first picture.
_OPEN_TIMEOUT_S = 10.0


class Video(Source):
    """Every frame of a video file, turned upright, with its own time.

    `length` is what the file says, cut to the wanted part; when fewer come, `on_message` is told.
    Frames of another size than the first are scaled to it by OpenCV (since 4.9).

    Parameters
    ----------
    path
        A file, or an address that FFmpeg opens and that has an end.
    start_s, end_s
        Only frames from `start_s` on and before `end_s`, in seconds. What lies before is decoded too,
        since only so a frame's index is certain.
    stride
        Only every stride-th of these.
    on_message
        Called with one line for whatever is not as the file says.

    Raises
    ------
    SourceError
        If it is no video that OpenCV can open; ValueError for a stride below 1 or an empty part.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        on_message: Notify = ignore,
    ) -> None:
        if stride < 1 or start_s < 0 or (end_s is not None and end_s <= start_s):
            raise ValueError(
                f"needs stride >= 1 and 0 <= start_s < end_s, got {stride}, {start_s} and {end_s}"
            )
        self.name = os.fspath(path)
        self._part = (start_s, end_s, stride)
        self._notify = on_message
        # OpenCV crashes when a capture is released while another thread reads from it.
        self._lock = threading.Lock()
        self._closed = False
        self._capture = open_capture(self.name)
        self.size_wh = size_of(self._capture)
        self._file_rate = rate_of(self._capture)
        self._file_length = length_of(self._capture)
        self.frame_rate = self._file_rate and self._file_rate / stride
        self.length = self._wanted_length()

    def close(self) -> None:
        """Release the file."""
        self._closed = True
        with self._lock:
            self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        start_s, end_s, stride = self._part
        wanted_from = None
        for index, time_s in self._grab():
            if end_s is not None and time_s >= end_s:
                return
            if time_s < start_s:
                continue
            wanted_from = index if wanted_from is None else wanted_from
            if (index - wanted_from) % stride:
                continue
            image = self._retrieve()
            if image is None and not self._closed:
                self._notify(f"{self.name}: frame {index} is damaged and left out")
            elif image is not None:
                yield Frame(image, index, time_s, self.name)
        if wanted_from is None and start_s > 0 and not self._closed:
            raise SourceError(f"{self.name}: ends before the start at {start_s:g} s")

    def _grab(self) -> Iterator[tuple[int, float]]:
        """Go from frame to frame; give index and seconds since the first."""
        index, untimed, first_s, last_s = 0, 0, 0.0, -1.0
        step_s = float(1 / (self._file_rate or 25))
        while self._next():
            stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first_s = stamp_s if index == 0 else first_s
            time_s = stamp_s - first_s
            if time_s <= last_s:
                # Raw streams have no times at all, and damaged files go back: then the rate has to do.
                time_s = last_s + step_s
                untimed += 1
            yield index, time_s
            last_s = time_s
            index += 1
        if self._closed:
            return
        if index == 0:
            raise SourceError(f"{self.name}: holds no frame that OpenCV can decode{self._codec()}")
        if untimed:
            rate = f"{1 / step_s:g} a second"
            self._notify(f"{self.name}: {untimed} frames have no time of their own and follow at {rate}")
        if self._file_length is not None and index != self._file_length:
            self._notify(f"{self.name}: says it has {self._file_length} frames, {index} could be read")

    def _next(self) -> bool:
        with self._lock:
            return bool(self._capture.isOpened() and self._capture.grab())

    def _retrieve(self) -> NDArray[np.uint8] | None:
        with self._lock:
            found, image = self._capture.retrieve()
        return cast("NDArray[np.uint8]", image) if found and image is not None and image.size else None

    def _codec(self) -> str:
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
        return f" (codec {code.decode('ascii')})" if code.isalnum() else ""

    def _wanted_length(self) -> int | None:
        start_s, end_s, stride = self._part
        if self._file_length is None or (self._file_rate is None and (start_s or end_s)):
            return None
        rate = float(self._file_rate or 1)
        first, last = math.ceil(start_s * rate), self._file_length
        last = last if end_s is None else min(last, math.ceil(end_s * rate))
        return max(0, math.ceil((last - first) / stride))


def open_capture(address: str, timeout_s: float | None = None) -> cv2.VideoCapture:
    """Open a file or address with FFmpeg; SourceError in one line if that fails.

    `timeout_s` limits each read of a network address; opening it may take 10 s.
    """
    path = address
    if "://" not in address:
        _check_file(address)
        # A path with a colon or a leading dash would look like something else to FFmpeg.
        path = os.path.abspath(address)
    limits = []
    if timeout_s is not None:
        open_ms, read_ms = (int(limit_s * 1000) for limit_s in (max(timeout_s, _OPEN_TIMEOUT_S), timeout_s))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(f"{address}: no video that OpenCV can open (damaged, cut short, without pictures?)")
    return capture


def size_of(capture: cv2.VideoCapture) -> tuple[int, int] | None:
    """Give width and height in pixels, after rotation."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return size if min(size) > 0 else None


def rate_of(capture: cv2.VideoCapture) -> Fraction | None:
    """Give frames a second as the ratio that the float stands for: 29.97... is 30000/1001."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return Fraction(rate).limit_denominator(_MAX_DENOMINATOR) if 0 < rate < 100_000 else None


def length_of(capture: cv2.VideoCapture) -> int | None:
    """Give the number of frames that it says it has; streams without one report nonsense."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(length) if 0 < length < 2**40 else None


def _check_file(path: str) -> None:
    try:
        status = os.stat(path)
        with open(path, "rb") if stat.S_ISREG(status.st_mode) else open(os.devnull):
            pass
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{path}: is a folder, not a video")
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path}: is a pipe or a device, not a video file: use - and standard input")
    if status.st_size == 0:
        raise SourceError(f"{path}: is empty (0 bytes)")
