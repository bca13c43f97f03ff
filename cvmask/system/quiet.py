"""Keeps what OpenCV and OpenCL drivers print out of the user's sight."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_LOCK = threading.RLock()
STREAMS = (1, 2)  # OpenCV prints build logs on stdout, drivers and its own logger write to stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Throw away everything that this process writes to stdout and stderr meanwhile.

    For the moments when OpenCL kernels are compiled, no longer: other threads are not heard either.
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
    """Empty the buffers of the C library, which would otherwise print after the end of silence."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
