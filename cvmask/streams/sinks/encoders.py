"""How a video is encoded: what every encoder does, and OpenCV's, which is always there."""

from __future__ import annotations

from array import array
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.streams.sinks.av_encoder import SUFFIXES as AV_SUFFIXES
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sinks.mp4 import set_frame_times
from cvmask.streams.sources.av_capture import AV_CURE
from cvmask.system.interrupts import raise_if_stopped
from cvmask.system.process import quiet

CODECS = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), "mp4v"),
    ".avi": "XVID",
    ".webm": "VP80",
}
_INDEXED = (".mp4", ".m4v", ".mov")


class Encoder(Protocol):
    """Encodes frames of one size."""

    codec: str

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Encode a frame; `time_s` counts from the first frame and rises."""

    def finish(self) -> int:
        """Close the file; return how many frames it holds."""

    def abandon(self) -> None:
        """Close the file and ignore errors: it is not wanted."""


# A longer pause would fill a file of constant rate with repeated frames: an hour needs 90,000.
LONGEST_PAUSE_S = 60


class OpenCVEncoder:
    """OpenCV's writer. In MP4 files times are exact; elsewhere a frame is held until the next is due.

    Attributes
    ----------
    left_out_s
        Seconds left out of pauses longer than a minute, if frames are held.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], rate: Fraction) -> None:
        self.codec = CODECS[path.suffix.lower()]
        self._path, self._rate = path, rate
        self._exact = path.suffix.lower() in _INDEXED
        self._times_s = array("d")
        self._slots = 0
        self.left_out_s = 0.0
        self._last: NDArray[np.uint8] | None = None
        # OpenCV would not say why the file cannot be written.
        path.touch()
        code = cv2.VideoWriter.fourcc(*self.codec)
        # For each .webm file OpenCV prints on stderr that it has no tag for VP8, which does no harm.
        with quiet() if path.suffix.lower() == ".webm" else nullcontext():
            self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, float(rate), size_wh)
        if not self._writer.isOpened():
            width, height = size_wh
            what = f"{self.codec} of {width}x{height} pixels to a {path.suffix} file"
            raise SinkError(f"OpenCV cannot write {what}")

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Encode a frame, after repetitions of the one before if the format needs them."""
        if self._last is not None:
            pause_s = time_s - self.left_out_s - float(self._slots / self._rate)
            self.left_out_s += max(0.0, pause_s - LONGEST_PAUSE_S)
            for _ in range(round((time_s - self.left_out_s) * self._rate) - self._slots):
                raise_if_stopped()
                self._writer.write(self._last)
                self._slots += 1
        self._writer.write(image)
        self._times_s.append(time_s)
        self._slots += 1
        if not self._exact:
            self._last = image.copy()  # The caller may change its own array later.

    def finish(self) -> int:
        """Close the file; return how many frames it holds."""
        self._writer.release()
        if self._exact:
            set_frame_times(self._path, self._times_s, self._rate)
        return self._slots

    def abandon(self) -> None:
        """Close the file and ignore errors: it is not wanted."""
        self._writer.release()


def wrong_codec(suffix: str, codec: str | None, use_av: bool | None = None) -> str:
    """Return why a video with this ending cannot have this codec; "" if it can.

    `use_av` is whether PyAV encodes; None: if it is installed.
    """
    if codec not in (None, "h264", "mp4v"):
        raise ValueError(f'codec must be "h264" or "mp4v", got {codec!r}')
    if codec is not None and suffix not in CODECS:
        return f"a codec is for videos: {' '.join(CODECS)}"
    if codec == "h264" and suffix not in AV_SUFFIXES:
        return f"H.264 goes into {' '.join(AV_SUFFIXES)}"
    if codec == "h264" and not (has_av() if use_av is None else use_av):
        return f"H.264 needs PyAV: {AV_CURE}"
    if codec == "mp4v" and suffix == ".webm":
        return f"mp4v goes into {' '.join((*AV_SUFFIXES, '.avi'))}"
    return ""
