"""Cameras, through OpenCV."""

from __future__ import annotations

import glob
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import cv2

from cvmask.errors import SourceError
from cvmask.streams.sources.capture import check_name, rate_of, size_of
from cvmask.streams.sources.source import Frame, Source


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
