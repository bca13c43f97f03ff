"""What the command starts with: three open streams that take any name, and an OpenCV that leaves the talking to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

_SILENT = 0
_FFMPEG_LEVEL, _FFMPEG_QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"


def prepare_streams() -> None:
    """Put /dev/null where a standard stream was closed, as in ``cvmask ... 2>&-`` or under a service manager.

    Or the next file that is opened would get its number, and what libraries print would be written into it.
    A file name that a stream cannot spell is written with backslashes, as Python does on stderr.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def opencv_silent() -> Iterator[None]:
    """Keep OpenCV's own log, and that of its FFmpeg, from stderr meanwhile: the errors here say the same in a line.

    Does nothing with ``CVMASK_DEBUG=1`` or where ``OPENCV_LOG_LEVEL`` is set. FFmpeg looks at its level once, at
    the first video of the process, and keeps it.
    """
    if os.environ.get("CVMASK_DEBUG") == "1" or "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    # Where OpenCV 4.8 to 4.10 have it, and where later ones do.
    log: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    before = log.getLogLevel()
    log.setLogLevel(_SILENT)
    is_free = _FFMPEG_LEVEL not in os.environ
    os.environ.setdefault(_FFMPEG_LEVEL, _FFMPEG_QUIET)
    try:
        yield
    finally:
        log.setLogLevel(before)
        if is_free:
            os.environ.pop(_FFMPEG_LEVEL, None)
