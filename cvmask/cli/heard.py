"""What decoders print about a damaged picture, which name no file and go past Python."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO

from cvmask.cli.frame_progress import FrameProgress
from cvmask.errors import SourceError
from cvmask.sources import Frame, Images

# Of colour profiles, which no part of the work looks at.
_NOISE = "libpng warning: iCCP:"


def read_and_tell(paths: Sequence[str], failures: list[str], progress: FrameProgress) -> Iterator[Frame]:
    """Read pictures; what is wrong with one is told with its name, and added to `failures` if there is none."""

    def fail(error: SourceError) -> None:
        failures.append(str(error))
        # One line is enough for a file that is not used.
        heard.take()

    frames = iter(Images(paths, on_error=fail))
    while True:
        known = len(failures)
        with Heard() as heard:
            frame = next(frames, None)
        for failure in failures[known:]:
            progress.say(f"cvmask: {failure}", error=True)
        if frame is None:
            return
        # What is known here already is said better than by a decoder.
        for warning in frame.warnings or (line for line in heard.take() if not line.startswith(_NOISE)):
            progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
        yield frame


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
