"""The newest picture and what is to be said about it, for any number of viewers."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.serve.metrics import Metrics

JPEG_QUALITY = 85
JPEG_SIDE = 65_500


class View:
    """Holds the newest message; it is made once, however many take it.

    A message is a header and a JPEG: 4 bytes with the length of the header (big endian), the header
    as JSON, the JPEG (no bytes if there is no picture yet).

    Attributes
    ----------
    on_first
        Called when somebody is about to look on and nobody does.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._image: NDArray[np.uint8] | None = None
        self._jpeg: bytes | None = None
        self._status: Mapping[str, Any] = {}
        self._message: bytes | None = None
        self.version = 0
        self.on_first: Callable[[], None] = lambda: None

    @property
    def viewers(self) -> int:
        """How many look on."""
        return len(self._waiting)

    def show(self, image: NDArray[np.uint8], status: Mapping[str, Any]) -> None:
        """Show another picture, shape (height, width, 3), BGR. From any thread."""
        with self._lock:
            self._image, self._jpeg = image, None
        self.tell(status)

    def clear(self, status: Mapping[str, Any]) -> None:
        """Show no picture: the last one is out of date. From any thread."""
        with self._lock:
            self._image = self._jpeg = None
        self.tell(status)

    def tell(self, status: Mapping[str, Any]) -> None:
        """Say something else about the picture shown. From any thread."""
        with self._lock:
            self._status, self._message = status, None
            self.version += 1
            waiting = list(self._waiting)
        if waiting:
            self.newest()
        for loop, event in waiting:
            # The loop may have ended meanwhile, with all who waited.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def newest(self) -> tuple[int, bytes]:
        """Give the newest message and its version; encodes the picture if nobody has asked for it yet."""
        with self._lock:
            if self._message is None:
                text = json.dumps(self._status, ensure_ascii=False, separators=(",", ":"))
                # A file's name that is no UTF-8: what replaces it is an escape of JSON too.
                header = text.encode("utf-8", "backslashreplace")
                self._message = b"".join([struct.pack(">I", len(header)), header, self._encoded()])
            return self.version, self._message

    def ready(self) -> tuple[int, bytes] | None:
        """Give the newest message if it is made already."""
        with self._lock:
            return None if self._message is None else (self.version, self._message)

    @contextmanager
    def viewer(self) -> Iterator[asyncio.Event]:
        """Look on while the block runs; the event is set when there is something new."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        if not self._waiting:
            self.on_first()
        with self._lock:
            self._waiting.add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def _encoded(self) -> bytes:
        if self._image is None:
            return b""
        if self._jpeg is None:
            _, buffer = cv2.imencode(".jpg", _fit(self._image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            self._jpeg = buffer.tobytes()
            self._metrics.count("encodings_total")
        return self._jpeg


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale what is too wide or too high for a JPEG."""
    height, width = image.shape[:2]
    scale = JPEG_SIDE / max(width, height)
    if scale >= 1:
        return image
    size_wh = max(1, int(width * scale)), max(1, int(height * scale))
    return cast("NDArray[np.uint8]", cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA))
