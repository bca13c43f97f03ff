"""Of a live source, always the newest frame."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from cvmask.sources.base import Frame, Source


class Newest(Source):
    """Reads a live source all the time and gives the newest frame that it has, each at most once.

    Attributes
    ----------
    dropped
        How many frames were passed over for newer ones.
    """

    live = True
    newest = True

    def __init__(self, source: Source) -> None:
        self.name, self.size_wh, self.frame_rate = source.name, source.size_wh, source.frame_rate
        self.dropped = 0
        self._source = source
        self._changed = threading.Condition()
        self._latest: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Release the source; its thread is gone when this returns."""
        with self._changed:
            self._ended = True
            self._latest = None
            self._changed.notify_all()
        self._source.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _frames(self) -> Iterator[Frame]:
        if not self._ended:
            self._thread = threading.Thread(target=self._follow, name="cvmask-newest")
            self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._ended)
                frame, self._latest = self._latest, None
            if frame is None:
                break
            yield frame
        if self._error is not None:
            raise self._error

    def _follow(self) -> None:
        try:
            for frame in self._source:
                with self._changed:
                    if self._ended:
                        return
                    self.dropped += self._latest is not None
                    self._latest = frame
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
