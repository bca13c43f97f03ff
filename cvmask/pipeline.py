"""The one loop: source -> model -> draw -> sinks. Reading, inference and writing overlap."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from cvmask.conveyor import Conveyor, Stopped
from cvmask.detections import Detections
from cvmask.draw import draw
from cvmask.errors import SourceError
from cvmask.sinks import Sink, open_sink
from cvmask.sources import Frame, Source, open_source
from cvmask.sources.base import Notify, ignore
from cvmask.summary import Summary
from cvmask.tracking import Tracker

Place = Union[str, int, "os.PathLike[str]"]
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


def annotate(
    source: Source | Place,
    model: Model,
    *,
    outputs: Sequence[Sink | Place] = (),
    style: Mapping[str, Any] | None = None,
    paint: Paint | None = None,
    track: bool = False,
    workers: int = 1,
    on_message: Notify = ignore,
    on_error: Callable[[SourceError], None] | None = None,
    **source_options: Any,
) -> Run:
    """Annotate everything that a source gives.

    Iterate over it for each `Result`, or call `Run.run` to have it done; nothing is read before.

    >>> for result in cvmask.annotate("street.mp4", model, outputs=["out.mp4", "out.jsonl"]):
    ...     print(result.frame.time_s, len(result.detections))

    Parameters
    ----------
    source
        A source, or whatever `open_source` takes; `source_options` go there.
    model
        Has ``detect``, and ``clone`` if there is more than one worker.
    outputs
        Sinks, or whatever `open_sink` takes. They are finished when the loop ends, is left or is
        interrupted; after an error those of files are discarded, those of live sources finished.
    style
        Arguments for `draw`; labels and mask threshold are the model's unless they are here.
    paint
        Makes the picture from the frame's own and what was found, shape (height, width, 3), BGR, such
        as a function of `cvmask.effects`. None: `draw` does.
    track
        Give each object an id that it keeps.
    workers
        How many clones of the model work at the same time on consecutive frames.
    on_message
        Called with one line for whatever the user should know; from any thread.
    on_error
        Called for each picture that cannot be read; None: the first one ends the run.

    Raises
    ------
    SourceError, SinkError
        If the source or an output cannot be opened. While it runs, whatever goes wrong anywhere is
        raised once, from the iteration, and nothing goes on behind it.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    summary = Summary()
    source = _opened(source, summary, on_message, on_error, source_options)
    sinks: list[Sink] = []
    try:
        labels = getattr(model, "labels", None)
        for output in outputs:
            sink = output if isinstance(output, Sink) else None
            sinks.append(sink or open_sink(str(output), source=source, labels=labels, on_message=on_message))
        models = [model, *(model.clone() for _ in range(workers - 1))]  # type: ignore[attr-defined]
    except BaseException:
        source.close()
        for sink in sinks:
            sink.discard()
        raise
    settings = getattr(model, "settings", None)
    threshold = {} if settings is None else {"mask_threshold": settings.mask_threshold}
    paint = paint or _drawing({"labels": labels, **threshold, **(style or {})})
    return Run(source, models, sinks, paint, track, summary)


def _drawing(style: Mapping[str, Any]) -> Paint:
    def paint(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        return draw(image, detections, **style) if len(detections) else image

    return paint


class Run:
    """A run of the loop; `annotate` makes one. Iterate once, over `Result`.

    Attributes
    ----------
    source
        Where the frames come from.
    summary
        Frames and times so far.
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
        self._models, self._sinks, self._paint = models, sinks, paint
        self._tracker = Tracker() if track else None
        # A live frame grows old in a queue: it is only read when a worker is free for it.
        newest = source.live and getattr(source, "newest", False)
        self._conveyor = Conveyor(2 * len(models) + _AHEAD, len(models) if newest else None)
        self._started = self._ended = False

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

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
        threads = self._start()
        try:
            while not any(sink.ended for sink in self._sinks):
                result = self._conveyor.take_result()
                if result is None:
                    break
                self._write(result, main_thread=True)
                yield result
        except GeneratorExit:
            raise
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._conveyor.stop()
            self.source.close()
            for thread in threads:
                thread.join()
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Finish or discard the outputs, once."""
        if self._ended:
            return
        self._ended = True
        self.source.close()
        self.summary.dropped = getattr(self.source, "dropped", 0)
        self.summary.end()
        keep = error is None or isinstance(error, (KeyboardInterrupt, GeneratorExit)) or self.source.live
        failure: BaseException | None = None
        for sink in self._sinks:
            try:
                (sink.close if keep and not failure else sink.discard)()
            except Exception as caught:
                failure = failure or caught
        if failure is not None and error is None:
            raise failure

    def _start(self) -> list[threading.Thread]:
        jobs: list[tuple[str, Callable[[], None]]] = [("read", self._read), ("write", self._draw_and_write)]
        jobs += [("detect", lambda model=model: self._detect(model)) for model in self._models]  # type: ignore[misc]
        threads = [
            threading.Thread(target=self._guarded, args=(job,), name=f"cvmask-{name}") for name, job in jobs
        ]
        for thread in threads:
            thread.start()
        return threads

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

    def _draw_and_write(self) -> None:
        while True:
            item = self._conveyor.take_inferred()
            if item is None:
                return
            frame, detections = item
            with self.summary.stage("draw").timed():
                if self._tracker is not None:
                    detections = self._tracker.update(detections)
                image = self._paint(frame.image, detections)
            result = Result(frame, detections, image)
            with self.summary.stage("write").timed():
                self._write(result, main_thread=False)
            self.summary.written += 1
            self._conveyor.put_result(result)

    def _write(self, result: Result, main_thread: bool) -> None:
        for sink in self._sinks:
            if sink.main_thread == main_thread:
                sink.write(result.image, result.frame, result.detections)


def _opened(
    source: Source | Place,
    summary: Summary,
    on_message: Notify,
    on_error: Callable[[SourceError], None] | None,
    options: Mapping[str, Any],
) -> Source:
    if isinstance(source, Source):
        if options:
            raise TypeError(f"{', '.join(options)}: give these to open_source, the source is open already")
        return source

    def count(error: SourceError) -> None:
        summary.failed += 1
        assert on_error is not None
        on_error(error)

    return open_source(source, on_message=on_message, on_error=count if on_error else None, **options)
