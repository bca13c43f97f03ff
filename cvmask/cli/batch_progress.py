"""How far a batch is, on stderr: a bar where there is a terminal and tqdm, else a line now and then."""

from __future__ import annotations

import importlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvmask.batches.progress import Progress

_STEP_S = 10.0


class BatchProgress:
    """A context whose `show` fits ``on_progress`` of `cvmask.batch`."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._next_s = 0.0
        self.shown = False

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Show parts, frames, rate and time left."""
        if not self.shown:
            self.shown = True
            if progress.dashboard:
                print(f"cvmask: dashboard: {progress.dashboard}", file=sys.stderr)
            self._bar = _new_bar(progress.total)
        rate = f"{progress.frames_per_second:.1f} a second, {progress.failed} failed"
        if self._bar is not None:
            self._bar.update(progress.done - self._bar.n)
            self._bar.set_postfix_str(f"{progress.frames} frames, {rate}")
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _STEP_S
            left = "" if progress.left_s is None else f", {time_text(progress.left_s)} left"
            parts = f"{progress.done} of {progress.total} units"
            print(f"cvmask: {parts}, {progress.frames} frames, {rate}{left}", file=sys.stderr, flush=True)


def time_text(seconds: float) -> str:
    """Write a duration: ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _new_bar(total: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="unit", file=sys.stderr, dynamic_ncols=True)
