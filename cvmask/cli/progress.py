"""Progress bars on stderr, with tqdm on a terminal, and printing that does not break them."""

from __future__ import annotations

import importlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from cvmask.streams.summary import Summary
from cvmask.system.files import size_text
from cvmask.system.process import printable

if TYPE_CHECKING:
    from cvmask.batches.job import Progress


def say(*lines: object, error: bool = False) -> None:
    """Print lines at once, errors on stderr. All output of cvmask goes through here or a bar."""
    for line in lines:
        print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


class Bar:
    """Base of all progress bars; a context manager that removes its bar at the end.

    Attributes
    ----------
    bar
        tqdm's bar, once `show` has found a terminal and tqdm; None otherwise, because in a log file
        a bar is thousands of lines.
    """

    def __init__(self) -> None:
        self.bar: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show(self, **options: Any) -> None:
        """Show a bar with these options of tqdm, if possible."""
        if not sys.stderr.isatty():
            return
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        if "desc" in options:
            options["desc"] = printable(options["desc"])
        self.bar = tqdm(file=sys.stderr, dynamic_ncols=True, **options)

    def print(self, line: str, stream: TextIO) -> None:
        """Print a line at once, above the bar if there is one."""
        # Sources print from their own threads, while the bar may be closed.
        bar = self.bar
        if bar is not None:
            bar.write(printable(line), file=stream)
        else:
            print(printable(line), file=stream, flush=True)

    def close(self) -> None:
        """Remove the bar; a second call does nothing."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class FrameProgress(Bar):
    """Counts pictures, and prints a line for each."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total, self._done = total, 0
        if total > 1:
            self.show(total=total, unit="picture")

    def __enter__(self) -> FrameProgress:
        return self

    def advance(self, line: str) -> None:
        """Count one picture and print its line on stdout."""
        self._done += 1
        place = f"[{self._done}/{self._total}] " if self._total > 1 and self.bar is None else ""
        self.say(place + line)
        if self.bar is not None:
            self.bar.update()

    def say(self, line: str, error: bool = False) -> None:
        """Print a line, errors on stderr."""
        self.print(line, sys.stderr if error else sys.stdout)


_EVERY_S = 5.0


class StreamProgress(Bar):
    """Shows frames, frames per second, time left and the last detections; all but the summary on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._done, self._total, self._name = 0, 0, ""
        self._began_s = self._told_s = time.monotonic()

    def __enter__(self) -> StreamProgress:
        return self

    def begin(self, name: str, total: int | None) -> None:
        """Start counting; `total` is None if unknown."""
        self._name, self._total = name, total or 0
        self._began_s = self._told_s = time.monotonic()
        self.show(total=total, unit="frame", desc=name)

    def advance(self, found: Counter[str]) -> None:
        """Count one frame."""
        self._done += 1
        lately = ", ".join(f"{count} {name}" for name, count in found.most_common(4)) or "nothing found"
        if self.bar is not None:
            self.bar.set_postfix_str(printable(lately), refresh=False)
            self.bar.update()
        elif time.monotonic() - self._told_s >= _EVERY_S:
            self._told_s = time.monotonic()
            self.warn(f"{self._name}: {self._how_far()}, {lately}")

    def warn(self, line: str) -> None:
        """Print a line on stderr."""
        self.print(f"cvmask: {line}", sys.stderr)

    def end(self, summary: Summary, outputs: Sequence[str], events: str = "") -> None:
        """Say what was done, on stdout; `events` is a line about them."""
        self.close()
        first, *stages = summary.lines()
        where = f" -> {', '.join(outputs)}" if outputs and summary.written else ""
        say(f"{self._name}: {first}{where}")
        for line in ([f"  {events}"] if events else []) + stages:
            say(line)

    def _how_far(self) -> str:
        rate = self._done / max(time.monotonic() - self._began_s, 1e-9)
        if not self._total:
            return f"{self._done} frames, {rate:.1f} a second"
        left_s = max(0, self._total - self._done) / max(rate, 1e-9)
        return f"{self._done} of {self._total} frames, {rate:.1f} a second, {left_s:.0f} s left"


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
        """Show how many bytes have arrived, and of how many if that is known."""
        if self.bar is not None:
            self.bar.total = total_bytes
            self.bar.update(done_bytes - self.bar.n)
            return
        # No output looks like a hang, a line for each block is too much.
        percent = 100 * done_bytes // total_bytes if total_bytes else 0
        now = time.monotonic()
        if percent < self._next_percent and now < self._next_time:
            return
        whole = f" of {size_text(total_bytes)}, {percent} %" if total_bytes else ""
        self.say(f"{self._title}: {size_text(done_bytes)}{whole}")
        self._next_percent = (percent // _STEP_PERCENT + 1) * _STEP_PERCENT
        self._next_time = now + _STEP_S

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.print(line, sys.stderr)


class BatchProgress(Bar):
    """A context whose `advance` fits ``on_progress`` of `cvmask.batch`."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0
        self.shown = False

    def __enter__(self) -> BatchProgress:
        return self

    def advance(self, progress: Progress) -> None:
        """Show parts, frames, rate and time left."""
        if not self.shown:
            self.shown = True
            if progress.dashboard:
                say(f"cvmask: dashboard: {progress.dashboard}", error=True)
            self.show(total=progress.total, unit="unit")
        if progress.waiting:
            self.print(f"cvmask: {progress.waiting}", sys.stderr)
            return
        rate = f"{progress.frames_per_second:.1f} a second, {progress.failed} failed"
        if self.bar is not None:
            self.bar.update(progress.done - self.bar.n)
            self.bar.set_postfix_str(f"{progress.frames} frames, {rate}")
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _STEP_S
            left = "" if progress.left_s is None else f", {time_text(progress.left_s)} left"
            parts = f"{progress.done} of {progress.total} units"
            say(f"cvmask: {parts}, {progress.frames} frames, {rate}{left}", error=True)


def time_text(seconds: float) -> str:
    """Write a duration: ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
