"""SIGTERM as Ctrl-C: whatever is being written is finished or taken away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_came = threading.Event()


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, as on SIGINT, while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _came.clear()
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that a library swallowed: one that came in a callback or a destructor is lost."""
    if _came.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    _came.set()
    raise KeyboardInterrupt
