"""PyAV's captures, for what OpenCV cannot turn into pictures: interlaced video, and rare colour matrices.

From 4.13 on, OpenCV's FFmpeg converts neither. `retrieve` says that it did, and gives memory that nobody wrote.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError, install
from cvmask.streams.sources.http import without_password
from cvmask.system.interrupts import uninterrupted
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
    """A video whose frames nothing at hand can convert; no further attempt helps."""


@uninterrupted()
def find_av() -> Any:
    """Give PyAV, 15 or newer; None where it is not installed."""
    try:
        av = importlib.import_module("av")
    except ImportError:
        return None
    return av if hasattr(av.VideoFrame, "duration") else None


def interlaced_or_rare(address: str, skip: int = 0, from_s: float = 0.0) -> str:
    """Say with PyAV why OpenCV cannot convert a video's frames; "" if it can, or it is no video.

    Looks at a few, behind so many frames, or from a time in the file's own count on.
    """
    av = find_av()
    if av is None:
        return ""
    try:
        with _opened(av, address) as container:
            track = _track(container)
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
    """Say why OpenCV did not write frames of a video there; "" if it did.

    Without PyAV only FFmpeg's log tells, and it goes to stderr of the whole process: another process reads there.
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
    matrix = int(frame.colorspace)
    return f"of colour matrix {matrix}" if matrix == _YCGCO or matrix in _RARE_MATRICES else ""


class AvCapture:
    """A file or address, with the methods that are used of ``cv2.VideoCapture``.

    Interlaced frames become progressive ones, as many as there were (FFmpeg's bwdif, ``send_frame``); frames are
    turned and mirrored as the display matrix says. `release` waits for the call that goes on.
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
        except SourceError:
            self._container.close()
            raise
        self._track.thread_type = "AUTO"
        self._matrix = (1, 0, 0, 1)
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
            shape = self._track.sample_aspect_ratio or 1
            known: dict[int, Any] = {
                cv2.CAP_PROP_FRAME_WIDTH: size[0],
                cv2.CAP_PROP_FRAME_HEIGHT: size[1],
                cv2.CAP_PROP_FPS: self._track.average_rate or self._track.guessed_rate or 0,
                cv2.CAP_PROP_FRAME_COUNT: self._track.frames,
                cv2.CAP_PROP_POS_MSEC: 1000 * ((self._frame.time if self._frame is not None else 0) or 0),
                cv2.CAP_PROP_SAR_NUM: getattr(shape, "numerator", 1),
                cv2.CAP_PROP_SAR_DEN: getattr(shape, "denominator", 1),
            }
            return float(known.get(what, 0))

    def set(self, what: int, value: float) -> bool:
        """Refuse: it goes from the first frame to the last."""
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
        """Convert it; UnreadableError if its colours are none that can be converted."""
        with self._lock:
            if self._closed or self._frame is None:
                return False, None
            return True, _upright(_bgr(self._frame, self._name), self._matrix)

    def release(self) -> None:
        """Close it."""
        with self._lock:
            self._closed = True
            self._frame = self._ahead = None
            self._frames.close()
            self._container.close()

    def _decoded(self) -> Iterator[Any]:
        """Yield every frame; what is damaged is passed over."""
        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except self._av.error.InvalidDataError:
                continue
            except (self._av.FFmpegError, EOFError):
                return

    def _filtered(self) -> Generator[Any, None, None]:
        graph: Any = None
        shape: Any = None
        for frame in self._decoded():
            self._matrix = _display_matrix(frame)
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


def _track(container: Any) -> Any:
    for track in container.streams.video:
        disposition = getattr(track.disposition, "value", track.disposition)  # a Flag, which is no int, up to PyAV 15
        if not disposition & _COVER:
            return track
    raise SourceError("no video track")


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Give where a frame's x and y axes point, rounded to right angles: the four corners of its 3x3 matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.sign(np.frombuffer(bytes(data), np.int32)[:5].astype(np.int64)).tolist()
    turned = (a == 0 and d == 0 and b and c) or (b == 0 and c == 0 and a and d)
    return (a, b, c, d) if turned else (1, 0, 0, 1)


def _upright(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Lay the picture as the matrix says: x of the screen is a x + c y, y is b x + d y."""
    a, b, c, d = matrix
    if a == 0:
        image, (across, down) = image.transpose(1, 0, 2), (c, b)
    else:
        across, down = a, d
    return np.ascontiguousarray(image[::down, ::across])


def _bgr(frame: Any, name: str) -> NDArray[np.uint8]:
    matrix = int(frame.colorspace)
    picture: NDArray[np.uint8]
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
