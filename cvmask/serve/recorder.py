"""Recordings of what the page shows."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.results.detections import Detections
from cvmask.streams.sinks import Sink, VideoFile
from cvmask.streams.sources import Frame

OFF, ON, READY = "off", "on", "ready"


class Recorder(Sink):
    """An output that can be switched on and off; the last recording can be downloaded.

    Parameters
    ----------
    folder
        Where recordings lie; it is emptied when the server ends.
    longest_s
        A recording is finished after so many seconds.

    Attributes
    ----------
    state
        ``off``, ``on``, or ``ready``: there is one to download.
    key
        Names the recording that is ready; cannot be guessed.
    message
        What went wrong with the last one; "" for nothing.
    """

    name = "recording"

    def __init__(self, folder: Path, longest_s: float) -> None:
        self._folder, self._longest_s = folder, longest_s
        self._lock = threading.Lock()
        self._video: VideoFile | None = None
        self._last: Frame | None = None
        self._count = 0
        self.state, self.key, self.message = OFF, "", ""

    @property
    def path(self) -> Path:
        """Where the recording lies, or will."""
        return self._folder / f"{self.key}.mp4"

    def start(self) -> None:
        """Begin a new one; the one before is gone."""
        with self._lock:
            if self.state == ON:
                return
            self.forget_()
            self.key = secrets.token_urlsafe(12)
            self._video = VideoFile(self.path)
            self._began_s = time.monotonic()
            self._count, self._last = 0, None
            self.state, self.message = ON, ""

    def stop(self) -> None:
        """Finish it."""
        with self._lock:
            self._finish()

    def forget_(self) -> None:
        """Remove the recording that is ready."""
        if self.key:
            self.path.unlink(missing_ok=True)
        self.key, self.state = "", OFF

    def write(
        self, image: NDArray[np.uint8], frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Take a new frame while it is on; one that is drawn again is left out."""
        with self._lock:
            if self.state != ON or frame is self._last:
                return
            assert self._video is not None
            self._last = frame
            try:
                self._video.write(image, frame)
                self._count += 1
            except SinkError as error:
                self._give_up(error)
            if self.state == ON and time.monotonic() - self._began_s > self._longest_s:
                self._finish()

    def close(self) -> None:
        """Finish what is being recorded."""
        self.stop()

    def _finish(self) -> None:
        if self.state != ON or self._video is None:
            return
        try:
            self._video.close()
            self.state = READY if self._count else OFF
            self.message = "" if self._count else "no frame came while it was on"
        except SinkError as error:
            self._give_up(error)

    def _give_up(self, error: SinkError) -> None:
        # The picture goes on even if the disk is full.
        assert self._video is not None
        self._video.discard()
        self.state, self.message = OFF, str(error).replace(str(self._folder), "").lstrip("/")
