"""Network streams: they stall, break off and come back."""

from __future__ import annotations

import glob
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Callable, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.av_capture import UnreadableError
from cvmask.streams.sources.capture import BlockingCalls, Left, check_name, open_capture, rate_of, size_of
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.source import Frame, Notify, Source, ignore
from cvmask.system.interrupts import deferred_signals

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 15.0


class Connection(Protocol):
    """One connection: gives pictures until it ends; SourceError or OSError says why."""

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each picture as it arrives."""

    def close(self) -> None:
        """End it."""


class Stream(Source):
    """Every frame of a network stream; reconnects when it stalls or breaks off.

    The first connection must succeed: an address that is wrong is an error at once. Later ones are
    tried again after 0.5 s, 1 s, 2 s and so on up to 15 s. No frames are added for the time between: the
    next frame has a later time.

    Parameters
    ----------
    address
        For messages; passwords in it are not shown.
    connect
        Makes a connection.
    retries
        How many attempts in a row may fail before the stream is given up; a frame resets the count.
    on_message
        Called with one line for every loss and every return.
    damaged
        Returns how many frames so far could not be decoded.

    Raises
    ------
    SourceError
        If the first connection fails, or the stream is given up.
    """

    live = True

    def __init__(
        self,
        address: str,
        connect: Callable[[], Connection],
        *,
        retries: int = 10,
        first_delay_s: float = _FIRST_DELAY_S,
        on_message: Notify = ignore,
        damaged: Callable[[], int] = int,
    ) -> None:
        self.name = without_password(address)
        self._damaged = damaged
        self._connect, self._retries, self._first_delay_s = connect, retries, first_delay_s
        self._notify = on_message
        self._closed = threading.Event()
        self._failures = self._index = 0
        self._first_s: float | None = None
        self._connecting: BlockingCalls | None = None
        self._connection: Connection | None = self._new_connection()
        self.size_wh = getattr(self._connection, "size_wh", None)
        self.frame_rate = getattr(self._connection, "frame_rate", None)

    def close(self) -> None:
        """End the connection; a thread that reads from it stops soon after."""
        self._closed.set()
        if self._connecting is not None:
            self._connecting.leave()
        if self._connection is not None:
            self._connection.close()

    def _frames(self) -> Iterator[Frame]:
        while not self._closed.is_set():
            reason = "ended"
            try:
                if self._connection is None:
                    self._connection = self._new_connection()
                if self._closed.is_set():
                    return
                yield from self._follow(self._connection)
            except UnreadableError:
                raise
            except SourceError as error:
                reason = str(error)
            except Left:
                return
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            if not self._closed.is_set():
                self._wait_to_retry(reason)

    def _follow(self, connection: Connection) -> Iterator[Frame]:
        try:
            for image in connection.images():
                now_s = time.monotonic()
                if self._failures:
                    self._notify(f"{self.name}: back after {self._failures} attempts")
                self._failures = 0
                self.lost = self._damaged()
                self._first_s = now_s if self._first_s is None else self._first_s
                yield Frame(image, self._index, now_s - self._first_s, self.name, taken_at_s=now_s)
                self._index += 1
        except OSError as error:
            raise SourceError(f"broke off: {error}") from error

    def _wait_to_retry(self, reason: str) -> None:
        self._failures += 1
        if self._failures > self._retries:
            raise SourceError(f"{self.name}: given up after {self._retries} attempts in a row: {reason}")
        delay_s = min(_LONGEST_DELAY_S, self._first_delay_s * 2 ** (self._failures - 1))
        attempt = f"attempt {self._failures} of {self._retries} in {delay_s:g} s"
        self._notify(f"{self.name}: {reason}; {attempt}")
        self._closed.wait(delay_s)

    def _new_connection(self) -> Connection:
        self._connecting = errands = BlockingCalls()
        try:
            if self._closed.is_set():
                raise Left
            made: Connection = errands.do(self._connect, undo=lambda connection: connection.close())
            return made
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be reached: {getattr(error, 'reason', error)}") from error
        finally:
            errands.leave()


# More than this is no segment.
_MOST_AHEAD_S = 60.0


class FfmpegConnection:
    """RTSP and whatever else FFmpeg connects to.

    `paced` holds each picture back until its time, for streams that come in segments.
    """

    def __init__(self, address: str, timeout_s: float, paced: bool = False) -> None:
        self._timeout_s, self._paced = timeout_s, paced
        self._closed = threading.Event()
        try:
            self._capture = open_capture(address, timeout_s)
        except SourceError:
            shown = without_password(address)
            raise SourceError(f"{shown}: no stream that OpenCV can open") from None
        self.size_wh, self.frame_rate = size_of(self._capture), rate_of(self._capture)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each picture as it arrives."""
        lead_s: float | None = None
        while True:
            found, image = self._capture.retrieve() if self._capture.grab() else (False, None)
            if self._paced and found:
                due_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - time.monotonic()
                ahead_s = due_s - (due_s if lead_s is None else lead_s)
                if lead_s is None or not 0 < ahead_s < _MOST_AHEAD_S:
                    lead_s = due_s  # the first one, or late: this is the pace from here on
                else:
                    self._closed.wait(ahead_s)
            if self._closed.is_set():
                return
            if not found or image is None:
                raise SourceError(f"ended, or nothing came for {self._timeout_s:g} s")
            yield image

    def close(self) -> None:
        """End the connection; a waiting thread gets no picture."""
        self._closed.set()
        self._capture.release()


class Newest(Source):
    """Reads a live source all the time and gives the newest frame that it has, each at most once."""

    live = True
    newest = True

    def __init__(self, source: Source) -> None:
        self.name, self.size_wh, self.frame_rate = source.name, source.size_wh, source.frame_rate
        self._source = source
        # No lock: the thread that takes frames may be interrupted at any line, and must not hold one then.
        self._latest: deque[Frame] = deque(maxlen=1)
        self._news: SimpleQueue[None] = SimpleQueue()
        self._came = self._taken = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """How many frames were skipped for newer ones."""
        waiting = 0 if self._closed else len(self._latest)
        return self._came - self._taken - waiting

    def close(self) -> None:
        """Release the source; its thread is gone when this returns."""
        self._closed = True
        self._news.put(None)
        self._source.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _frames(self) -> Iterator[Frame]:
        if not (self._closed or self._ended):
            thread = threading.Thread(target=self._follow, name="cvmask-newest")
            with deferred_signals():
                thread.start()
                self._thread = thread  # only now could `close` wait for it
        while (frame := self._wait()) is not None:
            yield frame
        if self._error is not None:
            raise self._error

    def _wait(self) -> Frame | None:
        """Wait for the next frame; None after the last."""
        while True:
            self._news.get()
            if self._closed or (self._ended and not self._latest):
                self._news.put(None)  # for the next call
                return None
            if self._latest:
                self._taken += 1
                return self._latest.pop()

    def _follow(self) -> None:
        try:
            for frame in self._source:
                if self._closed:
                    return
                self._came += 1
                self.lost = self._source.lost
                self._latest.append(frame)
                self._news.put(None)
        except BaseException as error:
            self._error = error
        finally:
            self.lost = self._source.lost
            self._ended = True
            self._news.put(None)


class Camera(Source):
    """Every frame of a camera.

    Parameters
    ----------
    device
        Its number from 0, or its path: ``/dev/video0``.
    open_capture
        What opens it: gives something that behaves like ``cv2.VideoCapture``.

    Raises
    ------
    SourceError
        If it is missing, busy, or not allowed; while iterating, if it was unplugged.
    """

    live = True

    def __init__(self, device: int | str, open_capture: Callable[[Any], Any] = cv2.VideoCapture) -> None:
        self.name = f"camera {device}"
        check_name(str(device))
        self._closed = threading.Event()
        # OpenCV crashes when a capture is released while another thread reads from it.
        self._lock = threading.Lock()
        self._capture = open_capture(device)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self.name}: {_why_not(device)}")
        self.size_wh = size_of(self._capture)
        self.frame_rate = rate_of(self._capture)

    def close(self) -> None:
        """Release the camera."""
        self._closed.set()
        with self._lock:
            self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        first_s: float | None = None
        index = 0
        while not self._closed.is_set():
            with self._lock:
                found, image = (False, None) if self._closed.is_set() else self._capture.read()
            now_s = time.monotonic()
            if self._closed.is_set():
                return
            if not found or image is None:
                raise SourceError(f"{self.name}: no frame comes after {index}: unplugged, or taken away?")
            first_s = now_s if first_s is None else first_s
            yield Frame(image, index, now_s - first_s, self.name, taken_at_s=now_s)
            index += 1


def _why_not(device: int | str) -> str:
    path = f"/dev/video{device}" if isinstance(device, int) else device
    if not sys.platform.startswith("linux") or not path.startswith("/dev/"):
        return "cannot be opened: missing, or in use by another program"
    if not os.path.exists(path):
        found = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        return f"{path} does not exist; cameras here: {found}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission for {path}: add yourself to the group video"
    return f"{path} cannot be opened: in use by another program, or no camera"
