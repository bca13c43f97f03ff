"""A window that shows results, where there is a screen."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

TITLE = "cvmask"
ESCAPE = 27


def why_no_window() -> str | None:
    """Say why no window can be opened; None if one can."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if gui.split(":")[-1].strip() == "NONE":
        return "this OpenCV has no windows (opencv-python-headless): install opencv-python"
    # Without a display Qt ends the whole process: it must not be asked.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    return None


def show(picture: NDArray[np.uint8]) -> bool:
    """Show a picture until a key is pressed or the window is closed; False if it was q or Escape."""
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.imshow(TITLE, picture)
    while True:
        key = cv2.waitKey(50) & 0xFF
        if key in (ord("q"), ESCAPE):
            return False
        if key != 0xFF or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return True
