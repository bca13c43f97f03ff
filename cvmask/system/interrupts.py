"""Signals and interrupts. While the command is importing, Ctrl-C or a broken OpenCV ends it with one line.

A traceback through NumPy's and OpenCV's imports would help nobody. Programs that only import the package are
not affected.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130


def end_quietly_while_importing() -> None:
    """Let Ctrl-C end the process, if it is the command `cvmask` and no other handler is set."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end_if_command_cannot_import(error: ImportError) -> None:
    """End the process with 1 and the cure, if it is the command `cvmask` and OpenCV or NumPy do not import.

    Does nothing with ``CVMASK_DEBUG=1``.
    """
    name = error.name or "cv2"
    if not _is_command() or name.startswith("cvmask") or os.environ.get("CVMASK_DEBUG") == "1":
        return
    if str(error) == "cv2 is an empty folder":
        cure = "pip install --force-reinstall --no-deps opencv-python-headless (or opencv-python, for windows)"
    elif not isinstance(error, ModuleNotFoundError):
        cure = "pip install opencv-python-headless, or the system's package with the library that is named"
    else:
        cure = f"pip install {'opencv-python-headless' if name == 'cv2' else name}"
    sys.exit(f"cvmask: error: {' '.join(str(error).split())}: {cure}")


def raise_as_usual() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":  # so it is called while the package of `python -m package` is imported
        program = _module()
    return os.path.splitext(os.path.basename(program))[0] in ("cvmask", "cvmask-script")


def _module() -> str:
    """Return the module that follows ``-m`` on the command line, with or without a space."""
    words = _words()
    for word, after in zip(words, [*words[1:], ""]):
        option = re.fullmatch("-[A-Za-ln-z]*m(.*)", word)
        if option:
            return option[1] or after
    return ""


def _words() -> list[str]:
    """Return the command line as it was given."""
    if sys.version_info >= (3, 10):
        return sys.orig_argv
    import ctypes

    count, words = ctypes.c_int(), ctypes.POINTER(ctypes.c_wchar_p)()
    ctypes.pythonapi.Py_GetArgcArgv(ctypes.byref(count), ctypes.byref(words))
    return [words[index] or "" for index in range(count.value)]


def _end(number: int, frame: object) -> None:
    os.write(2, b"cvmask: interrupted\n")
    os._exit(INTERRUPTED)


# SIGINT last: it stays deferred while the others are restored.
_SIGNALS = [getattr(signal, name) for name in ("SIGHUP", "SIGTERM", "SIGINT") if hasattr(signal, name)]


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block, or of the function that this decorates.

    Python raises KeyboardInterrupt between any two lines of the main thread, for example between encoding a
    frame and noting its time. Handlers of SIGTERM and SIGHUP may raise too, so they are deferred as well. Other
    threads never run handlers; there the block does nothing.
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


class Stopped(Exception):
    """The run has ended; threads that wait or work for it stop."""


_work = threading.local()


@contextmanager
def stopped_by(asked: Callable[[], bool]) -> Iterator[None]:
    """During the block, `raise_if_stopped` raises in this thread once `asked` returns True."""
    _work.asked = asked
    try:
        yield
    finally:
        del _work.asked


def raise_if_stopped() -> None:
    """Raise `Stopped` if the run of this thread has ended. Call it during long work."""
    asked = getattr(_work, "asked", None)
    if asked is not None and asked():
        raise Stopped


_came = threading.Event()


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread on SIGTERM and SIGHUP, as on SIGINT, during the block.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _came.clear()
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_DFL:
        numbers.append(hang_up)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise a KeyboardInterrupt that a library swallowed because it came in a callback or a destructor."""
    if _came.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    _came.set()
    raise KeyboardInterrupt
