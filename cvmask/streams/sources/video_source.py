"""Video files, through OpenCV's FFmpeg."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.av_capture import AV_CURE, find_av
from cvmask.streams.sources.capture import length_of, measured_rate, open_capture, rate_of, size_of
from cvmask.streams.sources.headers import picture_kind
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.shape import has_alpha
from cvmask.streams.sources.source import Frame, Notify, Source, ignore

# At the end of a file each attempt fails at once; in damaged files FFmpeg failed at most 3 times in a row.
_MOST_FAILURES = 64
_LONG_PAUSE_S = 60
_WHOLE = 0.95  # share of the frames that a file at an address states: some are estimated from its length in seconds


class Video(Source):
    """Every frame of a video file, turned upright, with square pixels and its own time.

    `length` is the number that the file states, cut to the wanted part; `on_message` is called if fewer come.
    Frames of another size than the first are scaled to it by OpenCV (since 4.9).

    Parameters
    ----------
    path
        A file, or an address that FFmpeg opens and that has an end.
    start_s, end_s
        Only frames from `start_s` on and before `end_s`, in seconds. Earlier frames are decoded too,
        because only then a frame's index is certain.
    stride
        Only every stride-th of these.
    timeout_s
        How long a server may send nothing; None: OpenCV's 30 s.
    on_message
        Called with one line for each fact that differs from what the file states.

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
        timeout_s: float | None = None,
        on_message: Notify = ignore,
    ) -> None:
        if stride < 1 or start_s < 0 or (end_s is not None and end_s <= start_s):
            raise ValueError(f"needs stride >= 1 and 0 <= start_s < end_s, got {stride}, {start_s} and {end_s}")
        self.path = os.fspath(path)
        self.name = without_password(self.path)
        self._part = (start_s, end_s, stride)
        self._notify = on_message
        self._closed = False
        self._gaps = 0
        if kind := picture_kind(self.path):  # FFmpeg would make a video of one frame of it
            raise SourceError(f"{self.name}: is a picture ({kind}), not a video")
        self._capture = open_capture(self.path, timeout_s)
        self.size_wh = size_of(self._capture)
        self._file_rate = rate_of(self._capture)
        if self._file_rate is None and "://" not in self.path:
            self._file_rate = measured_rate(self.path)
        self._file_length = length_of(self._capture)
        self.frame_rate = self._file_rate and self._file_rate / stride
        self.length = self._wanted_length()
        if find_av() is None and has_alpha(self.path, self._capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)):
            cure = f"PyAV lays it on white: {AV_CURE}"
            self._notify(f"{self.name}: is transparent in places, which OpenCV leaves out; {cure}")

    def close(self) -> None:
        """Release the file."""
        self._closed = True
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
                self.lost += 1
                self._notify(f"{self.name}: frame {index} is damaged and left out")
            elif image is not None:
                yield Frame(image, index, time_s, self.name)
        if wanted_from is None and start_s > 0 and not self._closed:
            raise SourceError(f"{self.name}: ends before the start at {start_s:g} s")

    def _grab(self) -> Iterator[tuple[int, float]]:
        """Go from frame to frame; give index and seconds since the first."""
        index, untimed, first_s, last_s = 0, 0, 0.0, -1.0
        timed_s, behind = 0.0, 0  # the last frame with a time of its own, and how many have followed it
        rate = self._file_rate or Fraction(25)
        while self._grab_next():
            stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first_s = stamp_s if index == 0 else first_s
            time_s = stamp_s - first_s
            if time_s <= last_s:
                # Raw streams have no times at all, and damaged files go back: then the rate has to do.
                behind += 1
                time_s = timed_s + float(behind / rate)
                untimed += 1
            else:
                timed_s, behind = time_s, 0
            if time_s - last_s > _LONG_PAUSE_S and index:
                self._notify(f"{self.name}: time goes on by {time_s - last_s:.0f} s before frame {index}")
            yield index, time_s
            last_s = time_s
            index += 1
        if self._closed:
            return
        if index == 0:
            raise SourceError(f"{self.name}: holds no frame that OpenCV can decode{self._codec()}{self._cure()}")
        if untimed:
            words = f"frames have no time of their own and follow at {float(rate):g} a second"
            self._notify(f"{self.name}: {untimed} {words}")
        if self._gaps:
            behind = self._gaps if self._file_length is None else max(self._gaps, self._file_length - index)
            self.lost += behind
            self._notify(f"{self.name}: damaged or cut short, about {behind} frames are lost")
        elif "://" in self.path and index < _WHOLE * (self._file_length or 0):
            self.lost += int(self._file_length or 0) - index
            self._notify(f"{self.name}: the connection broke off: {index} of about {self._file_length} frames came")
        elif self._file_length is not None and index != self._file_length:
            self._notify(f"{self.name}: states {self._file_length} frames, {index} could be read")

    def _grab_next(self) -> bool:
        """Go to the next frame, past damaged parts: FFmpeg continues after them if it is called again."""
        for failures in range(1 if "://" in self.path else _MOST_FAILURES):
            if self._capture.grab():
                self._gaps += failures > 0
                return True
            if self._closed:
                break
        return False

    def _retrieve(self) -> NDArray[np.uint8] | None:
        found, image = self._capture.retrieve()
        return image if found and image is not None and image.size else None

    def _codec(self) -> str:
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
        return f" (codec {code.decode('ascii')})" if code.isalnum() else ""

    def _cure(self) -> str:
        return "" if find_av() else f": PyAV may: {AV_CURE}"

    def _wanted_length(self) -> int | None:
        start_s, end_s, stride = self._part
        if self._file_length is None or (self._file_rate is None and (start_s or end_s)):
            return None
        rate = float(self._file_rate or 1)
        first, last = math.ceil(start_s * rate), self._file_length
        last = last if end_s is None else min(last, math.ceil(end_s * rate))
        return max(0, math.ceil((last - first) / stride))
