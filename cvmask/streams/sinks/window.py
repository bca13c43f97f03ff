"""A window that shows frames as they come."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.metadata import NO_METADATA
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.image_sink import write_image
from cvmask.streams.sinks.sink import Sink
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.system.process import python_program

_ESCAPE = 27
_LARGEST_WH = (1280, 720)
_HEADLESS = "this OpenCV is built without windows: install opencv-python in place of opencv-python-headless"
_TRY = "import cv2; cv2.namedWindow('cvmask'); cv2.waitKey(1)"


class Window(Sink):
    """Shows each frame. The keys q and Esc, or closing the window, end it; space pauses; s saves the picture shown.

    Parameters
    ----------
    hold
        Pause at every frame, as for pictures: any key goes on.
    on_message
        Called with the path of a saved picture.

    Raises
    ------
    SinkError
        If no window can be shown here; the message says why.
    """

    main_thread = True

    def __init__(self, title: str = "cvmask", *, hold: bool = False, on_message: Notify = ignore) -> None:
        _check_display()
        self.name = title
        self._hold, self._notify = hold, on_message
        self._size_wh: tuple[int, int] | None = None

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Show a frame and look at the keys; sets `ended`."""
        if self.ended:
            return
        image = check_frame(image, alpha=True)
        self._open(image)
        cv2.imshow(self.name, image)
        paused = self._hold
        key = self._key(1)
        while not self.ended:
            if key in (ord("q"), _ESCAPE) or self._is_closed():
                self.ended = True
            elif key == ord("s"):
                self._save(image, frame)
            elif key == ord(" "):
                paused = not paused
            elif key >= 0 and self._hold:
                paused = False
            if not paused:
                return
            key = self._key(50)

    def close(self) -> None:
        """Close the window."""
        if self._size_wh is not None:
            self._size_wh = None
            cv2.destroyWindow(self.name)

    def _open(self, image: NDArray[np.uint8]) -> None:
        size = image.shape[1], image.shape[0]
        if self._size_wh == size:
            return
        if self._size_wh is None:
            # Without GUI_NORMAL, Qt's toolbar takes space from the picture.
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(self.name, flags)
        scale = min(1.0, _LARGEST_WH[0] / size[0], _LARGEST_WH[1] / size[1])
        cv2.resizeWindow(self.name, max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
        self._size_wh = size

    def _key(self, wait_ms: int) -> int:
        key = cv2.waitKey(wait_ms)
        return key & 0xFF if key >= 0 else -1

    def _is_closed(self) -> bool:
        return cv2.getWindowProperty(self.name, cv2.WND_PROP_VISIBLE) < 1

    def _save(self, image: NDArray[np.uint8], frame: Frame | None) -> None:
        stem = Path("frame" if frame is None else frame.name).stem or "frame"
        path = f"cvmask_{stem}_{0 if frame is None else frame.index:06d}.png"
        write_image(path, image, NO_METADATA if frame is None else frame.metadata)
        self._notify(f"saved {path}")


def _check_display() -> None:
    if sys.platform.startswith("linux"):
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SinkError("no window can be shown: there is no display (DISPLAY is not set)")
    python = python_program()
    if python is None:
        return
    try:
        # Qt ends the whole process if its display does not answer, so another process tries first.
        done = subprocess.run([python, "-c", _TRY], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode != 0:
        headless = b"not implemented" in done.stderr
        raise SinkError(f"no window can be shown: {_HEADLESS if headless else 'the display does not answer'}")
