"""Writing to the cache folder: sizes in words, and what the system refuses in one line."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvmask.errors import ModelError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def size_text(n_bytes: int) -> str:
    """Write a size as people read it: ``178 MB``, ``12 kB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            value = n_bytes / factor
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{n_bytes} bytes"


class DiskError(ModelError):
    """What the file system refuses, as against what is wrong with a file."""


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what the system refuses while a folder is written to into a DiskError.

    Raises
    ------
    DiskError
        For any OSError of the block: full disk, no permission, read-only, a file in the way.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(_refusal(folder, error)) from error


def need_free(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what cannot end.

    Raises
    ------
    DiskError
        If the disk of `folder` has less than `needed_bytes` free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskError(
            f"the disk of {folder} has {size_text(free_bytes)} free, {size_text(needed_bytes)} are needed: "
            "make room, or set CVMASK_HOME to a folder on another disk"
        )


def _refusal(folder: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return f"the disk of {folder} is full: make room, or set CVMASK_HOME to a folder on another disk"
    if error.errno in _CLOSED:
        return f"no permission to write to {folder}: set CVMASK_HOME to a folder that is yours"
    reason = error.strerror or str(error)
    return f"cannot write to {folder} ({reason}): set CVMASK_HOME to a folder that can be written"
