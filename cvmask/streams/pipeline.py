"""The one loop: source -> model -> draw -> sinks, opened by name and put together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Union

import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.draw import draw
from cvmask.errors import SourceError
from cvmask.results.arrays import whole_number
from cvmask.results.detections import Detections
from cvmask.streams.events import Events, OnEvent
from cvmask.streams.follow import Every, check_every
from cvmask.streams.live_masks import Follower, Model
from cvmask.streams.loop import Paint, Run, longest_gap
from cvmask.streams.sinks import Sink, open_all
from cvmask.streams.sources import Source, open_source
from cvmask.streams.sources.source import Notify, ignore
from cvmask.streams.summary import Summary

Location = Union[str, int, "os.PathLike[str]"]


def annotate(
    source: Source | Location,
    model: Model,
    *,
    outputs: Sequence[Sink | Location] | Sink | Location = (),
    style: Mapping[str, Any] | None = None,
    paint: Paint | None = None,
    track: bool = False,
    workers: int = 1,
    detect_every: Every = 1,
    bridge: bool | Callable[[], bool] = False,
    smooth: bool = False,
    on_event: OnEvent | None = None,
    on_message: Notify = ignore,
    on_error: Callable[[SourceError], None] | None = None,
    **source_options: Any,
) -> Run:
    """Annotate everything that a source gives.

    Iterate over the run for each `Result`, or call `Run.run` to do it all; nothing is read before that.

    >>> for result in cvmask.annotate("street.mp4", model, outputs=["out.mp4", "out.jsonl"]):
    ...     print(result.frame.time_s, len(result.detections))

    Parameters
    ----------
    source
        A source, or anything that `open_source` takes. `source_options` and `on_error` are passed to it; they raise
        TypeError if the source is open already.
    model
        Has ``detect``, and ``clone`` if there is more than one worker.
    outputs
        Sinks, or anything that `open_sink` takes; one or several. They are finished when the loop ends, is left or is
        interrupted. After an error, outputs of files are discarded and those of live sources are finished. An error
        in your own loop counts only if you used `with annotate(...) as run:`.
    style
        Arguments for `draw`; labels and mask threshold are the model's unless they are here.
    paint
        A function that makes the annotated picture from the frame's picture and its detections, such as one of
        `cvmask.drawing.effects`; shape (height, width, 3), BGR. The next picture is made while this one is written,
        so it must return a new array each time, or the frame's own. None: `draw`.
    track
        Give each object an id that it keeps.
    workers
        How many clones of the model work at the same time on consecutive frames.
    detect_every
        The network sees every N-th frame of a file, N from 1 to 60, and both sides of a cut; what it found is carried
        to the frames between along the motion in the picture, see `cvmask.streams.follow`. "auto" chooses the frames.
        At most N frames for each worker are kept in memory. With a camera or stream, unless every frame is taken,
        the network sees a frame whenever it is free, but at most every N-th; each frame is given at once, with the
        newest result carried forwards to it. 1: the network sees every frame that is given.
    bridge
        Fill in objects that are missed for up to a second, 60 frames at most: between two sightings in a file, after
        the last one in a live source. Use it for objects that must stay hidden; each object gets an id. A function is
        called for each frame of a live source and tells whether to fill in.
    smooth
        Average masks, boxes and scores of each object over time, along its motion; needs `track`.
    on_event
        Called with an `Event` for each object that appears or has left, in a thread that waits for it; needs `track`.
    on_message
        Called with one line for each thing that the user should know; from any thread.
    on_error
        Called for each picture that cannot be read; None: the first one ends the run.

    Raises
    ------
    TypeError, ValueError
        If the model has no `detect`, or an option is wrong.
    SourceError, SinkError
        If the source or an output cannot be opened. An error in any thread of the run is raised once, from the
        iteration, after all threads have stopped. If an output cannot be finished after an interrupt, its error
        is the ``__cause__`` of the KeyboardInterrupt.
    """
    if not callable(getattr(model, "detect", None)):
        raise TypeError(f"model must be what cvmask.load gives, or have a detect of its own, got {model!r:.60}")
    workers = whole_number("workers", workers)
    if smooth and not track:
        raise ValueError("smooth needs track=True: it averages objects by their ids")
    if on_event is not None and not track:
        raise ValueError("on_event needs track=True: it recognises new objects by their ids")
    every = check_every(detect_every)
    summary = Summary()
    source = _opened(source, summary, on_message, on_error, source_options)
    sinks: list[Sink] = []
    try:
        labels = getattr(model, "labels", None)
        sinks = open_all(outputs, source, labels, on_message)
        models: list[Model] = [model, *(model.clone() for _ in range(workers - 1))]  # type: ignore[attr-defined]
    except BaseException:
        source.close()
        for sink in sinks:
            sink.discard()
        raise
    settings = getattr(model, "settings", None)
    cut = None if settings is None else settings.mask_threshold
    threshold = {} if settings is None else {"mask_threshold": cut}
    paint = paint or _drawing({"labels": labels, **threshold, **(style or {})})
    if every != 1 and source.live and source.newest:
        models, every = [Follower(models, every, cut, careful=bool(bridge))], 1
    if on_event is not None:
        sinks.append(Events(on_event, labels, longest_gap(source, models, bool(bridge))))
    return Run(source, models, sinks, paint, track, summary, every, cut, bridge, smooth)


def _drawing(style: Mapping[str, Any]) -> Paint:
    def paint(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        return draw(image, detections, **style) if len(detections) else image

    return paint


def _opened(
    source: Source | Location,
    summary: Summary,
    on_message: Notify,
    on_error: Callable[[SourceError], None] | None,
    options: Mapping[str, Any],
) -> Source:
    if isinstance(source, Source):
        if given := [*options, *(["on_error"] if on_error else [])]:
            raise TypeError(f"{', '.join(given)}: give these to open_source, the source is open already")
        return source

    def count(error: SourceError) -> None:
        summary.failed += 1
        assert on_error is not None
        on_error(error)

    return open_source(source, on_message=on_message, on_error=count if on_error else None, **options)
