"""Of a live source, always the newest frame."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue

from cvmask.streams.sources.source import Frame, Source
from cvmask.system.uninterrupted import uninterrupted


class Newest(Source):
    """Reads a live source all the time and gives the newest frame that it has, each at most once."""

    live = True
    newest = True

    def __init__(self, source: Source) -> None:
        self.name, self.size_wh, self.frame_rate = source.name, source.size_wh, source.frame_rate
        self._source = source
        # Whoever takes frames may be interrupted at any line, and must not keep a lock then: there is none.
        self._latest: deque[Frame] = deque(maxlen=1)
        self._news: SimpleQueue[None] = SimpleQueue()
        self._came = self._taken = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many frames were passed over for newer ones."""
        return self._came - self._taken - len(self._latest)

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
            with uninterrupted():
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
                self._news.put(None)  # for whoever asks once more
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
                self._latest.append(frame)
                self._news.put(None)
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._news.put(None)
