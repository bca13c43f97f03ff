"""How far a run is: a line for each picture, and a bar below them where there is a terminal and tqdm."""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Any


class FrameProgress:
    """A context whose `advance` counts pictures and whose `say` prints lines without breaking the bar."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._bar = _new_bar(total) if total > 1 else None

    def __enter__(self) -> FrameProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, line: str) -> None:
        """Count one picture and print its line on stdout."""
        self._done += 1
        place = f"[{self._done}/{self._total}] " if self._total > 1 and self._bar is None else ""
        self.say(place + line)
        if self._bar is not None:
            self._bar.update()

    def say(self, line: str, error: bool = False) -> None:
        """Print a line, above the bar if there is one."""
        stream = sys.stderr if error else sys.stdout
        if self._bar is not None:
            self._bar.write(line, file=stream)
        else:
            print(line, file=stream, flush=True)


def _new_bar(total: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="picture", file=sys.stderr, dynamic_ncols=True)
