"""PyAV as encoder: H.264, the sound of the source, exact times in every container."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.sinks.mp4_times import ticks_a_second
from cvmask.uninterrupted import uninterrupted

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


class AvEncoder:
    """H.264, with the sound of `audio_from` from `audio_start_s` on."""

    codec = "H.264"

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        rate: Fraction,
        audio_from: str | None = None,
        audio_start_s: float = 0.0,
    ) -> None:
        av = importlib.import_module("av")
        self._scale = ticks_a_second(rate)
        self._count = 0
        self._end_s = 0.0
        self._av = av
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(_h264(av), rate=rate)
        self._stream.width, self._stream.height = size_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, self._scale)
        self._stream.options = {"crf": "20", "preset": "veryfast"}
        self._last_duration = round(self._scale / rate)
        self._sound = Sound(av, audio_from, self._container, audio_start_s) if audio_from else None

    @property
    def lost_sound(self) -> bool:
        """Whether there was sound that this kind of file cannot hold."""
        return self._sound is not None and self._sound.lost

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Encode a frame, and copy the sound up to it."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        frame.pts = round(time_s * self._scale)
        frame.duration = self._last_duration
        frame.time_base = Fraction(1, self._scale)
        self._container.mux(self._stream.encode(frame))
        if self._sound:
            self._sound.copy_until(time_s)
        self._count += 1
        self._end_s = time_s + self._last_duration / self._scale

    def finish(self) -> int:
        """Close the file; how many frames it holds."""
        self._container.mux(self._stream.encode(None))
        if self._sound:
            self._sound.copy_until(self._end_s)
        self.abandon()
        return self._count

    def abandon(self) -> None:
        """Close the file without caring what is in it."""
        try:
            self._container.close()
        finally:
            if self._sound:
                self._sound.close()


class Sound:
    """Copies the first audio track of a file, packet by packet, from `start_s` on."""

    def __init__(self, av: Any, path: str, target: Any, start_s: float) -> None:
        self._target, self._start_s = target, start_s
        self._input = av.open(path)
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self.lost = False
        if self._input.streams.audio:
            source = self._input.streams.audio[0]
            try:
                self._stream = target.add_stream_from_template(source)
            except (ValueError, av.FFmpegError):
                self.lost = True
                return
            self._packets = (packet for packet in self._input.demux(source) if packet.pts is not None)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that begin before this time of the output."""
        while True:
            packet = self._held if self._held is not None else next(self._packets, None)
            self._held = packet
            if packet is None:
                return
            start_s = float(packet.pts * packet.time_base) - self._start_s
            if start_s > time_s:
                return
            self._held = None
            if start_s >= 0:
                shift = round(self._start_s / packet.time_base)
                packet.pts -= shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = self._stream
                self._target.mux(packet)

    def close(self) -> None:
        """Close the file that the sound comes from."""
        self._input.close()


@uninterrupted()  # An import of PyAV that was broken off cannot be made good in the same process.
def has_av() -> bool:
    """Tell whether PyAV is installed, and can encode H.264."""
    try:
        _h264(importlib.import_module("av"))
    except (ImportError, SinkError):
        return False
    return True


def _h264(av: Any) -> str:
    for name in ("libx264", "libopenh264"):
        try:
            av.codec.Codec(name, "w")
        except Exception:  # PyAV's own error class moved between its versions.
            continue
        return name
    raise SinkError("this PyAV has no encoder for H.264")
