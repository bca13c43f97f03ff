"""Opening a file that a user named, without waiting on a pipe and with every refusal in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

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


class GraphFile:
    """A frozen graph on disk, which takes memory only while it is read, and may not change between two readings.

    Raises
    ------
    ModelError
        If it is no file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)  # the program may go to another folder
        with open_regular(path) as file:
            self._state = _state(file)

    def read(self) -> NDArray[np.uint8]:
        """All bytes, shape (n,). ModelError if it cannot be read, or is another file than it was."""
        with open_regular(self.path) as file:
            data = np.fromfile(file, np.uint8)
            if _state(file) != self._state or data.size != os.fstat(file.fileno()).st_size:
                raise ModelError(f"{self.path}: the file has changed since the model was loaded: load it again")
        return data


def _state(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
