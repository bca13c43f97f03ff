"""What decoders print about a damaged picture, which name no file and go past Python."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from types import TracebackType
from typing import IO


class Heard:
    """Catches what this process writes to stderr while the block runs.

    libjpeg tells nobody but stderr that the data of a picture is corrupt. It is caught for the whole
    process, so only the command line, where nothing else writes meanwhile, can do it.
    """

    def __enter__(self) -> Heard:
        self._kept: int | None = None
        sys.stderr.flush()
        self._file: IO[bytes] = io.BytesIO()
        try:
            file = tempfile.TemporaryFile()
            self._kept = os.dup(2)
        except OSError:  # no place for it, or no stderr, as under a service manager: then nothing is caught
            return self
        self._file = file
        os.dup2(file.fileno(), 2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None:
            os.dup2(self._kept, 2)
            os.close(self._kept)
        self._lines = self.take()
        self._file.close()

    def take(self) -> list[str]:
        """Give the lines so far, and forget them; after the block those that were left at its end."""
        if self._file.closed:
            return self._lines
        self._file.seek(0)
        lines = self._file.read().decode(errors="replace").splitlines()
        self._file.seek(0)
        self._file.truncate()
        return lines
