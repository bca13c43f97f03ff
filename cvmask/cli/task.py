"""What a verb does with each frame."""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cvmask.cli.outputs import Outputs
from cvmask.formats.record import Record
from cvmask.results.detections import Detections
from cvmask.streams.sinks import Sink
from cvmask.streams.sources import Frame


class Task:
    """What a verb does with each frame; a context manager around the whole run.

    Attributes
    ----------
    closing
        A line to print when the run has ended; "" for none.
    stream_note
        What the user of a video or stream should know beforehand; "" for nothing.
    """

    closing = ""
    stream_note = ""

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture to write, BGR or BGRA."""
        raise NotImplementedError

    def paint_frame(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture for a video or a window, which know no transparency: BGR."""
        return self.paint(image, detections)

    def keep(self, frame: Frame, detections: Detections, outputs: Outputs) -> None:
        """Write what belongs beside a picture."""

    def save(self, record: Record, image: NDArray[np.uint8]) -> None:
        """Take what was found in a picture or a frame, and its own picture."""


class StreamKeeper(Sink):
    """Hands what was found in the frames of one stream to the task, which outlives it."""

    def __init__(self, task: Task, name: str) -> None:
        self.name, self._task = name, task

    def write(
        self, image: NDArray[np.uint8], frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Hand it on."""
        if frame is not None and detections is not None:
            self._task.save(Record(self.name, detections, frame.index, frame.time_s), frame.image)

    def close(self) -> None:
        """Do nothing: the task goes on with the next source."""
