"""The base class of every output."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from queue import SimpleQueue
from types import TracebackType
from typing import Callable

from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.streams.sources.source import Frame


class Sink(ABC):
    """Takes results, one a frame, in order.

    As a context manager it finishes when the block ends well or is interrupted (KeyboardInterrupt),
    and discards when the block ends in another exception.

    Attributes
    ----------
    name
        What messages call it.
    ended
        Set by an output that takes no more frames, such as a closed window.
    main_thread
        Whether it must be called from the main thread, as windows must.
    """

    name: str = ""
    ended: bool = False
    main_thread: bool = False

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.discard()

    @abstractmethod
    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Take one result.

        Parameters
        ----------
        image
            The annotated picture, shape (height, width, 3), BGR.
        frame
            The source frame, for its index, time and name. None: the next frame, without a time.
        detections
            The detections of the frame.

        Raises
        ------
        SinkError
            If it cannot be written; later calls fail too.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish: the output is whole, or SinkError says why not. A second call does nothing."""

    def discard(self) -> None:
        """End without an output if possible: unfinished files are removed."""
        self.close()


class Clock:
    """Gives frames rising times: their own, from the first frame on, or times by the frame rate if they have none."""

    def __init__(self, rate: Fraction) -> None:
        self._step_s = float(1 / rate)
        self._first_s: float | None = None
        self._last_s = -self._step_s

    def time(self, frame: Frame | None) -> float:
        """Give the seconds since the first frame, always more than those of the one before."""
        due_s = self._last_s + self._step_s
        if frame is None or frame.time_s is None:
            time_s = due_s
        else:
            self._first_s = frame.time_s if self._first_s is None else self._first_s
            time_s = frame.time_s - self._first_s
        self._last_s = time_s if time_s > self._last_s else due_s
        return self._last_s


Job = Callable[[], None]


class Background:
    """Runs one job at a time in a thread of its own, while its owner goes on.

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
        """Wait for the job before, raise its error if it had one, and begin this one."""
        self.wait()
        self._busy = True
        self._jobs.put(job)

    def wait(self) -> None:
        """Wait until all jobs are done; raise the error if there was one, once."""
        if self._busy:
            self._busy = False
            error = self._outcomes.get()
            if error is not None:
                raise error

    def end(self) -> None:
        """Finish the current job and end the thread; a second call does nothing."""
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


FileId = tuple[int, int]


def file_id(path: str | os.PathLike[str]) -> FileId | None:
    """Return a key that is the same for all names of one file; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: an address with a null character
        return None
    return found.st_dev, found.st_ino


def file_ids(paths: Iterable[str | os.PathLike[str]]) -> frozenset[FileId]:
    """Return those of the files that exist."""
    return frozenset(filter(None, map(file_id, paths)))
