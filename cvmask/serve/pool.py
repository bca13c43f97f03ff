"""Workers with a network each, and one fair queue for them."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.serve.metrics import Metrics


def share(places: int) -> int:
    """Give how many of these places one client may have: half of them, at least one."""
    return max(1, places // 2)


class QueueFullError(Exception):
    """Nothing more can wait."""


@dataclass(eq=False)
class _Job:
    work: Callable[[Worker], Any] | None
    answer: Future[Any]


class Worker:
    """A network of its own; only the thread of this worker uses it."""

    def __init__(self, model: MaskRCNN, metrics: Metrics) -> None:
        self._model, self._metrics = model, metrics
        self._own = model.settings

    def find(self, image: NDArray[np.uint8], asked: Mapping[str, Any], asked_by: str) -> tuple[Detections, float]:
        """Find objects with the model's settings, except those given; return also the seconds it took."""
        self._model.settings = dataclasses.replace(self._own, **asked)
        began = time.perf_counter()
        found = self._model.detect(image)
        spent_s = time.perf_counter() - began
        self._metrics.time(spent_s)
        self._metrics.count("inferences_total", {"by": asked_by})
        return found, spent_s


class Pool:
    """Workers, and a queue in which clients take turns, however much each has queued.

    Parameters
    ----------
    model
        The first worker's; the others get clones.
    workers
        How many.
    depth
        How many pictures may wait; one client may have half of them, at least one.
    """

    def __init__(self, model: MaskRCNN, workers: int, depth: int, metrics: Metrics) -> None:
        self._depth, self._metrics = depth, metrics
        self._lock = threading.Condition()
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._closed = False
        models = [model, *(model.clone() for _ in range(workers - 1))]
        self._threads = [
            threading.Thread(target=self._serve, args=(Worker(one, metrics),), name="cvmask-worker") for one in models
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many pictures wait."""
        with self._lock:
            return sum(map(len, self._queues.values()))

    @property
    def open(self) -> bool:
        """Whether it takes work."""
        return not self._closed

    def submit(self, client: str, work: Callable[[Worker], Any], limited: bool = True) -> Future[Any]:
        """Put work into the queue of a client; cancelling the answer removes the work at once and frees its memory.

        Raises
        ------
        QueueFullError
            If `limited`, and all or this client's places are taken; or the pool is closed.
        """
        job = _Job(work, Future())
        with self._lock:
            mine = self._queues.get(client, ())
            full = sum(map(len, self._queues.values())) >= self._depth or len(mine) >= share(self._depth)
            if self._closed or (limited and full):
                raise QueueFullError
            self._queues.setdefault(client, deque()).append(job)
            self._lock.notify()
        job.answer.add_done_callback(lambda _: self._leave(client, job))
        return job.answer

    def wait_s(self) -> float:
        """Estimate how long new work waits."""
        return self.waiting * self._metrics.mean_s / len(self._threads)

    def close(self) -> None:
        """Finish the running jobs and cancel the waiting ones."""
        with self._lock:
            self._closed = True
            waiting = [job for queue in self._queues.values() for job in queue]
            self._queues.clear()
            self._lock.notify_all()
        for job in waiting:
            job.answer.cancel()
        for thread in self._threads:
            thread.join()

    def _leave(self, client: str, job: _Job) -> None:
        """Free the picture and other data of an ended job, and remove it from the queue if it is there."""
        job.work = None
        with self._lock:
            queue = self._queues.get(client)
            if queue is not None and job in queue:
                queue.remove(job)
                if not queue:
                    del self._queues[client]

    def _serve(self, worker: Worker) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            if not job.answer.set_running_or_notify_cancel():
                continue
            try:
                assert job.work is not None
                job.answer.set_result(job.work(worker))
            except BaseException as error:
                job.answer.set_exception(error)

    def _next(self) -> _Job | None:
        with self._lock:
            self._lock.wait_for(lambda: self._queues or self._closed)
            if self._closed:
                return None
            client, queue = self._queues.popitem(last=False)
            job = queue.popleft()
            if queue:
                # To the end of the queue: other clients that wait come first.
                self._queues[client] = queue
            return job


_T = TypeVar("_T")


async def within(seconds: float, awaitable: Awaitable[_T]) -> _T:
    """Give the result; asyncio.TimeoutError if it takes longer.

    Unlike `asyncio.wait_for` before Python 3.12 it never swallows a cancellation that comes in the same
    moment as the result; an error that comes in that moment is dropped, and asyncio does not print it.
    """
    task = asyncio.ensure_future(awaitable)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done() or task.cancelled():
        raise asyncio.TimeoutError
    return task.result()
