"""Animated pictures, GIF and WebP, by PyAV: whole or not at all, with every frame at its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.av_encoder import AvFile
from cvmask.streams.sinks.sink import Background, Clock, Sink
from cvmask.streams.sinks.video_sink import DEFAULT_RATE, fit
from cvmask.streams.sources.av_capture import AV_CURE, find_av
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.system.files import whole_path
from cvmask.system.interrupts import deferred_signals

# By ending: FFmpeg's encoder, ticks a second of the format's clock, the fewest ticks of a frame, the longest side.
# If a GIF says 0.01 s or less for a frame, browsers show it for 0.1 s.
_FORMATS = {".gif": ("gif", 100, 2, 65535), ".webp": ("libwebp_anim", 1000, 1, 16383)}
SUFFIXES = tuple(_FORMATS)


class Animation(Sink):
    """An animated GIF or WebP that repeats for ever, of the size of the first frame; others are fitted into it.

    Each frame lasts until the next one, in a GIF to 1/100 s, in a WebP to 1/1000 s. A GIF has a palette of its own
    for each frame. WebP is lossy. PyAV encodes in a thread of its own.

    Parameters
    ----------
    path
        Ends in .gif or .webp. It appears when `close` returns.
    frame_rate
        Frames a second: how long the last frame of a GIF lasts, and when frames without a time are due.
    on_message
        Called with one line: a GIF leaves out frames that come less than 1/50 s after another.

    Raises
    ------
    SinkError
        If the ending is another, PyAV is not installed, or the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_rate: Fraction | None = None,
        on_message: Notify = ignore,
    ) -> None:
        self.name = os.fspath(path)
        if Path(self.name).suffix.lower() not in SUFFIXES:
            raise SinkError(f"{self.name}: an animated picture ends in one of {' '.join(SUFFIXES)}")
        if find_av() is None:
            raise SinkError(f"{self.name}: an animated picture needs PyAV: {AV_CURE}")
        self._rate = frame_rate or DEFAULT_RATE
        self._notify = on_message
        self._clock = Clock(self._rate)
        self._encoder: _Encoder | None = None
        self._size_wh = (0, 0)
        self._closed = False
        self._stack = ExitStack()

    @deferred_signals()
    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Encode one frame; TypeError or ValueError if it is none."""
        if self._closed:
            raise SinkError(f"{self.name} is closed: no frame can follow")
        image = check_frame(image)
        with self._told():
            if self._encoder is None:
                self._size_wh = self._checked(image.shape[1], image.shape[0])
                with self._stack:
                    part = Path(self._stack.enter_context(whole_path(self.name)))
                    self._encoder = _Encoder(part, self._size_wh, self._rate)
                    self._stack = self._stack.pop_all()
            self._encoder.add(fit(image, self._size_wh), self._clock.time(frame))

    @deferred_signals()
    def close(self) -> None:
        """Finish the file and give it its name; no file appears if no frame came."""
        encoder, self._encoder, self._closed = self._encoder, None, True
        if encoder is None:
            return
        with self._told(), self._stack:
            encoder.finish()
        if encoder.left_out:
            self._notify(f"{self.name}: {encoder.left_out} frames left out: a GIF shows at most 50 a second")

    @deferred_signals()
    def discard(self) -> None:
        """End without a file."""
        encoder, self._encoder, self._closed = self._encoder, None, True
        if encoder is not None:
            with suppress(OSError, _Discarded), self._stack:
                encoder.abandon()
                raise _Discarded

    def _checked(self, width: int, height: int) -> tuple[int, int]:
        suffix = Path(self.name).suffix.lower()
        longest = _FORMATS[suffix][3]
        if max(width, height) > longest:
            raise SinkError(f"{self.name}: a {suffix} has sides of at most {longest} pixels, got {width}x{height}")
        return width, height

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"{self.name} cannot be written: {error.strerror or error}") from None


class _Discarded(Exception):
    """Tells `whole_path` that the file is not wanted."""


class _Encoder:
    """Encodes frames of one size; errors of FFmpeg are OSError."""

    def __init__(self, path: Path, size_wh: tuple[int, int], rate: Fraction) -> None:
        codec, self._scale, self._least, _ = _FORMATS[path.suffix.lower()]
        self.left_out = 0
        self._ticks = -self._least
        self._av: Any = find_av()
        self._container: Any = None
        self._file = AvFile(path)
        self._background = Background("cvmask-animation")
        options = {"loop": "0"}
        if codec == "gif":
            options["final_delay"] = str(max(self._least, round(self._scale / rate)))
        try:
            with self._os_errors():
                form = path.suffix[1:].lower()
                self._container = self._av.open(self._file, "w", format=form, container_options=options)
                self._stream = self._container.add_stream(codec, rate=self._scale)
                self._stream.width, self._stream.height = size_wh
                self._stream.pix_fmt = "pal8" if codec == "gif" else "bgra"
                self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, self._scale)
                self._graph: Any = self._palettes(size_wh) if codec == "gif" else None
                self._container.start_encoding()
        except BaseException:
            with suppress(OSError):
                self.abandon()
            raise

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Encode a frame; `time_s` counts from the first frame and rises."""
        ticks = round(time_s * self._scale)
        if ticks - self._ticks < self._least:
            self.left_out += 1
            return
        self._ticks = ticks
        form = "bgra" if self._graph is None else "bgr24"
        frame = self._av.VideoFrame.from_ndarray(
            cv2.cvtColor(image, cv2.COLOR_BGR2BGRA) if self._graph is None else np.ascontiguousarray(image), form
        )
        frame.pts, frame.time_base = ticks, Fraction(1, self._scale)
        self._background.hand(lambda: self._encode(frame))

    def finish(self) -> None:
        """Close the file."""
        try:
            self._background.wait()
            self._encode(None)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file and ignore errors: it is not wanted."""
        self._background.end()
        with ExitStack() as stack:
            stack.callback(self._file.close)
            if self._container is not None:
                stack.enter_context(self._os_errors())
                self._container.close()

    def _encode(self, frame: Any) -> None:
        """Encode a frame; None: what is left."""
        with self._os_errors():
            for ready in [frame] if self._graph is None else self._with_palette(frame):
                self._container.mux(self._stream.encode(ready))
            if frame is None and self._graph is not None:
                self._container.mux(self._stream.encode(None))

    def _palettes(self, size_wh: tuple[int, int]) -> Any:
        """Make the filters that find 256 colours for each frame."""
        graph = self._av.filter.Graph()
        width, height = size_wh
        source = graph.add_buffer(width=width, height=height, format="bgr24", time_base=Fraction(1, self._scale))
        both, find = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        use, end = graph.add("paletteuse", "new=1"), graph.add("buffersink")
        source.link_to(both)
        both.link_to(use, 0, 0)
        both.link_to(find, 1, 0)
        find.link_to(use, 0, 1)
        use.link_to(end)
        graph.configure()
        return graph

    def _with_palette(self, frame: Any) -> Iterator[Any]:
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()
            except (BlockingIOError, EOFError):
                return

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            raise self._file.error or OSError(error.errno, error.strerror) from None
