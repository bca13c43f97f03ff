"""OpenCV's captures of files and addresses, which any thread may release at any time."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Callable, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.http import without_password
from cvmask.system.files import wrong_name


class Left(Exception):
    """Whoever waited for a call has been sent home."""


def _keep(result: Any) -> None:
    pass


class Errands:
    """Makes calls, one at a time, in a daemon thread, so that whoever waits for one can leave.

    OpenCV waits for a server as long as its timeouts say, deaf to Ctrl-C and to other threads. After
    `leave` that call goes on alone, lets go of what it got and ends its thread; it holds up neither
    the run nor the end of the program.
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

        `undo` is called with a result that comes when nobody waits for it any more. Raises `Left` if
        `leave` was called, before or while it waits.
        """
        with self._changed:
            if self._left:
                raise Left
            self._work, self._undo, self._answer = work, undo, None
            self._busy = True
            self._changed.notify_all()
            try:
                while self._answer is None and not self._left:
                    # With a limit, since without one Windows would not hear Ctrl-C.
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
        """Send home whoever waits; the first `last` is called after the call that goes on. Any thread may do it."""
        with self._changed:
            first, self._last = self._last is None, self._last or last
            self._left = True
            self._changed.notify_all()
            waiting, gone = not self._busy, self._gone
        if waiting:
            self._thread.join()
        if gone and first and last is not None:  # an interrupt had sent it home before there was a `last`
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
# Many cameras take seconds until their first picture.
_OPEN_TIMEOUT_S = 10.0


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``; after `release` there is no frame."""

    def get(self, what: int) -> float:
        """Give a property, 0 if it has none."""

    def grab(self) -> bool:
        """Go to the next frame."""

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Decode it."""

    def release(self) -> None:
        """Let go, from any thread."""


class FileCapture:
    """A file; `release` waits for the call that goes on."""

    def __init__(self, path: str) -> None:
        # OpenCV crashes when a capture is released while another thread reads from it.
        self._lock = threading.Lock()
        # A path with a colon or a leading dash would look like something else to FFmpeg.
        self._capture = _opened(os.path.abspath(path), path)

    def get(self, what: int) -> float:
        """Give a property."""
        with self._lock:
            return self._capture.get(what)

    def set(self, what: int, value: float) -> bool:
        """Change a property; whether that was possible."""
        with self._lock:
            return self._capture.set(what, value)

    def grab(self) -> bool:
        """Go to the next frame."""
        with self._lock:
            return self._capture.grab()

    def retrieve(self) -> tuple[bool, Any]:
        """Decode it."""
        with self._lock:
            return self._capture.retrieve()

    def release(self) -> None:
        """Close the file."""
        with self._lock:
            self._capture.release()


class RemoteCapture:
    """An address; `release` returns at once, and whoever waits for a frame gets none.

    `timeout_s` limits each read, and opening to the same but at least 10 s; None: to OpenCV's 30 s.
    """

    def __init__(self, address: str, timeout_s: float | None) -> None:
        limits = []
        if timeout_s is not None:
            open_ms, read_ms = (int(limit_s * 1000) for limit_s in (max(timeout_s, _OPEN_TIMEOUT_S), timeout_s))
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        self._errands = Errands()
        try:
            self._capture = self._errands.do(
                lambda: _opened(address, without_password(address), limits),
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
        """End the connection, after the read that goes on."""
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


def check_name(place: str) -> None:
    """Raise SourceError for a full path or an address at which OpenCV would crash."""
    if wrong := wrong_name(place):
        raise SourceError(f"{without_password(place)}: {wrong}")


def size_of(capture: Capture) -> tuple[int, int] | None:
    """Give width and height in pixels, after rotation."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return size if min(size) > 0 else None


def rate_of(capture: Capture) -> Fraction | None:
    """Give frames a second as the ratio that the float stands for: 29.97... is 30000/1001."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return Fraction(rate).limit_denominator(_MAX_DENOMINATOR) if 0 < rate < 100_000 else None


def length_of(capture: Capture) -> int | None:
    """Give the number of frames that it says it has; streams without one report nonsense."""
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
