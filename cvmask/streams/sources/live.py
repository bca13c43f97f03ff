"""Network streams: they stall, break off and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Callable, Protocol

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.capture import open_capture, rate_of, size_of
from cvmask.streams.sources.errands import Errands, Left
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.source import Frame, Notify, Source, ignore

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
    tried again after 0.5 s, 1 s, 2 s and so on up to 15 s. Nothing is invented for the time between:
    the next frame has a later time.

    Parameters
    ----------
    address
        For messages; passwords in it are not shown.
    connect
        Makes a connection.
    retries
        How many attempts in a row may fail before the stream is given up; a frame sets it back.
    on_message
        Told of every loss and every return.

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
    ) -> None:
        self.name = without_password(address)
        self._connect, self._retries, self._first_delay_s = connect, retries, first_delay_s
        self._notify = on_message
        self._closed = threading.Event()
        self._failures = self._index = 0
        self._first_s: float | None = None
        self._connecting: Errands | None = None
        self._connection: Connection | None = self._new_connection()
        self.size_wh = getattr(self._connection, "size_wh", None)
        self.frame_rate = getattr(self._connection, "frame_rate", None)

    def close(self) -> None:
        """End the connection; whoever reads from it notices within a moment."""
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
        self._connecting = errands = Errands()
        try:
            if self._closed.is_set():
                raise Left
            made: Connection = errands.do(self._connect, undo=lambda connection: connection.close())
            return made
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be reached: {getattr(error, 'reason', error)}") from error
        finally:
            errands.leave()


class FfmpegConnection:
    """RTSP and whatever else FFmpeg connects to."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._closed = threading.Event()
        try:
            self._capture = open_capture(address, timeout_s)
        except SourceError:
            shown = without_password(address)
            raise SourceError(f"{shown}: no stream that OpenCV can open") from None
        self.size_wh, self.frame_rate = size_of(self._capture), rate_of(self._capture)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each picture as it arrives."""
        while True:
            found, image = self._capture.retrieve() if self._capture.grab() else (False, None)
            if self._closed.is_set():
                return
            if not found or image is None:
                raise SourceError(f"ended, or nothing came for {self._timeout_s:g} s")
            yield image

    def close(self) -> None:
        """End it; whoever waits for a picture gets none."""
        self._closed.set()
        self._capture.release()
