"""How far a video is: a bar where there is a terminal and tqdm, a line now and then where not."""

from __future__ import annotations

import importlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from cvmask.summary import Summary

_EVERY_S = 5.0


class StreamProgress:
    """Frames, frames a second, time left, and what was found lately; all but the end on stderr."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._done, self._total, self._name = 0, 0, ""
        self._began_s = self._told_s = time.monotonic()

    def __enter__(self) -> StreamProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def begin(self, name: str, total: int | None) -> None:
        """Start counting; `total` is None where nobody knows."""
        self._name, self._total = name, total or 0
        self._began_s = self._told_s = time.monotonic()
        if sys.stderr.isatty():
            try:
                tqdm = importlib.import_module("tqdm").tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="frame", file=sys.stderr, dynamic_ncols=True, desc=name)

    def advance(self, found: Counter[str]) -> None:
        """Count one frame."""
        self._done += 1
        lately = ", ".join(f"{count} {name}" for name, count in found.most_common(4)) or "nothing found"
        if self._bar is not None:
            self._bar.set_postfix_str(lately, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._told_s >= _EVERY_S:
            self._told_s = time.monotonic()
            print(f"cvmask: {self._name}: {self._how_far()}, {lately}", file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Say a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(f"cvmask: {line}", file=sys.stderr)
        else:
            print(f"cvmask: {line}", file=sys.stderr, flush=True)

    def end(self, summary: Summary, outputs: Sequence[str]) -> None:
        """Say what was done, on stdout."""
        self._close_bar()
        first, *stages = summary.lines()
        print(f"{self._name}: {first}" + (f" -> {', '.join(outputs)}" if outputs else ""), flush=True)
        for line in stages:
            print(line, flush=True)

    def _how_far(self) -> str:
        rate = self._done / max(time.monotonic() - self._began_s, 1e-9)
        if not self._total:
            return f"{self._done} frames, {rate:.1f} a second"
        left_s = max(0, self._total - self._done) / max(rate, 1e-9)
        return f"{self._done} of {self._total} frames, {rate:.1f} a second, {left_s:.0f} s left"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
