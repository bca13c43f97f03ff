"""Pictures that a browser sends, as a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from cvmask.errors import SourceError
from cvmask.serve.answers import check_picture
from cvmask.serve.problems import Problem
from cvmask.streams.sources import Frame, Source
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.source import ignore


class Pushed(Source):
    """The newest of the pictures that are pushed; those that come in between are dropped, undecoded.

    Parameters
    ----------
    max_pixels
        Pictures with more are left out, and `on_message` is told; so are damaged ones, and other kinds than
        `POST /v1/detect` takes.
    """

    live = True
    returns = False

    def __init__(self, max_pixels: int, on_message: Callable[[str], None] = ignore) -> None:
        self.name = "browser camera"
        self._max_pixels, self._notify = max_pixels, on_message
        self._changed = threading.Condition()
        self._latest: tuple[bytes, float] | None = None
        self._closed = False

    def push(self, data: bytes) -> None:
        """Take an encoded picture, in place of one that still waits."""
        with self._changed:
            self._latest = (data, time.monotonic())
            self._changed.notify()

    def close(self) -> None:
        """End it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _frames(self) -> Iterator[Frame]:
        index, first_s = 0, time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._closed)
                if self._closed or self._latest is None:
                    return
                (data, taken_at_s), self._latest = self._latest, None
            try:
                check_picture(data, self._max_pixels)
                image, _ = decode_image(data, "a picture of the browser camera", self._max_pixels)
            except (Problem, SourceError) as error:
                self._notify(str(error))
                continue
            yield Frame(image, index, taken_at_s - first_s, self.name, taken_at_s=taken_at_s)
            index += 1
