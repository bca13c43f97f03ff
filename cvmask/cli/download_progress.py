"""How far a download is, on stderr: a bar where there can be one, else a line now and then."""

from __future__ import annotations

import sys
import time

from cvmask.cli.progress import Bar
from cvmask.system.disk import size_text

_STEP_PERCENT = 10
_STEP_S = 10.0


class DownloadProgress(Bar):
    """A context whose `advance` and `say` fit `cvmask.models.download`."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self.show(desc=title, unit="B", unit_scale=True, unit_divisor=1000)
        self._next_percent = 0
        self._next_time = 0.0

    def __enter__(self) -> DownloadProgress:
        return self

    def advance(self, done_bytes: int, total_bytes: int | None) -> None:
        """Show how many bytes are here, of how many if that is known."""
        if self.bar is not None:
            self.bar.total = total_bytes
            self.bar.update(done_bytes - self.bar.n)
            return
        # Silence reads as a hang, a line for each block as noise.
        percent = 100 * done_bytes // total_bytes if total_bytes else 0
        now = time.monotonic()
        if percent < self._next_percent and now < self._next_time:
            return
        whole = f" of {size_text(total_bytes)}, {percent} %" if total_bytes else ""
        self.say(f"{self._title}: {size_text(done_bytes)}{whole}")
        self._next_percent = (percent // _STEP_PERCENT + 1) * _STEP_PERCENT
        self._next_time = now + _STEP_S

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        self.print(line, sys.stderr)
