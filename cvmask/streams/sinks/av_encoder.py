"""PyAV as encoder: H.264 or MPEG-4 part 2, the sound of the source, exact times in every container."""

from __future__ import annotations

import errno
import importlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.streams.sinks.mp4 import ticks_a_second
from cvmask.streams.sinks.sink import Background
from cvmask.streams.sources.http import without_password
from cvmask.system.interrupts import deferred_signals


class AvFile(io.BufferedWriter):
    """A new file for PyAV to write to: a file that PyAV opens itself stays open for ever on a full disk.

    Attributes
    ----------
    error
        The last error, which PyAV itself does not report.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path), "wb"))
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write. An error is kept and returned as FFmpeg does, as its negative number."""
        return self._noting(super().write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Flush and seek; errors are returned in the same way."""
        return self._noting(super().seek, offset, whence)

    def _noting(self, call: Callable[..., int], *arguments: Any) -> int:
        try:
            return call(*arguments)
        except OSError as error:
            self.error = error
            return -(error.errno or errno.EIO)


# Rec. ITU-R BT.601: what luma is of blue, green and red; colour differences from 16 to 240.
_LUMA_BGR = np.array([0.114, 0.587, 0.299])
_SPAN = 224 / 255
# OpenCV shares more pixels than these out among its threads, which then wait for more by keeping a core busy:
# in a loop that has work for all cores the conversion takes twice the CPU time so.
_BAND_PIXELS = 1 << 16

Plane = NDArray[np.uint8]


def _shares(channel: int) -> list[float]:
    """Return the weights of blue, green and red in the difference of one of them from the luma."""
    difference = np.eye(3)[channel] - _LUMA_BGR
    shares: list[float] = (difference / (1 - _LUMA_BGR[channel]) / 2 * _SPAN).tolist()
    return shares


_U, _V = _shares(0), _shares(2)


def to_i420_(image: NDArray[np.uint8], y: Plane, u: Plane, v: Plane) -> None:
    """Convert as BT.601 says, in its limited range; the colour of four pixels is that of their mean.

    OpenCV's own conversion takes the colour of every second pixel of every second row, and a line of two
    pixels loses it in places.

    Parameters
    ----------
    image
        BGR, shape (height, width, 3), both sides even.
    y
        Takes the luma, shape (height, width).
    u, v
        Take the colour, shape (height / 2, width / 2) each.
    """
    height, width = image.shape[:2]
    rows = max(_BAND_PIXELS // width // 2 * 2, 2)
    luma = np.empty((rows * 3 // 2, width), np.uint8)
    small = np.empty((height // 2, width // 2, 3), np.uint8)
    for top in range(0, height, rows):
        band = image[top : top + rows]
        count = len(band)
        cv2.cvtColor(band, cv2.COLOR_BGR2YUV_I420, dst=luma[: count * 3 // 2])
        y[top : top + count] = luma[:count]
        means = small[top // 2 : (top + count) // 2]
        cv2.resize(band, means.shape[1::-1], dst=means, interpolation=cv2.INTER_AREA)
    blue, green, red = cv2.split(small)
    for plane, share in ((u, _U), (v, _V)):
        most = cv2.addWeighted(blue, share[0], green, share[1], 128)
        cv2.addWeighted(most, 1, red, share[2], 0, dst=plane)


# For a server: how long opening, and each read, may take.
_TIMEOUT_S = 10.0
_JUMP_S = 0.5  # times that go back by more are another file's


@dataclass
class _Track:
    """One track of sound: where it goes, where the output's zero lies in its times, and up to when it is copied."""

    target: Any
    start_s: float
    end_s: float = -math.inf


class Sound:
    """Copies the audio tracks of a file, or of a video at an address, packet by packet, from `start_s` on.

    `start_s` counts from the first picture, which need not be where the file's own times begin. Tracks keep their
    language, and the default track stays the default.

    Attributes
    ----------
    lost
        Why some sound is not copied; "" if there is none, or all of it is copied.
    """

    def __init__(self, av: Any, path: str, target: Any, start_s: float) -> None:
        self._av, self._target = av, target
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self._tracks: dict[int, _Track] = {}
        self._input: Any = None
        self.lost = ""
        try:
            start_s += _first_picture_s(av, path)
            self._input = _opened(av, path)
        except av.FFmpegError as error:
            self.lost = f"FFmpeg cannot read {without_password(path)}: {error.strerror}"
            return
        sources = self._input.streams.audio
        for source in sources:
            if _holds(av, target.format.name, source):
                self._tracks[source.index] = _Track(_like(target, source), start_s)
        missing = len(sources) - len(self._tracks)
        if missing:
            whose = "its codec" if len(sources) == 1 else f"the codec of {missing} of {len(sources)} tracks"
            self.lost = f"a {Path(target.name).suffix} file cannot hold {whose}"
        if self._tracks:
            wanted = [source for source in sources if source.index in self._tracks]
            self._packets = (packet for packet in self._read(av, wanted) if packet.pts is not None)

    @property
    def copies(self) -> bool:
        """Whether any track is copied."""
        return bool(self._tracks)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that begin before this time of the output."""
        while True:
            packet = self._held if self._held is not None else next(self._packets, None)
            self._held = packet
            if packet is None:
                return
            track = self._tracks[packet.stream.index]
            start_s = float(packet.pts * packet.time_base) - track.start_s
            if track.end_s - start_s > _JUMP_S:  # as in joined files: the pictures go on, and so does the sound
                track.start_s -= track.end_s - start_s
                start_s = track.end_s
            if start_s > time_s:
                return
            self._held = None
            if start_s >= 0:
                shift = round(track.start_s / packet.time_base)
                packet.pts -= shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = track.target
                track.end_s = start_s + float((packet.duration or 0) * packet.time_base)
                self._mux(packet, start_s)

    def _mux(self, packet: Any, start_s: float) -> None:
        """Write a packet; one that the format refuses, such as damaged sound, is left out."""
        try:
            self._target.mux(packet)
        except self._av.FFmpegError as error:
            if error.errno != errno.EINVAL and not isinstance(error, self._av.error.InvalidDataError):
                raise
            if not self.lost:
                self.lost = f"damaged parts from {start_s:.1f} s on are left out ({error.strerror})"

    def _read(self, av: Any, sources: Sequence[Any]) -> Iterator[Any]:
        try:
            yield from self._input.demux(*sources)
        except av.FFmpegError as error:  # such as a lost server: the pictures are kept
            self.lost = f"FFmpeg cannot read on: {error.strerror}"

    def close(self) -> None:
        """Close the file that the sound comes from."""
        if self._input is not None:
            self._input.close()


def _like(target: Any, source: Any) -> Any:
    """Add a track with the language and the default flag of the source's track."""
    track = target.add_stream_from_template(source)
    if "language" in source.metadata:
        track.metadata["language"] = source.metadata["language"]
    with suppress(AttributeError, ValueError, TypeError):  # some versions of PyAV can only read it
        track.disposition = getattr(source.disposition, "value", source.disposition)  # a Flag to 15
    return track


def _holds(av: Any, format_name: str, track: Any) -> bool:
    """Return whether a format takes this track, by writing a header: FFmpeg's own list is not reliable."""
    try:
        with av.open(io.BytesIO(), "w", format=format_name) as trial:
            trial.add_stream_from_template(track)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def _first_picture_s(av: Any, path: str) -> float:
    """Return the time of the first picture that can be decoded, in the file's own time; 0 if the file has no times.

    Recordings of a broadcast begin between key frames: up to the first one there are packets, and no picture.
    """
    with _opened(av, path) as container, suppress(av.FFmpegError):
        for frame in container.decode(container.streams.video[0]) if container.streams.video else ():
            if frame.time is not None:
                return float(frame.time)
    return 0.0


def _opened(av: Any, path: str) -> Any:
    if path.startswith(("http://", "https://")):
        return av.open(path, timeout=_TIMEOUT_S)
    return av.open(os.path.abspath(path))  # a colon in it would name a protocol


SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
# The format that `to_i420_` makes. Without all four, players guess BT.709 for large pictures.
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

    A `live` file that is cut off anywhere still plays, up to its last seconds; once finished, it is an ordinary file.
    A frame is encoded in a thread of its own while the next one is made; the next call raises an error of that
    thread. Errors of FFmpeg are OSError, or SinkError if it does not know the format.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        rate: Fraction,
        codec: str = "h264",
        audio_from: str | None = None,
        audio_start_s: float = 0.0,
        live: bool = False,
    ) -> None:
        self._live, self._flushed_s = live, 0.0
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
        options = _playable(self._av, Path(self._file.name).suffix) if self._live else {}
        self._container = self._av.open(self._file, "w", container_options=options)
        self._stream = self._container.add_stream(_encoder_of(self._av, self.codec), rate=rate)
        self._stream.width, self._stream.height = size_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = dict(_H264 if self.codec == "h264" else _MPEG4)
        if self._live:
            self._stream.options |= {"g": str(max(1, round(_LOST_S * rate))), "bf": "0"}
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
        """Which sound is not copied, and why, such as " in full: ..."; "" if all is copied."""
        if self._sound is None or not self._sound.lost:
            return ""
        return f"{' in full' if self._sound.copies else ''}: {self._sound.lost}"

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Encode a frame, and copy the sound up to it."""
        frame = self._av.VideoFrame(image.shape[1], image.shape[0], "yuv420p")
        to_i420_(image, *map(_as_array, frame.planes))
        self._background.hand(lambda: self._encode(frame, time_s))

    def finish(self) -> int:
        """Close the file; return how many frames it holds."""
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
        """Close the file and ignore errors: it is not wanted."""
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
            if self._live and time_s - self._flushed_s > 1:
                self._file.flush()
                self._flushed_s = time_s
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


_LOST_S = 2  # a recording that is cut off loses at most about this much


def _playable(av: Any, suffix: str) -> dict[str, str]:
    """Return the options for a file that plays wherever it is cut off: fragments, or clusters."""
    if suffix == ".mkv":
        return {"cluster_time_limit": str(1000 * _LOST_S), "flush_packets": "1"}
    if av.library_versions["libavformat"] < (61, 7):
        return {}
    flags = "+hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof"
    return {"movflags": flags, "frag_duration": str(1_000_000 * _LOST_S)}


def _as_array(plane: Any) -> NDArray[np.uint8]:
    """Return a plane of PyAV's frame as an array to write to: uint8, shape (height, width), with padded rows."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


@deferred_signals()  # An interrupted import of PyAV cannot be repaired in the same process.
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
