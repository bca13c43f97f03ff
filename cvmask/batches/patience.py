"""Limit how long a batch waits without progress: Ray retries for ever, and says why only on request."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

from cvmask.errors import CvmaskError

_LOOK_S = 0.5
_END_S = 5.0
_SAY_S = 60.0
_GIVE_UP_S = 300.0
_LEAST_KILLS = 5
# Ray: "2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: ...)
# was 110.69GB / 124.35GB (0.890161)".
_KILLS = re.compile(r"(\d+) worker\(s\) were killed due to the node running low on memory")
_MEMORY = re.compile(r"\(IP: ([^,\s)]+)[^)]*\) was ([\d.]+ ?\w?B)\D* / ([\d.]+ ?\w?B)")


class Patience:
    """Counts the seconds without progress, and keeps Ray's messages since then.

    Parameters
    ----------
    say
        Called about every minute without progress, with a line that says why.
    workers
        The number of workers, to propose fewer.
    """

    def __init__(self, say: Callable[[str], None], workers: int) -> None:
        self._say, self._workers = say, workers
        self._lock = threading.Lock()
        self.renew()

    def rows(self, data: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a Ray dataset as they come.

        A thread waits for them, because Ray's own loop hangs too if the machine is short of memory.
        """
        came: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def wait() -> None:
            try:
                for row in data.iter_rows():
                    came.put((row, None))
                came.put((None, None))
            except BaseException as error:
                came.put((None, error))

        global _over
        _over = over = threading.Event()
        waiting = threading.Thread(target=wait, name="StreamingExecutor-rows", daemon=True)
        waiting.start()
        try:
            while True:
                try:
                    row, error = came.get(timeout=_LOOK_S)
                except queue.Empty:
                    self.check()
                    continue
                if error is not None:
                    raise error
                if row is None:
                    return
                yield row
        finally:
            over.set()
            _over = None
            waiting.join(_END_S)

    def renew(self) -> None:
        """Note progress."""
        with self._lock:
            self._since = self._told = time.monotonic()
            self._kills, self._memory, self._heard = 0, "", ""

    def hear(self, text: str) -> None:
        """Keep a message of Ray."""
        with self._lock:
            killed, memory = _KILLS.search(text), _MEMORY.search(text)
            if killed:
                self._kills += int(killed[1])
                self._memory = f" ({memory[2]} of {memory[3]} are used on {memory[1]})" if memory else ""
            self._heard = " ".join(text.split())[:200]

    def check(self) -> None:
        """Report the reason for waiting; CvmaskError if waiting is useless."""
        with self._lock:
            now = time.monotonic()
            waited_s = now - self._since
            line = f"no part was finished for {waited_s:.0f} s"
            if self._kills:
                line += f", Ray ended workers for lack of memory, {self._kills} so far{self._memory}: {self._cure()}"
            elif self._heard:
                line += f", Ray says: {self._heard}"
            if self._kills >= _LEAST_KILLS and waited_s >= _GIVE_UP_S:
                raise CvmaskError(line)
            if not self._heard or now - self._told < _SAY_S:
                return
            self._told = now
        self._say(line)

    def _cure(self) -> str:
        if self._workers > 1:
            return f"give fewer --workers, now {self._workers}"
        return "one worker needs more: close other programs, or give --part-frames or --size less"


# The current one, kept here because the context that Ray Data copies cannot hold it.
_over: threading.Event | None = None


class _Steps(ExecutionCallback):  # type: ignore[misc]
    """Ends an execution of Ray Data whose rows are no longer wanted; Ray Data creates it and calls it at each step."""

    def __init__(self) -> None:
        self._over = _over

    def on_execution_step(self, executor: Any) -> None:
        if self._over is not None and self._over.is_set():
            raise CvmaskError("the batch is over")


@contextmanager
def patience(say: Callable[[str], None], workers: int) -> Iterator[Patience]:
    """Listen to Ray and bound its patience, in this process, while the block runs; see `Patience`."""
    context, worker = DataContext.get_current(), ray._private.worker
    before, printed = context.custom_execution_callback_classes, worker.print_to_stdstream
    watch = Patience(say, workers)

    def hear(data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        watch.hear("\n".join(map(str, data.get("lines", ()))))
        printed(data, *args, **kwargs)

    worker.print_to_stdstream = hear
    context.custom_execution_callback_classes = [*before, _Steps]
    try:
        yield watch
    finally:
        context.custom_execution_callback_classes = before
        worker.print_to_stdstream = printed
