"""How far a video is: a bar where there can be one, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from cvmask.cli.progress import Bar
from cvmask.streams.summary import Summary

_EVERY_S = 5.0


class StreamProgress(Bar):
    """Frames, frames a second, time left, and what was found lately; all but the end on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._done, self._total, self._name = 0, 0, ""
        self._began_s = self._told_s = time.monotonic()

    def __enter__(self) -> StreamProgress:
        return self

    def begin(self, name: str, total: int | None) -> None:
        """Start counting; `total` is None where nobody knows."""
        self._name, self._total = name, total or 0
        self._began_s = self._told_s = time.monotonic()
        self.show(total=total, unit="frame", desc=name)

    def advance(self, found: Counter[str]) -> None:
        """Count one frame."""
        self._done += 1
        lately = ", ".join(f"{count} {name}" for name, count in found.most_common(4)) or "nothing found"
        if self.bar is not None:
            self.bar.set_postfix_str(lately, refresh=False)
            self.bar.update()
        elif time.monotonic() - self._told_s >= _EVERY_S:
            self._told_s = time.monotonic()
            self.warn(f"{self._name}: {self._how_far()}, {lately}")

    def warn(self, line: str) -> None:
        """Say a line on stderr."""
        self.print(f"cvmask: {line}", sys.stderr)

    def end(self, summary: Summary, outputs: Sequence[str]) -> None:
        """Say what was done, on stdout."""
        self.close()
        first, *stages = summary.lines()
        where = f" -> {', '.join(outputs)}" if outputs and summary.written else ""
        print(f"{self._name}: {first}{where}", flush=True)
        for line in stages:
            print(line, flush=True)

    def _how_far(self) -> str:
        rate = self._done / max(time.monotonic() - self._began_s, 1e-9)
        if not self._total:
            return f"{self._done} frames, {rate:.1f} a second"
        left_s = max(0, self._total - self._done) / max(rate, 1e-9)
        return f"{self._done} of {self._total} frames, {rate:.1f} a second, {left_s:.0f} s left"
