"""Ctrl-C while the command is still importing: it ends at once, in one line.

A traceback through NumPy's and OpenCV's imports tells nobody anything. In a program that merely imports
the package, nothing is changed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

INTERRUPTED = 130


def end_quietly_while_importing() -> None:
    """Let Ctrl-C end the process, if the process is the command `cvmask` and nobody else handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_as_usual() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    program = (getattr(sys, "argv", None) or [""])[0]
    # `-m` is what Python calls the program while it imports the package of `python -m cvmask`.
    return program == "-m" or os.path.splitext(os.path.basename(program))[0] in ("cvmask", "cvmask-script")


def _end(number: int, frame: object) -> None:
    os.write(2, b"cvmask: interrupted\n")
    os._exit(INTERRUPTED)
