"""The threads of a run: reading, inference and writing overlap, in order, and all stop at once."""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError, SourceError
from cvmask.results.detections import Detections
from cvmask.streams.bridge import Bridge
from cvmask.streams.follow import Every
from cvmask.streams.keyframes import Carrier, longest, plan
from cvmask.streams.live_masks import Follower, Model
from cvmask.streams.sinks import Sink, Window
from cvmask.streams.sinks.image_sink import encode_image, write_image
from cvmask.streams.smooth import Smoother
from cvmask.streams.sources import Frame, Source
from cvmask.streams.summary import Summary
from cvmask.streams.tracking import MAX_GAP, Tracker
from cvmask.system.interrupts import Stopped, deferred_signals, stopped_by


class FrameQueue:
    """One lock for all threads of a run.

    The reader adds numbered frames, workers take them and put back their detections. Results are drawn and
    written in the order of reading, and the caller takes them.
    The caller may be interrupted at any line, and must not hold a lock then. So it shares only two queues with
    the other threads: results, and tickets for frames to be read.

    Parameters
    ----------
    depth
        The most frames between reading and the caller.
    busy_limit
        The most frames between reading and the end of inference: the reader takes the next frame only when a
        worker is free for it. None: no such limit. It may change.
    """

    def __init__(self, depth: int, busy_limit: int | None = None) -> None:
        self.busy_limit = busy_limit
        # One for each kind of waiter, on one lock: each change wakes only the threads it concerns.
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
        with self._room:
            self._wait(self._room, lambda: self.busy_limit is None or self._read - self._inferred < self.busy_limit)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Make the reader wait for the result of an inference."""
        with self._room:
            self._wait(self._room, ready)

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
        """Put back the result of a frame."""
        with self._lock:
            self._done[number] = item
            self._inferred += 1
            self._inferences.notify()
            self._room.notify()

    def take_inferred(self) -> Any:
        """Take the result of the next frame in order; None after the last."""
        with self._inferences:
            self._wait(
                self._inferences,
                lambda: self._ordered in self._done or (self._all_read and self._ordered == self._read),
            )
            item = self._done.pop(self._ordered, None)
            self._ordered += item is not None
            return item

    def put_drawn(self, result: Any) -> None:
        """Add a result to be written; None after the last."""
        self._drawn.put(result)

    def take_drawn(self) -> Any:
        """Take the next result to be written; None after the last."""
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
        """End the run for every thread; the first error is kept."""
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


Paint = Callable[[NDArray[np.uint8], Detections], NDArray[Any]]
_AHEAD = 3
# Frames of a live source that may wait to be followed, which takes a moment: a hiccup costs none.
_MOST_FOLLOWED = 3
# Objects that are missed are filled in for up to a second.
_MOST_BRIDGED, _USUAL_RATE = 60, 25


def longest_gap(source: Source, models: Sequence[Model], bridge: bool) -> int:
    """For how many frames an object may be missing and keep its id."""
    # An object that the network misses is missing in all frames to which its result is carried.
    return _a_second(source) if bridge or isinstance(models[0], Follower) else MAX_GAP


def _a_second(source: Source) -> int:
    return min(_MOST_BRIDGED, max(1, round(source.frame_rate or _USUAL_RATE)))


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One frame, its detections, and the annotated picture.

    `image` has shape (height, width, 3), BGR. If nothing was found, it is the frame's own picture.
    """

    frame: Frame
    detections: Detections
    image: NDArray[np.uint8]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the annotated picture in the format of the path's ending; SinkError if that fails."""
        write_image(path, self.image, self.frame.metadata)

    def show(self) -> None:
        """Show the annotated picture in a window until a key is pressed; SinkError where no window can be shown."""
        with Window(self.frame.name, hold=True) as window:
            window.write(self.image, self.frame)

    def __repr__(self) -> str:
        return f"<Result: frame {self.frame.index} of {self.frame.name}, {self.detections!r}>"

    def _repr_png_(self) -> bytes | None:
        """Show the picture in a notebook."""
        return encode_image(".png", self.image)


class Run:
    """A run of the loop; `annotate` makes one. Iterate once, over `Result`.

    Attributes
    ----------
    source
        Where the frames come from.
    summary
        Frames and times so far.
    finished
        The complete outputs, once the run has ended.
    """

    def __init__(
        self,
        source: Source,
        models: Sequence[Model],
        sinks: Sequence[Sink],
        paint: Paint,
        track: bool,
        summary: Summary,
        detect_every: Every = 1,
        mask_threshold: float | None = None,
        bridge: bool | Callable[[], bool] = False,
        smooth: bool = False,
    ) -> None:
        self.source, self.summary = source, summary
        self.finished: list[Sink] = []
        self._models, self._sinks, self._paint = models, sinks, paint
        self._follower = models[0] if isinstance(models[0], Follower) else None
        gap = _a_second(source) if bridge else 0
        wanted = bridge if callable(bridge) else lambda: True
        self._bridge = Bridge(gap, source.live, mask_threshold, wanted) if bridge else None
        self._tracker = Tracker(max_gap=longest_gap(source, models, bool(bridge))) if track or bridge else None
        self._smoother = Smoother(covering=bool(bridge)) if smooth else None
        self._every, self._threshold = detect_every, mask_threshold
        self._carrier = Carrier(mask_threshold)
        self._last_key = 0
        self._found: dict[int, Detections] = {}
        held = 0 if detect_every == 1 else (len(models) + 1) * longest(detect_every)
        held += gap
        # A live frame grows old in a queue: it is only read when a worker is free for it.
        newest = source.live and source.newest
        self._queue = FrameQueue(2 * len(models) + _AHEAD + held, len(models) if newest else None)
        self._threads: list[threading.Thread] = []
        self._started = self._ended = self._entered = False
        self._source_error: SourceError | None = None

    def __enter__(self) -> Run:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._leave(error)

    def __del__(self) -> None:
        if not getattr(self, "_started", True) and not self._ended:
            warnings.warn(
                "annotate did nothing: iterate over what it gives, or call its run()", ResourceWarning, stacklevel=2
            )

    def __repr__(self) -> str:
        state = "ended" if self._ended else "running" if self._started else "not begun"
        return f"<Run of {self.source!r}: {state}, {self.summary.written} frames>"

    def run(self) -> Summary:
        """Run to the end and return the summary."""
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
            with deferred_signals():
                self._start()  # An interrupt at the end of the block must find the threads.
            while not any(sink.ended for sink in self._sinks):
                result = self._queue.take_result()
                if result is None:
                    break
                self._write(result, main_thread=True)
                yield result
            else:
                return
            if self._source_error is not None and not self._queue.stopped:
                raise self._source_error
        except BaseException as caught:
            error = caught
            raise
        finally:
            atexit.unregister(self._leave)
            self._leave(error)

    def _leave(self, error: BaseException | None = None) -> None:
        """Stop the threads, and finish or discard the outputs."""
        with deferred_signals():
            self._stop()
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
        self.summary.dropped = self.source.dropped
        self.summary.lost = self.source.lost
        self.summary.in_flight = self.summary.read - self.summary.written - self.summary.refused
        self.summary.ended_by = _ended_by(error)
        self.summary.end()
        # Outputs raise SinkError, so a broken pipe is the program's own standard output, as with `| head`.
        left = isinstance(error, (KeyboardInterrupt, GeneratorExit, BrokenPipeError))
        keep = error is None or left or self.source.live
        failure: BaseException | None = None
        for sink in self._sinks:
            try:
                if keep:
                    sink.close()
                    self.finished.append(sink)
                else:
                    sink.discard()
            except Exception as caught:
                failure = failure or caught
        if failure is not None and isinstance(error, KeyboardInterrupt):
            error.__cause__ = failure  # The interrupt is raised on, with the failure as its cause.
        elif failure is not None and (error is None or isinstance(error, GeneratorExit)):
            raise failure

    def _start(self) -> None:
        jobs: list[tuple[str, Callable[[], None]]] = [
            ("read", self._read),
            ("draw", self._draw),
            ("write", self._write_all),
        ]
        jobs += [("detect", partial(self._detect, model)) for model in self._models]
        if self._follower is not None:
            stage = self.summary.stage("detect")
            jobs += [("network", partial(self._follower.work, model, stage)) for model in self._follower.models]
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
            self._stop(error)
            # A reader may wait for a camera or a stream: wake it up.
            with suppress(Exception):
                self.source.close()

    def _stop(self, error: BaseException | None = None) -> None:
        self._queue.stop(error)
        if self._follower is not None:
            self._follower.end()

    def _read(self) -> None:
        frames = iter(self.source)
        planned = plan(self._counted(frames), self._every, self._found_in_last_key, self._threshold)
        number = 0
        try:
            while True:
                self._queue.wait_for_room()
                seen = next(planned, None)
                if seen is None:
                    break
                if seen.key:
                    self._last_key = number
                number += 1
                self._queue.put_frame(seen)
        finally:
            frames.close()  # type: ignore[attr-defined]
        self._queue.end_frames()

    def _counted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        stage = self.summary.stage("read")
        while True:
            began = time.perf_counter()
            try:
                frame = next(frames, None)
            except SourceError as error:  # frames read before a camera was unplugged are still finished
                self._source_error = error
                return
            if frame is None:
                return
            stage.add(time.perf_counter() - began)
            self.summary.read += 1
            yield frame

    def _found_in_last_key(self) -> Detections:
        """Wait for the network's detections in the key frame that was read last."""
        self._queue.wait_for(lambda: self._last_key in self._found)
        found = self._found[self._last_key]
        self._found.clear()
        return found

    def _detect(self, model: Model) -> None:
        while (taken := self._queue.take_frame()) is not None:
            number, seen = taken
            detections = None
            if seen.key:
                if seen.frame.taken_at_s is not None:
                    self.summary.stage("age").add(time.monotonic() - seen.frame.taken_at_s)
                with self.summary.stage("detect" if self._follower is None else "follow").timed():
                    detections = model.detect(seen.frame.image)
                if self._every == "auto":
                    self._found[number] = detections
            if self._follower is not None:
                self._queue.busy_limit = 1 if self._follower.waited else _MOST_FOLLOWED
            self._queue.put_inferred(number, (seen, detections))

    def _draw(self) -> None:
        while (item := self._queue.take_inferred()) is not None:
            for frame, detections in self._carrier.push(*item):
                if self._tracker is not None:
                    detections = self._tracker.update(detections)
                if self._smoother is not None:
                    detections = self._smoother.update(frame.image, detections)
                if self._bridge is None:
                    self._draw_each(((frame, detections),))
                else:
                    self._draw_each(self._bridge.push(frame, detections))
        if self._bridge is not None:
            self._draw_each(self._bridge.end())
        self._end_networks()
        self._queue.put_drawn(None)

    def _end_networks(self) -> None:
        """Wait until the networks of a live source have stopped: their errors still end the run."""
        if self._follower is not None:
            self._follower.end()
            for thread in list(self._threads):
                if thread.name == "cvmask-network":
                    thread.join()

    def _draw_each(self, found: Iterable[tuple[Frame, Detections]]) -> None:
        for frame, detections in found:
            # A frame may hold thousands of objects.
            with self.summary.stage("draw").timed(), stopped_by(lambda: self._queue.stopped):
                image = self._paint(frame.image, detections)
            if self._bridge is not None:
                self.summary.bridged = self._bridge.count
            self._queue.put_drawn(Result(frame, detections, image))

    def _write_all(self) -> None:
        while (result := self._queue.take_drawn()) is not None:
            # A video of constant rate may have to repeat a frame for a minute.
            with self.summary.stage("write").timed(), stopped_by(lambda: self._queue.stopped):
                self._write(result, main_thread=False)
            self.summary.written += 1
            self.summary.carried += result.detections.carried > 0
            self._queue.put_result(result)
        self._queue.put_result(None)

    def _write(self, result: Result, main_thread: bool) -> None:
        """Give a frame to every output. If one fails, the others still get it; then its error is raised."""
        refusal: Exception | None = None
        for sink in self._sinks:
            if sink.main_thread == main_thread:
                try:
                    sink.write(result.image, result.frame, result.detections)
                except Stopped:
                    raise
                except Exception as error:
                    refusal = refusal or error
        if refusal is not None:
            self.summary.refused += not main_thread
            raise refusal


def _ended_by(error: BaseException | None) -> str:
    """Return what ended a run while frames were in flight."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SinkError):
        return "an output failed"
    return "it was left" if error is None or isinstance(error, GeneratorExit) else "an error came"
