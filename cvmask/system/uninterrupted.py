"""Ctrl-C and its like wait until a step that must not be left half done is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# SIGINT last: while the others are put back it still waits.
_SIGNALS = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM", "SIGINT") if hasattr(signal, name)]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C that comes in the block, or in the function that this decorates, have its effect at the end.

    Python raises KeyboardInterrupt between any two lines of the main thread, such as between a frame's
    encoding and the note of its time. So may handlers of SIGTERM and SIGHUP: they wait as well. In other
    threads, where none is ever called, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in known.items() if callable(handler)}
    came: dict[int, None] = {}
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: came.update({number: None}))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
