"""One job at a time in a thread of its own."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Callable

Job = Callable[[], None]


class Background:
    """Does what it is handed in a thread of its own, while its owner goes on.

    One thread at a time may call it. It ends with `end`, or when its owner is gone, and does not keep the
    program from ending.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        self._busy = False
        queues = (self._jobs, self._outcomes)
        self._thread = threading.Thread(target=_work, args=queues, name=name, daemon=True)
        self._thread.start()

    def hand(self, job: Job) -> None:
        """Wait for the job before, raise what went wrong with it, and begin this one."""
        self.wait()
        self._busy = True
        self._jobs.put(job)

    def wait(self) -> None:
        """Wait until nothing is left to do; raise what went wrong, once."""
        if self._busy:
            self._busy = False
            error = self._outcomes.get()
            if error is not None:
                raise error

    def end(self) -> None:
        """Finish what was begun, and end the thread; a second call does nothing."""
        self._jobs.put(None)
        self._thread.join()

    def __del__(self) -> None:
        self._jobs.put(None)


def _work(jobs: SimpleQueue[Job | None], outcomes: SimpleQueue[BaseException | None]) -> None:
    while (job := jobs.get()) is not None:
        error: BaseException | None = None
        try:
            job()
        except BaseException as caught:
            error = caught
        del job
        outcomes.put(error)
