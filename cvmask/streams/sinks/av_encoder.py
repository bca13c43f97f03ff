"""PyAV as encoder: H.264 or MPEG-4 part 2, the sound of the source, exact times in every container."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.streams.sinks.av_file import AvFile
from cvmask.streams.sinks.background import Background
from cvmask.streams.sinks.mp4 import ticks_a_second
from cvmask.streams.sinks.sound import Sound
from cvmask.streams.sinks.yuv import to_i420_
from cvmask.system.uninterrupted import uninterrupted

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
# What `to_i420_` makes; of large pictures players guess BT.709, unless all four are there.
_COLORS = {
    "colorspace": "smpte170m",
    "color_primaries": "bt709",
    "color_trc": "bt709",
    "color_range": "tv",
}
_H264 = {"crf": "20", "preset": "veryfast", **_COLORS}
_MPEG4 = {"qmin": "3", "qmax": "3", "g": "50", **_COLORS}
# How far a frame's time may lie behind its place in an MP4 file is a few such steps, where frames are out of order:
# FFmpeg has 31 bits for it, and up to 7 does not believe more than 28 of them when it reads.
_LONGEST_TICKS = 1 << 25


class AvEncoder:
    """H.264 or MPEG-4 part 2 (`codec` "h264", "mp4v"), with the sound of `audio_from` from `audio_start_s` on.

    A frame is encoded in a thread of its own while the next one is made; what goes wrong there is raised
    by the next call. Errors of FFmpeg are OSError, or SinkError where it does not know the format.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        rate: Fraction,
        codec: str = "h264",
        audio_from: str | None = None,
        audio_start_s: float = 0.0,
    ) -> None:
        self._av = importlib.import_module("av")
        self.codec = codec
        self._scale = ticks_a_second(rate)
        # MPEG-4 counts ticks in 16 bits and seconds in single ones: there the container alone knows the times.
        self._knows_times = codec == "h264"
        self._count, self._ticks, self._end_s = 0, -1, 0.0
        self._container: Any = None
        self._last: Any = None
        self._file = AvFile(path)
        self._sound: Sound | None = None
        self._background = Background("cvmask-encode")
        try:
            self._open(size_wh, rate, audio_from, audio_start_s)
        except BaseException:
            with suppress(OSError):
                self.abandon()
            raise

    def _open(self, size_wh: tuple[int, int], rate: Fraction, audio_from: str | None, audio_start_s: float) -> None:
        self._container = self._av.open(self._file, "w")
        self._stream = self._container.add_stream(_encoder_of(self._av, self.codec), rate=rate)
        self._stream.width, self._stream.height = size_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _H264 if self.codec == "h264" else _MPEG4
        self._stream.time_base = Fraction(1, self._scale)
        self._stream.codec_context.time_base = Fraction(1, self._scale if self._knows_times else 25)
        self._duration = round(self._scale / rate)
        if audio_from:
            self._sound = Sound(self._av, audio_from, self._container, audio_start_s)
        try:
            self._container.start_encoding()
        except OSError:
            raise
        except self._av.FFmpegError as error:
            what = f"{self.codec} of {size_wh[0]}x{size_wh[1]} pixels to a {Path(self._file.name).suffix} file"
            raise SinkError(f"FFmpeg cannot write {what}: {error.strerror}") from None

    @property
    def lost_sound(self) -> str:
        """Why the sound that there is, is not copied; nothing if all is well."""
        return "" if self._sound is None else self._sound.lost

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Have a frame encoded, and the sound up to it copied."""
        frame = self._av.VideoFrame(image.shape[1], image.shape[0], "yuv420p")
        to_i420_(image, *map(_as_array, frame.planes))
        self._background.hand(lambda: self._encode(frame, time_s))

    def finish(self) -> int:
        """Close the file; how many frames it holds."""
        try:
            self._background.wait()
            with self._os_errors():
                self._container.mux(self._stream.encode(None))
                if self._sound:
                    self._sound.copy_until(self._end_s)
        finally:
            self.abandon()
        return self._count

    def abandon(self) -> None:
        """Close the file without caring what is in it."""
        self._background.end()
        with ExitStack() as stack:
            stack.callback(self._file.close)
            if self._sound:
                stack.callback(self._sound.close)
            if self._container is not None:
                stack.enter_context(self._os_errors())
                self._container.close()

    def _encode(self, frame: Any, time_s: float) -> None:
        ticks = max(round(time_s * self._scale), self._ticks + 1)
        with self._os_errors():
            while self._last is not None and ticks - self._ticks > _LONGEST_TICKS:
                self._put(self._last, self._ticks + _LONGEST_TICKS)
            self._put(frame, ticks)
            if self._sound:
                self._sound.copy_until(time_s)
        self._last = frame
        self._end_s = time_s + self._duration / self._scale

    def _put(self, frame: Any, ticks: int) -> None:
        frame.time_base = self._stream.codec_context.time_base
        frame.pts = ticks if self._knows_times else self._count
        frame.duration = self._duration if self._knows_times else 1
        for packet in self._stream.encode(frame):
            if not self._knows_times:  # one for each frame, at once
                packet.pts = packet.dts = ticks
                packet.duration, packet.time_base = self._duration, Fraction(1, self._scale)
            self._container.mux(packet)
        self._count, self._ticks = self._count + 1, ticks

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            raise self._file.error or OSError(error.errno, error.strerror) from None


def _as_array(plane: Any) -> NDArray[np.uint8]:
    """What PyAV encodes, to be written to: uint8, shape (height, width) of the plane, rows further apart."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


@uninterrupted()  # An import of PyAV that was broken off cannot be made good in the same process.
def has_av() -> bool:
    """Tell whether PyAV 15 or newer is installed, and can encode H.264."""
    try:
        av = importlib.import_module("av")
        _encoder_of(av, "h264")
    except (ImportError, SinkError):
        return False
    return hasattr(av.VideoFrame, "duration")


def _encoder_of(av: Any, codec: str) -> str:
    if codec == "mp4v":
        return "mpeg4"
    for name in ("libx264", "libopenh264"):
        try:
            av.codec.Codec(name, "w")
        except Exception:  # PyAV's own error class moved between its versions.
            continue
        return name
    raise SinkError("this PyAV has no encoder for H.264")
