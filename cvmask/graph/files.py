"""Opening a file that a user named, without waiting on a pipe and with every refusal in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from cvmask.errors import ModelError


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file, open for reading, with at least one byte in it.

    Raises
    ------
    ModelError
        If it is missing, empty, a folder, a pipe or a device, or may not be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: needed a file, got {_kind(status.st_mode)}")
        if not status.st_size:
            raise ModelError(f"{path}: the file is empty (0 bytes): download or copy it again")
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path}: cannot be read: {reason}") from None
    with file:
        yield file


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
