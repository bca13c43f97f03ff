"""Calls that wait for the network and that nobody can interrupt, made where they hold nobody up."""

from __future__ import annotations

import threading
from typing import Any, Callable


class Left(Exception):
    """Whoever waited for a call has been sent home."""


def _keep(result: Any) -> None:
    pass


class Errands:
    """Makes calls, one at a time, in a daemon thread, so that whoever waits for one can leave.

    OpenCV waits for a server as long as its timeouts say, deaf to Ctrl-C and to other threads. After
    `leave` that call goes on alone, lets go of what it got and ends its thread; it holds up neither
    the run nor the end of the program.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._work: Callable[[], Any] | None = None
        self._answer: tuple[Any, BaseException | None] | None = None
        self._busy = self._left = self._gone = False
        self._last: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="cvmask-errands", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Any], undo: Callable[[Any], None] = _keep) -> Any:
        """Make a call and give its result, or raise its error.

        `undo` is called with a result that comes when nobody waits for it any more. Raises `Left` if
        `leave` was called, before or while it waits.
        """
        with self._changed:
            if self._left:
                raise Left
            self._work, self._undo, self._answer = work, undo, None
            self._busy = True
            self._changed.notify_all()
            try:
                while self._answer is None and not self._left:
                    # With a limit, since without one Windows would not hear Ctrl-C.
                    self._changed.wait(1.0)
            except BaseException:
                self._left = True
                self._changed.notify_all()
                raise
            if self._answer is None:
                raise Left
            (result, error), self._answer = self._answer, None
        if error is not None:
            raise error
        return result

    def leave(self, last: Callable[[], None] | None = None) -> None:
        """Send home whoever waits; the first `last` is called after the call that goes on. Any thread may do it."""
        with self._changed:
            first, self._last = self._last is None, self._last or last
            self._left = True
            self._changed.notify_all()
            waiting, gone = not self._busy, self._gone
        if waiting:
            self._thread.join()
        if gone and first and last is not None:  # an interrupt had sent it home before there was a `last`
            last()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work is not None or self._left)
                work, self._work = self._work, None
            if work is None:
                break
            self._make(work)
        with self._changed:
            self._gone, last = True, self._last
        if last is not None:
            last()

    def _make(self, work: Callable[[], Any]) -> None:
        answer: tuple[Any, BaseException | None]
        try:
            answer = work(), None
        except BaseException as error:
            answer = None, error
        with self._changed:
            unwanted = self._left
            self._answer, self._busy = None if unwanted else answer, False
            self._changed.notify_all()
        if unwanted and answer[1] is None:
            self._undo(answer[0])
