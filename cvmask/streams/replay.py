"""Draw the detections of JSON lines again, without the network."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError, SourceError
from cvmask.results.classes import class_ids, split_names
from cvmask.results.detections import Detections
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import Sink, open_all, read_json_lines
from cvmask.streams.sources import Frame, Source, open_source
from cvmask.streams.sources.source import Notify, ignore
from cvmask.streams.summary import Summary

PathLike = Union[str, "os.PathLike[str]"]


def render(
    source: Source | PathLike,
    detections: PathLike,
    outputs: Sequence[Sink | PathLike] | Sink | PathLike,
    *,
    score_threshold: float = 0.0,
    classes: Sequence[str | int] | str | None = None,
    style: Mapping[str, Any] | None = None,
    on_message: Notify = ignore,
) -> Summary:
    """Annotate a video from the JSON lines of an earlier run.

    With the settings of that run, every pixel is the same.

    Parameters
    ----------
    source
        The source of the earlier run; its frames are found by their index. If that run took every N-th frame, open the
        source with `open_source` and this stride, or with `open_recorded`, so that its frame rate is right.
    detections
        The JSON lines.
    outputs
        Sinks, or whatever `open_sink` takes, or one of these.
    score_threshold
        Draw detections with a higher confidence.
    classes
        Draw these only: ids, or names of the labels.
    style
        Arguments for `draw`; labels are those in the JSON lines unless they are here.
    on_message
        Called with one line for each thing that the user should know.

    Raises
    ------
    SourceError
        If the video or the JSON lines cannot be read, or do not belong together.
    SinkError
        If an output cannot be written.
    """
    outputs = [outputs] if isinstance(outputs, (Sink, str, os.PathLike)) else outputs
    for output in outputs:
        both = not isinstance(output, Sink) and os.path.exists(output) and os.path.exists(detections)
        if both and os.path.samefile(output, detections):  # type: ignore[arg-type]
            raise SinkError(f"{output} would replace the detections: give another name")
    pairs = _rising(read_json_lines(detections, on_message), os.fspath(detections))
    first = next(pairs, None)
    if first is None:
        raise SourceError(f"{os.fspath(detections)}: holds no line")
    labels = first[0].get("labels")
    style = {"labels": labels, **(style or {})}
    wanted = _class_ids(classes, style["labels"], detections if style["labels"] is labels else "labels")
    if labels and style["labels"] and len(labels) != len(style["labels"]):
        raise SourceError(f"{os.fspath(detections)}: is of {len(labels)} classes, not of {len(style['labels'])} labels")
    opened = source if isinstance(source, Source) else open_recorded(source, detections, on_message=on_message)
    made_of = os.path.basename(str(first[0].get("name") or ""))
    if made_of and made_of != os.path.basename(opened.name):
        on_message(f"{os.fspath(detections)}: was made from {made_of}, this is {opened.name}")
    with opened:
        sinks = open_all(outputs, opened, labels, on_message)
        paired = _paired(opened, _chained(first, pairs), os.fspath(detections), on_message)
        recalled = _Recalled(opened, ((frame, _kept(found, score_threshold, wanted)) for frame, found in paired))
        return annotate(recalled, recalled, outputs=sinks, style=style).run()


_LINES_FOR_RATE = 50


def open_recorded(source: PathLike, detections: PathLike, on_message: Notify = ignore) -> Source:
    """Open the video of an earlier run; its rate is that of the frames that the run took.

    Raises
    ------
    SourceError
        If the video or the JSON lines cannot be read.
    """
    lines = read_json_lines(detections)
    indices = [record["index"] for record, _ in itertools.islice(lines, _LINES_FOR_RATE)]
    steps = [later - earlier for earlier, later in zip(indices, indices[1:]) if later > earlier]
    opened = open_source(source, on_message=on_message)
    if steps and opened.frame_rate:
        opened.frame_rate /= min(steps)
    return opened


class _Recalled(Source):
    """Two roles in one: the frames of a video as a source, and the detections of its JSON lines as a model."""

    def __init__(self, video: Source, pairs: Iterator[tuple[Frame, Detections]]) -> None:
        self.name, self.size_wh, self.frame_rate = video.name, video.size_wh, video.frame_rate
        self._video, self._pairs = video, pairs
        self._found: deque[Detections] = deque()

    def _frames(self) -> Iterator[Frame]:
        for frame, found in self._pairs:
            self._found.append(found)
            yield frame

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Return the detections of the next frame."""
        return self._found.popleft()

    def close(self) -> None:
        self._video.close()


def _kept(found: Detections, score_threshold: float, classes: Sequence[int] | None) -> Detections:
    kept = found[found.confidence > score_threshold]
    return kept if classes is None else kept[np.isin(kept.class_id, classes)]


def _paired(
    frames: Source, pairs: Iterator[tuple[dict[str, Any], Detections]], name: str, on_message: Notify
) -> Iterator[tuple[Frame, Detections]]:
    """Pair frames and lines of the same index; frames without a line were not in the earlier run."""
    record, found = next(pairs)
    lonely, read = 0, iter(frames)
    for frame in read:
        if frame.index < record["index"]:
            lonely += 1
            continue
        if frame.index > record["index"]:
            raise SourceError(f"{frames.name}: has no frame {record['index']}, which {name} has")
        size = frame.image.shape[:2]
        if found.frame_size != size:
            theirs = "x".join(str(side) for side in found.frame_size[::-1])
            raise SourceError(f"{name}: is of frames of {theirs}, {frames.name} has {size[1]}x{size[0]}")
        yield frame, found
        following = next(pairs, None)
        if following is None:
            break
        record, found = following
    else:
        raise SourceError(f"{frames.name}: has no frame {record['index']}, which {name} has")
    if lonely:
        on_message(f"{name}: has no line for {lonely} frames; they are left out")
    if next(read, None) is not None:
        on_message(f"{name}: its last line is for frame {record['index']}; later frames of {frames.name} are left out")


def _rising(
    pairs: Iterator[tuple[dict[str, Any], Detections]], name: str
) -> Iterator[tuple[dict[str, Any], Detections]]:
    """Yield the same pairs; SourceError if frames are out of order, as in two files joined into one."""
    last = -1
    for record, found in pairs:
        if record["index"] <= last:
            raise SourceError(f"{name}: has frame {record['index']} after frame {last}: needed the lines of one run")
        last = record["index"]
        yield record, found


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _class_ids(
    classes: Sequence[str | int] | str | None, labels: Sequence[str] | None, name: PathLike
) -> Sequence[int] | None:
    if classes is None:
        return None
    wanted = split_names(classes, labels or ()) if isinstance(classes, str) else classes
    if labels is None and all(str(item).strip().isdecimal() for item in wanted):
        return [int(item) for item in wanted]
    if labels is None:
        raise SourceError(f"{os.fspath(name)}: its first line has no class names: give ids")
    try:
        return class_ids(wanted, labels)
    except ValueError as error:
        raise SourceError(f"{os.fspath(name)}: {error}") from None
