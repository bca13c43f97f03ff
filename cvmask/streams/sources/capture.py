"""OpenCV's captures of files and addresses, which any thread may release at any time."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Callable, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.av_capture import (
    AV_CURE,
    AvCapture,
    UnreadableError,
    find_av,
    interlaced_or_rare,
    unwritten,
)
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.shape import (
    aspect_of,
    is_mirrored,
    laid_upright,
    mp4_matrix,
    square_size,
    squared,
)
from cvmask.system.files import wrong_name


class Left(Exception):
    """The thread that waited for a call must stop waiting."""


def _keep(result: Any) -> None:
    pass


class BlockingCalls:
    """Makes calls, one at a time, in a daemon thread, so that a waiting thread can stop waiting.

    OpenCV waits for a server until its timeout and ignores Ctrl-C and other threads. After `leave` the call goes on
    alone, releases its result and ends its thread; it delays neither the run nor the end of the program.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._work: Callable[[], Any] | None = None
        self._answer: tuple[Any, BaseException | None] | None = None
        self._busy = self._left = self._gone = False
        self._last: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="cvmask-errands", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Any], undo: Callable[[Any], None] = _keep) -> Any:
        """Make a call and give its result, or raise its error.

        `undo` is called with a result that comes when no thread waits for it any more. Raises `Left` if `leave` was
        called before or during the wait.
        """
        with self._changed:
            if self._left:
                raise Left
            self._work, self._undo, self._answer = work, undo, None
            self._busy = True
            self._changed.notify_all()
            try:
                while self._answer is None and not self._left:
                    # With a timeout, because Windows would not notice Ctrl-C without one.
                    self._changed.wait(1.0)
            except BaseException:
                self._left = True
                self._changed.notify_all()
                raise
            if self._answer is None:
                raise Left
            (result, error), self._answer = self._answer, None
        if error is not None:
            raise error
        return result

    def leave(self, last: Callable[[], None] | None = None) -> None:
        """Stop every wait; the first `last` is called after the running call. Any thread may call this."""
        with self._changed:
            first, self._last = self._last is None, self._last or last
            self._left = True
            self._changed.notify_all()
            waiting, gone = not self._busy, self._gone
        if waiting:
            self._thread.join()
        if gone and first and last is not None:  # an interrupt had stopped the wait before there was a `last`
            last()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work is not None or self._left)
                work, self._work = self._work, None
            if work is None:
                break
            self._make(work)
        with self._changed:
            self._gone, last = True, self._last
        if last is not None:
            last()

    def _make(self, work: Callable[[], Any]) -> None:
        answer: tuple[Any, BaseException | None]
        try:
            answer = work(), None
        except BaseException as error:
            answer = None, error
        with self._changed:
            unwanted = self._left
            self._answer, self._busy = None if unwanted else answer, False
            self._changed.notify_all()
        if unwanted and answer[1] is None:
            self._undo(answer[0])


# OpenCV gives the rate as a float; the rates that files state have far smaller denominators than this.
_MAX_DENOMINATOR = 30000
# Some containers state the ticks of their clock instead, such as 1000 or 60,000.
_HIGHEST_RATE = 240
_MEASURED_FRAMES = 32
# Many cameras take seconds until their first picture.
_OPEN_TIMEOUT_S = 10.0


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that cvmask uses; after `release` there are no more frames."""

    def get(self, what: int) -> float:
        """Give a property, 0 if it has none."""

    def grab(self) -> bool:
        """Go to the next frame."""

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Decode it."""

    def release(self) -> None:
        """Release the capture, from any thread."""


# Wheels from 4.13 on have a swscale that refuses interlaced frames, and OpenCV does not check for it.
_MAY_LEAVE_UNWRITTEN = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 13)


class _Written:
    """A ``cv2.VideoCapture`` that returns frames with square pixels, and none that OpenCV failed to convert.

    It goes on with PyAV where OpenCV fails. A failed conversion returns whatever was in memory: at first anything,
    later the frame before. So a frame that equals the one before is checked, and half as often after each check that
    found no fault.

    `retrieve` and `grab` raise UnreadableError where PyAV is not installed.
    """

    def __init__(self, capture: cv2.VideoCapture, address: str, timeout_s: float | None = None) -> None:
        self._capture: Any = capture
        self._address, self._timeout_s = address, timeout_s
        self._watched = _MAY_LEAVE_UNWRITTEN
        self._begun = self._sought = False
        self._first: list[tuple[bool, Any, float]] = []  # the first two, with their times in ms
        self._now: tuple[bool, Any, float] | None = None
        self._before: Any = None
        self._grabbed, self._equal, self._look_at = 0, 0, 1
        # OpenCV turns frames but does not mirror them.
        self._matrix = None if "://" in address else mp4_matrix(address)
        if self._matrix is not None and is_mirrored(self._matrix):
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        else:
            self._matrix = None
        self._aspect = self._aspect_said()

    def get(self, what: int) -> float:
        """Give a property."""
        if self._now is not None and what == cv2.CAP_PROP_POS_MSEC:
            return self._now[2]
        if what in _SIDES and not isinstance(self._capture, AvCapture):
            size = tuple(int(self._capture.get(side)) for side in _SIDES)
            size = size[::-1] if self._matrix is not None and not self._matrix[0] else size
            return float(square_size(cast("tuple[int, int]", size), self._aspect)[_SIDES.index(what)])
        return float(self._capture.get(what))

    def set(self, what: int, value: float) -> bool:
        """Change a property; whether that was possible."""
        if what == cv2.CAP_PROP_FORMAT:
            self._begun, self._watched = True, False  # encoded packets are no pictures
        elif what == cv2.CAP_PROP_POS_MSEC:
            self._sought = True
        return bool(self._capture.set(what, value))

    def grab(self) -> bool:
        """Go to the next frame."""
        if not self._begun:
            self._begin()
        if self._first:
            self._now = self._first.pop(0)
            return True
        self._now = None
        grabbed = bool(self._capture.grab())
        self._grabbed += grabbed
        return grabbed

    def retrieve(self) -> tuple[bool, Any]:
        """Decode it."""
        if self._now is not None:
            return self._now[:2]
        found, image = self._capture.retrieve()
        if self._watched and found and image is not None:
            if self._before is not None and _same(self._before, image):
                self._equal += 1
                if self._equal >= self._look_at and self._replaced(self._grabbed):
                    return self._capture.retrieve()  # type: ignore[no-any-return]
            self._before = image
        return found, self._shown(image)

    def release(self) -> None:
        """Let go."""
        self._capture.release()

    def _aspect_said(self) -> Fraction:
        numerator, denominator = (self._capture.get(what) for what in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
        if self._matrix is not None:
            turned = not self._matrix[0]
        else:
            turned = self._capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
        return aspect_of(numerator, denominator, turned)

    def _shown(self, image: Any) -> Any:
        """Lay a frame upright where OpenCV does not, and make its pixels square."""
        if image is None or isinstance(self._capture, AvCapture):
            return image
        return squared(image if self._matrix is None else laid_upright(image, self._matrix), self._aspect)

    def _begin(self) -> None:
        self._begun = True
        for _ in range(2):
            if not self._capture.grab():
                break
            self._grabbed += 1
            at_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            self._first.append((*self._capture.retrieve(), at_ms))
        images = [image for found, image, _ in self._first if found]
        self._first = [(found, self._shown(image), at_ms) for found, image, at_ms in self._first]
        if not self._first:
            self._try_av()
        elif self._watched and images and _same(images[0], images[-1]) and self._replaced(0):
            self._first, images = [], []
        self._before = images[-1] if images else None

    def _replaced(self, grabbed: int) -> bool:
        """Find out why two frames are equal; return whether PyAV has taken over after this many frames."""
        from_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._sought else 0.0
        skip = 0 if self._sought else max(grabbed - 1, 0)
        why = unwritten(self._address, skip, from_s)
        if not why:
            self._equal, self._look_at = 0, 2 * self._look_at
            return False
        if find_av() is None:
            raise UnreadableError(f"{without_password(self._address)}: is {why}, {_AV_READS_IT}")
        if self._sought:
            raise UnreadableError(f"{without_password(self._address)}: becomes {why} midway: read it from the start")
        self._capture.release()
        self._capture, self._watched = AvCapture(self._address, self._timeout_s), False
        for _ in range(grabbed if "://" not in self._address else min(grabbed, 1)):
            self._capture.grab()
        return True

    def _try_av(self) -> None:
        """Switch to PyAV if it can decode a video that OpenCV cannot, such as AV1 in some wheels."""
        if find_av() is None or "://" in self._address:
            return
        try:
            other = AvCapture(self._address, self._timeout_s)
        except SourceError:
            return
        if other.holds_frames:
            self._capture.release()
            self._capture, self._watched = other, False
        else:
            other.release()


_SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
_AV_READS_IT = f"which this OpenCV cannot convert; PyAV can: {AV_CURE}"


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Return whether two pictures are equal; most differ in the first rows compared."""
    return a.shape == b.shape and np.array_equal(a[::64], b[::64]) and np.array_equal(a, b)


class FileCapture:
    """A file; `release` waits for a running call."""

    def __init__(self, path: str) -> None:
        # OpenCV crashes when a capture is released while another thread reads from it.
        self._lock = threading.Lock()
        # A path with a colon or a leading dash would look like something else to FFmpeg.
        place = os.path.abspath(path)
        self._capture: Any = AvCapture(place) if interlaced_or_rare(place) else self._plain(place, path)

    def _plain(self, place: str, path: str) -> Any:
        capture = _opened(place, path)
        if not _is_cover(capture):
            return _Written(capture, place)
        capture.release()
        if find_av() is None:
            raise SourceError(f"{path}: begins with a cover picture, behind which OpenCV finds no video; {_AV_LOOKS}")
        return AvCapture(place)

    def get(self, what: int) -> float:
        """Give a property."""
        with self._lock:
            return float(self._capture.get(what))

    def set(self, what: int, value: float) -> bool:
        """Change a property; whether that was possible."""
        with self._lock:
            return bool(self._capture.set(what, value))

    def grab(self) -> bool:
        """Go to the next frame."""
        with self._lock:
            return bool(self._capture.grab())

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the frame; UnreadableError if no installed library can convert it."""
        with self._lock:
            found, image = self._capture.retrieve()
            return found, image

    def release(self) -> None:
        """Close the file."""
        with self._lock:
            self._capture.release()


class RemoteCapture:
    """An address; `release` returns at once, and a waiting thread gets no frame.

    `timeout_s` limits each read, and opening to the same but at least 10 s; None: to OpenCV's 30 s.
    """

    def __init__(self, address: str, timeout_s: float | None) -> None:
        limits = []
        if timeout_s is not None:
            open_ms, read_ms = (int(limit_s * 1000) for limit_s in (max(timeout_s, _OPEN_TIMEOUT_S), timeout_s))
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        self._errands = BlockingCalls()
        try:
            self._capture = self._errands.do(
                lambda: _Written(_opened(address, without_password(address), limits), address, timeout_s),
                undo=lambda capture: capture.release(),
            )
        except BaseException:
            self._errands.leave()
            raise

    def get(self, what: int) -> float:
        """Give a property."""
        return float(self._do(lambda: self._capture.get(what), 0.0))

    def grab(self) -> bool:
        """Wait for the next frame."""
        return bool(self._do(self._capture.grab, False))

    def retrieve(self) -> tuple[bool, Any]:
        """Decode it."""
        found, image = self._do(self._capture.retrieve, (False, None))
        return found, image

    def release(self) -> None:
        """End the connection after a running read."""
        self._errands.leave(last=self._capture.release)

    def _do(self, work: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return self._errands.do(work)
        except Left:
            return otherwise


def open_capture(address: str, timeout_s: float | None = None) -> Capture:
    """Open a file or address with FFmpeg; SourceError in one line if that fails.

    `timeout_s` limits each read of a network address; opening it may take 10 s.
    """
    if "://" not in address:
        return open_file(address)
    check_name(address)
    return RemoteCapture(address, timeout_s)


def open_file(path: str) -> FileCapture:
    """Open a file with FFmpeg; SourceError in one line if that fails."""
    _check_file(path)
    return FileCapture(path)


def _opened(address: str, name: str, limits: Sequence[int] = ()) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, list(limits))
    if not capture.isOpened():
        raise SourceError(f"{name}: no video that OpenCV can open (damaged, cut short, without pictures?)")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # OpenCV 4.11 turns no video unless it is told to
    return capture


_AV_LOOKS = f"PyAV does, if there is one: {AV_CURE}"
# FFmpeg's time base of a cover, which it gives for the rate.
_COVER_RATE = 90_000


def _is_cover(capture: cv2.VideoCapture) -> bool:
    """Return whether OpenCV took the cover picture of a film or song for the video; the cover is then not consumed."""
    return capture.get(cv2.CAP_PROP_FPS) == _COVER_RATE


def check_name(place: str) -> None:
    """Raise SourceError for a full path or an address at which OpenCV would crash."""
    if wrong := wrong_name(place):
        raise SourceError(f"{without_password(place)}: {wrong}")


def size_of(capture: Capture) -> tuple[int, int] | None:
    """Give width and height in pixels, after rotation."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return size if min(size) > 0 else None


def rate_of(capture: Capture) -> Fraction | None:
    """Give frames a second as the ratio that the float stands for: 29.97... is 30000/1001; None beyond 240."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return Fraction(rate).limit_denominator(_MAX_DENOMINATOR) if 0 < rate <= _HIGHEST_RATE else None


def measured_rate(path: str) -> Fraction | None:
    """Give the mean rate of a file's first frames; None where they have no times."""
    capture = open_file(path)
    try:
        times_ms = [capture.get(cv2.CAP_PROP_POS_MSEC) for _ in range(_MEASURED_FRAMES) if capture.grab()]
    finally:
        capture.release()
    if len(times_ms) < 2 or times_ms[-1] <= times_ms[0]:
        return None
    return Fraction(1000 * (len(times_ms) - 1) / (times_ms[-1] - times_ms[0])).limit_denominator(1001)


def length_of(capture: Capture) -> int | None:
    """Return the stated number of frames; streams without one report nonsense."""
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(length) if 0 < length < 2**40 else None


def _check_file(path: str) -> None:
    check_name(os.path.abspath(path))
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
