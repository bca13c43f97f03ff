"""Progress of a download on stderr: a bar where there is a terminal and tqdm, else a line now and then."""

from __future__ import annotations

import importlib
import sys
import time
from types import TracebackType
from typing import Any

from cvmask.zoo.disk import size_text

_STEP_PERCENT = 10
_STEP_S = 10.0


class DownloadProgress:
    """A context whose `advance` and `say` fit `cvmask.zoo.download`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar = _new_bar(title)
        self._next_percent = 0
        self._next_time = 0.0

    def __enter__(self) -> DownloadProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, done_bytes: int, total_bytes: int | None) -> None:
        """Show how many bytes are here, of how many if that is known."""
        if self._bar is not None:
            self._bar.total = total_bytes
            self._bar.update(done_bytes - self._bar.n)
            return
        # Silence reads as a hang, a line for each block as noise.
        percent = 100 * done_bytes // total_bytes if total_bytes else 0
        now = time.monotonic()
        if percent < self._next_percent and now < self._next_time:
            return
        whole = f" of {size_text(total_bytes)}, {percent} %" if total_bytes else ""
        print(f"{self._title}: {size_text(done_bytes)}{whole}", file=sys.stderr, flush=True)
        self._next_percent = (percent // _STEP_PERCENT + 1) * _STEP_PERCENT
        self._next_time = now + _STEP_S

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


def _new_bar(title: str) -> Any:
    # In a log file a bar is thousands of lines.
    if not sys.stderr.isatty():
        return None
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr, dynamic_ncols=True)
