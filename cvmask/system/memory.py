"""What glibc does with memory that was freed; nothing where the C library is another one."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# glibc raises these limits by itself, up to half as far. The largest block of Inception v2, which OpenCV
# takes and frees in each frame, is 48 MB: one layer's windows of 100 proposals.
_REUSED, _HELD = 64 << 20, 128 << 20
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def give_back() -> None:
    """Return to the system what was freed: glibc keeps it, tens of megabytes after a graph was read."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reuse_large_blocks() -> None:
    """Keep freed blocks of up to 64 MB for the next frame; up to 128 MB stay free at the end of the heap.

    Otherwise the system gives fresh pages for them in every frame, and clears each: 12,000 page faults,
    a tenth of the time at 320x320. It holds for the whole process. Who has set glibc's limits in the
    environment (`MALLOC_TRIM_THRESHOLD_` and its like, mallopt(3)) keeps them.
    """
    if any(name in os.environ for name in _CHOSEN) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _REUSED)
        library.mallopt(_M_TRIM_THRESHOLD, _HELD)
