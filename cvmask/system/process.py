"""Process setup of the command: standard streams, OpenCV's log, decoder warnings, malloc."""

from __future__ import annotations

import ctypes
import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import IO, Any

import cv2

# Control characters, line separators, and marks that change the direction of text.
_NOT_PRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""Escape characters that end lines or control terminals: ``\x1b``, ``\n``. For names from outside."""
    return _NOT_PRINTED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


_SILENT = 0
_FFMPEG_LEVEL, _FFMPEG_QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"


def python_program() -> str | None:
    """Find the Python interpreter that runs this program.

    None if `sys.executable` is another program: a frozen app, or one that embeds Python, would start itself.
    """
    name = os.path.basename(sys.executable or "").lower()
    is_python = re.fullmatch(r"(python|pypy)[\d.]*[tdw]?(\.exe)?", name)
    return sys.executable if is_python and not getattr(sys, "frozen", False) else None


def prepare_streams() -> None:
    """Open /dev/null in place of closed standard streams, as after ``cvmask ... 2>&-`` or under a service manager.

    Otherwise the next opened file would get that number, and libraries would print into it. Characters of file names
    that a stream cannot encode are written with backslashes, as Python does on stderr.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def opencv_silent() -> Iterator[None]:
    """Keep the logs of OpenCV and its FFmpeg off stderr during the block: cvmask's errors say the same in one line.

    Does nothing with ``CVMASK_DEBUG=1`` or if ``OPENCV_LOG_LEVEL`` is set. FFmpeg reads its level once, at the
    first video of the process.
    """
    if os.environ.get("CVMASK_DEBUG") == "1" or "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    # Its place in OpenCV 4.8 to 4.10, and in later releases.
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


_LOCK = threading.RLock()
STREAMS = (1, 2)  # OpenCV prints build logs on stdout, drivers and its own logger write to stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Discard everything that this process writes to stdout and stderr during the block.

    Use it only while OpenCL kernels are compiled: it silences other threads too.
    Does nothing with ``CVMASK_DEBUG=1``.
    """
    if os.environ.get("CVMASK_DEBUG") == "1":
        yield
        return
    with _LOCK, ExitStack() as undo:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # None, or closed
                stream.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        undo.callback(os.close, nowhere)
        for number in STREAMS:
            _swap(number, nowhere, undo)
        try:
            yield
        finally:
            _flush_c()


def _swap(number: int, nowhere: int, undo: ExitStack) -> None:
    try:
        kept = os.dup(number)
    except OSError:  # closed, as under a service manager
        return
    undo.callback(os.close, kept)
    undo.callback(os.dup2, kept, number)
    os.dup2(nowhere, number)


def _flush_c() -> None:
    """Flush the buffers of the C library, which would otherwise print after the block."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


class DecoderWarnings:
    """Captures what this process writes to stderr during the block.

    libjpeg reports corrupt data only on stderr. The whole process is captured, so only the command line
    uses this, because nothing else writes there meanwhile.
    """

    def __enter__(self) -> DecoderWarnings:
        self._kept: int | None = None
        sys.stderr.flush()
        self._file: IO[bytes] = io.BytesIO()
        try:
            file = tempfile.TemporaryFile()
            self._kept = os.dup(2)
        except OSError:  # no temporary file or no stderr, as under a service manager: nothing is captured
            return self
        self._file = file
        os.dup2(file.fileno(), 2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None:
            os.dup2(self._kept, 2)
            os.close(self._kept)
        self._lines = self.take()
        self._file.close()

    def take(self) -> list[str]:
        """Return the lines since the last call; after the block, those that were left at its end."""
        if self._file.closed:
            return self._lines
        self._file.seek(0)
        lines = self._file.read().decode(errors="replace").splitlines()
        self._file.seek(0)
        self._file.truncate()
        return lines


# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# glibc raises these limits by itself, but only up to half as far. The largest block of Inception v2, which OpenCV
# takes and frees in each frame, is 48 MB: one layer's windows of 100 proposals.
_REUSED, _HELD = 64 << 20, 128 << 20
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def give_back() -> None:
    """Return freed memory to the system: glibc keeps tens of megabytes after a graph was read."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reuse_large_blocks() -> None:
    """Keep freed blocks of up to 64 MB for the next frame; up to 128 MB stay free at the end of the heap.

    Otherwise the system provides and clears fresh pages for every frame: 12,000 page faults, a tenth of
    the time at 320x320. This applies to the whole process. Limits that are set in the environment
    (`MALLOC_TRIM_THRESHOLD_` and others, mallopt(3)) are kept.
    """
    if any(name in os.environ for name in _CHOSEN) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _REUSED)
        library.mallopt(_M_TRIM_THRESHOLD, _HELD)
