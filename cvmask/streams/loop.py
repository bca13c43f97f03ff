"""The threads of a run: reading, inference and writing overlap, in order, and all stop at once."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Protocol

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.streams.conveyor import Conveyor, Stopped
from cvmask.streams.sinks import Sink
from cvmask.streams.sources import Frame, Source
from cvmask.streams.summary import Summary
from cvmask.streams.tracking import Tracker
from cvmask.system.uninterrupted import uninterrupted

Paint = Callable[[NDArray[np.uint8], Detections], NDArray[np.uint8]]
_AHEAD = 3


class Model(Protocol):
    """What finds objects; `clone` is needed for more than one worker."""

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Find the objects of one frame, shape (height, width, 3), BGR."""


@dataclass(frozen=True, eq=False)
class Result:
    """One frame, what was found in it, and the annotated picture.

    `image` has shape (height, width, 3), BGR. Where nothing was found it is the frame's own picture.
    """

    frame: Frame
    detections: Detections
    image: NDArray[np.uint8]


class Run:
    """A run of the loop; `annotate` makes one. Iterate once, over `Result`.

    Attributes
    ----------
    source
        Where the frames come from.
    summary
        Frames and times so far.
    finished
        The outputs that are whole, once it has ended.
    """

    def __init__(
        self,
        source: Source,
        models: Sequence[Model],
        sinks: Sequence[Sink],
        paint: Paint,
        track: bool,
        summary: Summary,
    ) -> None:
        self.source, self.summary = source, summary
        self.finished: list[Sink] = []
        self._models, self._sinks, self._paint = models, sinks, paint
        self._tracker = Tracker() if track else None
        # A live frame grows old in a queue: it is only read when a worker is free for it.
        newest = source.live and getattr(source, "newest", False)
        self._conveyor = Conveyor(2 * len(models) + _AHEAD, len(models) if newest else None)
        self._threads: list[threading.Thread] = []
        self._started = self._ended = self._entered = False

    def __enter__(self) -> Run:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._leave(error)

    def run(self) -> Summary:
        """Go through to the end; what was done."""
        for _ in self:
            pass
        return self.summary

    def __iter__(self) -> Iterator[Result]:
        if self._started:
            raise RuntimeError("a run goes through its source once: call annotate again")
        self._started = True
        error: BaseException | None = None
        # Else an iterator that a program keeps to its end would have Python wait for the threads for ever.
        atexit.register(self._leave)
        try:
            with uninterrupted():
                self._start()  # An interrupt at the end of the block must find the threads.
            while not any(sink.ended for sink in self._sinks):
                result = self._conveyor.take_result()
                if result is None:
                    break
                self._write(result, main_thread=True)
                yield result
        except BaseException as caught:
            error = caught
            raise
        finally:
            atexit.unregister(self._leave)
            self._leave(error)

    def _leave(self, error: BaseException | None = None) -> None:
        """Stop the threads, and finish or discard the outputs."""
        with uninterrupted():
            self._conveyor.stop()
            self.source.close()
            for thread in self._threads:
                thread.join()
            # Python closes an iterator before the error that ended its loop comes out of `with`.
            if not (self._entered and isinstance(error, GeneratorExit)):
                self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Finish or discard the outputs, once."""
        if self._ended:
            return
        self._ended = True
        self.source.close()
        self.summary.dropped = getattr(self.source, "dropped", 0)
        self.summary.end()
        # Outputs raise SinkError: a broken pipe is that of the program's own words, as with `| head`.
        left = isinstance(error, (KeyboardInterrupt, GeneratorExit, BrokenPipeError))
        keep = error is None or left or self.source.live
        failure: BaseException | None = None
        for sink in self._sinks:
            try:
                if keep and not failure:
                    sink.close()
                    self.finished.append(sink)
                else:
                    sink.discard()
            except Exception as caught:
                failure = failure or caught
        if failure is not None and isinstance(error, KeyboardInterrupt):
            error.__cause__ = failure  # It goes on as what it is, and takes along what else is to be told.
        elif failure is not None and (error is None or isinstance(error, GeneratorExit)):
            raise failure

    def _start(self) -> None:
        jobs: list[tuple[str, Callable[[], None]]] = [
            ("read", self._read),
            ("draw", self._draw),
            ("write", self._write_all),
        ]
        jobs += [("detect", lambda model=model: self._detect(model)) for model in self._models]  # type: ignore[misc]
        for name, job in jobs:
            thread = threading.Thread(target=self._guarded, args=(job,), name=f"cvmask-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Stopped:
            pass
        except BaseException as error:
            self._conveyor.stop(error)
            # A reader may wait for a camera or a stream: wake it up.
            with suppress(Exception):
                self.source.close()

    def _read(self) -> None:
        frames = iter(self.source)
        stage = self.summary.stage("read")
        try:
            while True:
                self._conveyor.wait_for_room()
                began = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                stage.add(time.perf_counter() - began)
                self.summary.read += 1
                self._conveyor.put_frame(frame)
        finally:
            frames.close()  # type: ignore[attr-defined]
        self._conveyor.end_frames()

    def _detect(self, model: Model) -> None:
        while True:
            taken = self._conveyor.take_frame()
            if taken is None:
                return
            number, frame = taken
            if frame.taken_at_s is not None:
                self.summary.stage("age").add(time.monotonic() - frame.taken_at_s)
            with self.summary.stage("detect").timed():
                detections = model.detect(frame.image)
            self._conveyor.put_inferred(number, (frame, detections))

    def _draw(self) -> None:
        while (item := self._conveyor.take_inferred()) is not None:
            frame, detections = item
            with self.summary.stage("draw").timed():
                if self._tracker is not None:
                    detections = self._tracker.update(detections)
                image = self._paint(frame.image, detections)
            self._conveyor.put_drawn(Result(frame, detections, image))
        self._conveyor.put_drawn(None)

    def _write_all(self) -> None:
        while (result := self._conveyor.take_drawn()) is not None:
            with self.summary.stage("write").timed():
                self._write(result, main_thread=False)
            self.summary.written += 1
            self._conveyor.put_result(result)
        self._conveyor.put_result(None)

    def _write(self, result: Result, main_thread: bool) -> None:
        for sink in self._sinks:
            if sink.main_thread == main_thread:
                sink.write(result.image, result.frame, result.detections)
