"""How frames pass between the threads of a run: in order, never too many, and all stop at once."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Any, Callable


class Stopped(Exception):
    """The run is over: whoever waits, goes home."""


class Conveyor:
    """One lock for all threads of a run.

    The reader puts frames on it, workers take them and put back what they made of them, that is drawn
    in the order of reading and written, the caller takes the results. Frames carry their number.
    The caller may be interrupted at any line, and must not keep a lock then: it meets the others in
    two queues alone, of results and of tickets for frames to be read.

    Parameters
    ----------
    depth
        At most so many frames between reading and the caller.
    busy_limit
        At most so many frames between reading and the end of inference: the reader takes the next
        one only when a worker is free for it. None: no such limit.
    """

    def __init__(self, depth: int, busy_limit: int | None = None) -> None:
        self._busy_limit = busy_limit
        # One for each kind of waiter, on one lock: each change wakes only whom it concerns.
        self._lock = threading.Lock()
        self._room, self._frames, self._inferences = (threading.Condition(self._lock) for _ in range(3))
        self._work: deque[tuple[int, Any]] = deque()
        self._done: dict[int, Any] = {}
        self._drawn: SimpleQueue[Any] = SimpleQueue()
        self._results: SimpleQueue[Any] = SimpleQueue()
        self._tickets: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._tickets.put(None)
        self._read = self._inferred = self._ordered = 0
        self._all_read = False
        self.stopped = False
        self.error: BaseException | None = None

    def wait_for_room(self) -> None:
        """Wait until another frame may be read."""
        self._tickets.get()
        limit = self._busy_limit
        with self._room:
            self._wait(self._room, lambda: limit is None or self._read - self._inferred < limit)

    def put_frame(self, frame: Any) -> None:
        """Add the next frame."""
        with self._lock:
            self._work.append((self._read, frame))
            self._read += 1
            self._frames.notify()

    def end_frames(self) -> None:
        """No frame follows."""
        with self._lock:
            self._all_read = True
            self._wake_all()

    def take_frame(self) -> tuple[int, Any] | None:
        """Take the next frame and its number; None after the last."""
        with self._frames:
            self._wait(self._frames, lambda: self._work or self._all_read)
            return self._work.popleft() if self._work else None

    def put_inferred(self, number: int, item: Any) -> None:
        """Put back what was made of a frame."""
        with self._lock:
            self._done[number] = item
            self._inferred += 1
            self._inferences.notify()
            if self._busy_limit is not None:
                self._room.notify()

    def take_inferred(self) -> Any:
        """Take what was made of the next frame in order; None after the last."""
        with self._inferences:
            self._wait(
                self._inferences,
                lambda: self._ordered in self._done or (self._all_read and self._ordered == self._read),
            )
            item = self._done.pop(self._ordered, None)
            self._ordered += item is not None
            return item

    def put_drawn(self, result: Any) -> None:
        """Add what is to be written; None after the last."""
        self._drawn.put(result)

    def take_drawn(self) -> Any:
        """Take what is to be written next; None after the last."""
        result = self._drawn.get()
        if self.stopped:
            raise Stopped
        return result

    def put_result(self, result: Any) -> None:
        """Add a result for the caller; None after the last."""
        self._results.put(result)

    def take_result(self) -> Any:
        """Take the next result; None after the last. Raises the error of any thread."""
        result = self._results.get()
        if self.stopped and self.error is not None:
            raise self.error
        if self.stopped or result is None:
            return None
        self._tickets.put(None)
        return result

    def stop(self, error: BaseException | None = None) -> None:
        """End the run for every thread; the first error is the one that counts."""
        with self._lock:
            if not self.stopped:
                self.stopped, self.error = True, error
            self._wake_all()
        for queue in (self._tickets, self._drawn, self._results):
            queue.put(None)

    def _wake_all(self) -> None:
        for waiter in (self._room, self._frames, self._inferences):
            waiter.notify_all()

    def _wait(self, waiter: threading.Condition, ready: Callable[[], Any]) -> None:
        waiter.wait_for(lambda: self.stopped or ready())
        if self.stopped:
            raise Stopped
