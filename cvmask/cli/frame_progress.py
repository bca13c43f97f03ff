"""How far a run over pictures is: a line for each, and a bar below them where there can be one."""

from __future__ import annotations

import sys

from cvmask.cli.progress import Bar


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
        """Print a line, on stderr if it is of an error."""
        self.print(line, sys.stderr if error else sys.stdout)
