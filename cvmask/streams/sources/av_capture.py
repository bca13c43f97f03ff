"""PyAV's captures, for what OpenCV cannot turn into pictures: interlaced video, rare colour matrices, transparency.

From 4.13 on, OpenCV's FFmpeg cannot convert the first two. `retrieve` reports success and returns uninitialised
memory.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError, install
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.shape import (
    UPRIGHT,
    Matrix,
    aspect_of,
    is_mirrored,
    laid_on_white,
    laid_upright,
    right_angles,
    square_size,
    squared,
)
from cvmask.system.interrupts import deferred_signals
from cvmask.system.process import python_program

AV_CURE = install("av")
# AVCOL_SPC of FFmpeg, ITU-T H.273: what swscale does not convert.
_YCGCO = 8
# Matrices 10, 12 and 13 are near 9 (BT.2020) and, with its primaries, 1 (BT.709): constant luminance aside.
_LIKE = {10: 9, 12: 1, 13: 1}
_RARE_MATRICES = range(10, 16)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC
_OPEN_TIMEOUT_S = 10.0
_PROBED_FRAMES = 3
_PROBE_S = 30.0
_SLOWEST_DECODER = 20  # frames a second


class UnreadableError(SourceError):
    """A video whose frames no installed library can convert; retrying does not help."""


@deferred_signals()
def find_av() -> Any:
    """Return PyAV, 15 or newer; None if it is not installed."""
    try:
        av = importlib.import_module("av")
    except ImportError:
        return None
    return av if hasattr(av.VideoFrame, "duration") else None


def interlaced_or_rare(address: str, skip: int = 0, from_s: float = 0.0) -> str:
    """Return why OpenCV cannot convert a video's frames, as PyAV sees it; "" if it can, or if the file is no video.

    It checks a few frames after this many, or from a time on, in the file's own count.
    """
    av = find_av()
    if av is None:
        return ""
    try:
        with _opened(av, address) as container:
            track = _track(container)
            if _hides_alpha(track):
                return "transparent"
            track.thread_type = "AUTO"
            if from_s > 0:
                container.seek(int(from_s / track.time_base), stream=track)
            for index, frame in enumerate(container.decode(track)):
                if index >= skip and (why := _why(frame)):
                    return why
                if index >= skip + _PROBED_FRAMES and (from_s <= 0 or frame.time is None or frame.time > from_s):
                    break
    except (av.FFmpegError, SourceError):
        pass
    return ""


def unwritten(address: str, skip: int = 0, from_s: float = 0.0) -> str:
    """Return why OpenCV did not convert frames at that place of a video; "" if it did.

    Without PyAV only FFmpeg's log says so. It goes to stderr of the whole process, so another process reads the
    frames.
    """
    if find_av() is not None:
        return interlaced_or_rare(address, skip, from_s)
    python = python_program()
    if python is None:  # a frozen app would start itself
        return ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    command = [python, "-c", _PROBE, address, str(skip), repr(from_s * 1000), str(_PROBED_FRAMES)]
    limit_s = _PROBE_S + skip / _SLOWEST_DECODER
    try:
        answer = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    log = answer.stderr.decode("utf-8", "replace")
    if "Cannot convert interlaced" in log:
        return "interlaced"
    rare = re.search(r"swscaler.*Unsupported input[^>]*?csp:([\w-]+)", log)
    return f"of colour matrix {rare.group(1)}" if rare else ""


_PROBE = """
import sys, cv2
skip, from_ms, count = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG)
if from_ms > 0:
    capture.set(cv2.CAP_PROP_POS_MSEC, from_ms)
for _ in range(skip):
    capture.grab()
for _ in range(count):
    capture.grab() and capture.retrieve()
"""


def _why(frame: Any) -> str:
    if frame.interlaced_frame:
        return "interlaced"
    if is_mirrored(_display_matrix(frame)):
        return "mirrored"
    if _is_transparent(frame):
        return "transparent"
    matrix = int(frame.colorspace)
    return f"of colour matrix {matrix}" if matrix == _YCGCO or matrix in _RARE_MATRICES else ""


class AvCapture:
    """A file or address, with the methods of ``cv2.VideoCapture`` that cvmask uses.

    Interlaced frames become the same number of progressive ones (FFmpeg's bwdif, ``send_frame``). Frames are turned
    and mirrored as the display matrix says, get square pixels, and are laid on white where they are transparent.
    `release` waits for a running call.
    """

    def __init__(self, address: str, timeout_s: float | None = None) -> None:
        self._av = find_av()
        self._lock = threading.Lock()
        self._name = without_password(address)
        try:
            self._container = _opened(self._av, address, timeout_s)
        except self._av.FFmpegError as error:
            raise SourceError(f"{self._name}: no video that PyAV can open: {error.strerror}") from None
        try:
            self._track = _track(self._container)
        except SourceError as error:
            self._container.close()
            raise SourceError(f"{self._name}: {error}") from None
        self._track.thread_type = "AUTO"
        self._decoder = _alpha_decoder(self._av, self._track)
        self._matrix = UPRIGHT
        self._frame: Any = None
        self._ahead: Any = None
        self._closed = False
        self._frames = self._filtered()
        with suppress(self._av.FFmpegError):
            self._ahead = next(self._frames, None)

    @property
    def holds_frames(self) -> bool:
        """Whether a first frame could be decoded."""
        return self._ahead is not None

    def get(self, what: int) -> float:
        """Give a property, 0 if it has none."""
        with self._lock:
            if self._closed:
                return 0.0
            context = self._track.codec_context
            size = (context.width, context.height)
            if not self._matrix[0]:
                size = size[::-1]
            size = square_size(size, self._aspect())
            known: dict[int, Any] = {
                cv2.CAP_PROP_FRAME_WIDTH: size[0],
                cv2.CAP_PROP_FRAME_HEIGHT: size[1],
                cv2.CAP_PROP_FPS: self._track.average_rate or self._track.guessed_rate or 0,
                cv2.CAP_PROP_FRAME_COUNT: self._track.frames,
                cv2.CAP_PROP_POS_MSEC: 1000 * ((self._frame.time if self._frame is not None else 0) or 0),
            }
            return float(known.get(what, 0))

    def set(self, what: int, value: float) -> bool:
        """Return False: frames are only read in order, from the first to the last."""
        return False

    def grab(self) -> bool:
        """Go to the next frame."""
        with self._lock:
            if self._closed:
                return False
            self._frame, self._ahead = self._ahead, None
            if self._frame is None:
                self._frame = next(self._frames, None)
            return self._frame is not None

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Convert the frame; UnreadableError if its colours cannot be converted."""
        with self._lock:
            if self._closed or self._frame is None:
                return False, None
            image = laid_upright(_bgr(self._frame, self._name), self._matrix)
            return True, squared(image, self._aspect())

    def _aspect(self) -> Fraction:
        shape = self._track.sample_aspect_ratio or Fraction(1)
        return aspect_of(shape.numerator, shape.denominator, turned=not self._matrix[0])

    def release(self) -> None:
        """Close it."""
        with self._lock:
            self._closed = True
            self._frame = self._ahead = None
            self._frames.close()
            self._container.close()

    def _decoded(self) -> Iterator[Any]:
        """Yield every frame; damaged ones are skipped."""
        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode() if self._decoder is None else self._with_alpha(packet)
            except self._av.error.InvalidDataError:
                continue
            except (self._av.FFmpegError, EOFError):
                return

    def _with_alpha(self, packet: Any) -> Iterator[Any]:
        for frame in self._decoder.decode(packet if packet.size else None):
            frame.time_base = self._track.time_base
            yield frame

    def _filtered(self) -> Generator[Any, None, None]:
        graph: Any = None
        shape: Any = None
        for frame in self._decoded():
            self._matrix = _display_matrix(frame)
            if _is_transparent(frame):  # the filter would drop it
                yield frame
                continue
            if shape != (frame.width, frame.height, frame.format.name):
                if graph is not None:
                    yield from self._drained(graph)
                shape = (frame.width, frame.height, frame.format.name)
                graph = self._graph(frame)
            graph.push(frame)
            yield from self._waiting(graph)
        if graph is not None:
            yield from self._drained(graph)

    def _graph(self, frame: Any) -> Any:
        graph = self._av.filter.Graph()
        begin = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._track.time_base
        )
        graph.link_nodes(begin, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
        graph.configure()
        return graph

    def _drained(self, graph: Any) -> Iterator[Any]:
        graph.push(None)
        yield from self._waiting(graph)

    def _waiting(self, graph: Any) -> Iterator[Any]:
        while True:
            try:
                frame = graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            yield frame


def _opened(av: Any, address: str, timeout_s: float | None = None) -> Any:
    if "://" in address:
        limits = None if timeout_s is None else (max(timeout_s, _OPEN_TIMEOUT_S), timeout_s)
        return av.open(address, timeout=limits or _OPEN_TIMEOUT_S)
    return av.open(os.path.abspath(address))


def _hides_alpha(track: Any) -> bool:
    """Return whether alpha is stored beside the packets, as in VP8 and VP9: the usual decoder drops it."""
    return bool(track.metadata.get("alpha_mode") == "1")


def _alpha_decoder(av: Any, track: Any) -> Any:
    """Return a decoder that reads alpha; None if there is no alpha, or no such decoder."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(track.codec_context.name)
    if name is None or not _hides_alpha(track) or name not in av.codecs_available:
        return None
    return av.CodecContext.create(name, "r")


def _track(container: Any) -> Any:
    for track in container.streams.video:
        disposition = getattr(track.disposition, "value", track.disposition)  # a Flag, which is no int, up to PyAV 15
        if not disposition & _COVER:
            return track
    raise SourceError("holds no video; a cover is none")


def _display_matrix(frame: Any) -> Matrix:
    data = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if data is None else right_angles(np.frombuffer(bytes(data), np.int32))


def _is_transparent(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _bgr(frame: Any, name: str) -> NDArray[np.uint8]:
    matrix = int(frame.colorspace)
    picture: NDArray[np.uint8]
    if _is_transparent(frame):
        return laid_on_white(frame.to_ndarray(format="bgra"))
    if matrix == _YCGCO:
        return _from_ycgco(frame)
    if matrix in _LIKE:
        picture = frame.to_ndarray(format="bgr24", src_colorspace=_LIKE[matrix])
    elif matrix in _RARE_MATRICES:
        raise UnreadableError(f"{name}: of colour matrix {matrix}, which cannot be converted: save it as BT.709")
    else:
        picture = frame.to_ndarray(format="bgr24")
    return picture


def _from_ycgco(frame: Any) -> NDArray[np.uint8]:
    """Convert as ITU-T H.273 says for matrix 8, in the limited range unless the frame says full."""
    whole = frame.reformat(format="yuv444p", src_colorspace="itu709", dst_colorspace="itu709")  # only its colour grows
    luma, green, orange = whole.to_ndarray().astype(np.float32)
    if int(frame.color_range) != _FULL_RANGE:
        luma = (luma - 16) * np.float32(255 / 219)
        scale = np.float32(255 / 224)
    else:
        scale = np.float32(1)
    green, orange = (green - 128) * scale, (orange - 128) * scale
    rest = luma - green
    bgr = np.stack([rest - orange, luma + green, rest + orange], axis=-1)
    picture: NDArray[np.uint8] = np.clip(np.rint(bgr), 0, 255).astype(np.uint8)
    return picture
