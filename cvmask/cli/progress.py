"""A bar on stderr where there is a terminal and tqdm, and lines that do not break it."""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Any, TextIO


class Bar:
    """What every progress is made of; as a context manager it takes its bar away at the end.

    Attributes
    ----------
    bar
        tqdm's, once `show` found a terminal and tqdm; None otherwise: in a log file a bar is
        thousands of lines.
    """

    def __init__(self) -> None:
        self.bar: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show(self, **options: Any) -> None:
        """Show a bar with these options of tqdm, if that is possible."""
        if not sys.stderr.isatty():
            return
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        self.bar = tqdm(file=sys.stderr, dynamic_ncols=True, **options)

    def print(self, line: str, stream: TextIO) -> None:
        """Print a line at once, above the bar if there is one."""
        # Sources tell things from threads of their own, while the bar may be closed.
        bar = self.bar
        if bar is not None:
            bar.write(line, file=stream)
        else:
            print(line, file=stream, flush=True)

    def close(self) -> None:
        """Take the bar away; a second call does nothing."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
