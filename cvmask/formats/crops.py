"""Crops: the box of each object, cut out of the frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.formats.images import encode_png
from cvmask.formats.record import FileForEach, Record, label_of, object_ending
from cvmask.results.detections import Detections
from cvmask.results.frames import check_frame_of
from cvmask.system.files import write_whole


def cut_crops(frame: NDArray[np.uint8], detections: Detections) -> Iterator[NDArray[np.uint8]]:
    """Cut out each box, BGR, shape (h, w, 3); ValueError if the frame is another one."""
    check_frame_of(frame, detections.frame_size)
    for left, top, right, bottom in detections.boxes().tolist():
        yield frame[top:bottom, left:right].copy()


class CropsWriter(FileForEach):
    """Writes ``folder/NAME_001_dog.png`` for each object."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        super().__init__(folder)
        self._labels = labels

    def write(self, record: Record, frame: NDArray[np.uint8] | None = None) -> None:
        """Write the crops of one record, which needs its frame."""
        if frame is None:
            raise ValueError("crops need the frame: write(record, frame)")
        crops = zip(record.detections.class_id.tolist(), cut_crops(frame, record.detections))
        for number, (class_id, crop) in enumerate(crops, 1):
            ending = object_ending(number, label_of(class_id, self._labels)) + ".png"
            write_whole(self.path_for(record, ending), encode_png(crop))
