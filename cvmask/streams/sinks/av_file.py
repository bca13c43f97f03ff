"""A file that PyAV writes to, closed whatever happens."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any, Callable


class AvFile(io.BufferedWriter):
    """A new file that PyAV writes to: one of its own would stay open for good on a full disk.

    Attributes
    ----------
    error
        What went wrong last; PyAV would not say.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path), "wb"))
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write; what goes wrong is noted, and given as FFmpeg gives it: the negative number of the error."""
        return self._noting(super().write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Write what is waiting, and seek; what goes wrong, in the same way."""
        return self._noting(super().seek, offset, whence)

    def _noting(self, call: Callable[..., int], *arguments: Any) -> int:
        try:
            return call(*arguments)
        except OSError as error:
            self.error = error
            return -(error.errno or errno.EIO)
