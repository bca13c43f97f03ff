"""Memory that was freed and not given back."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return to the system what was freed: glibc keeps it, tens of megabytes after a graph was read.

    Does nothing where the C library is another one.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
