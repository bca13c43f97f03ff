"""Cutouts: each object on transparency."""

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


def cut_out(
    frame: NDArray[np.uint8], detections: Detections, mask_threshold: float = 0.3
) -> Iterator[NDArray[np.uint8]]:
    """Cut each object out along its mask, BGRA, shape (h, w, 4), as large as its box.

    What is not the object is transparent black. ValueError if the frame is another one.
    """
    check_frame_of(frame, detections.frame_size)
    for box_mask in detections.box_masks(mask_threshold):
        picture = np.zeros((*box_mask.mask.shape, 4), dtype=np.uint8)
        picture[..., :3] = frame[box_mask.window] * box_mask.mask[..., None]
        picture[..., 3] = box_mask.mask * np.uint8(255)
        yield picture


class CutoutsWriter(FileForEach):
    """Writes ``folder/NAME_001_dog.png`` for each object, with an alpha channel."""

    def __init__(self, folder: Path, labels: Sequence[str], mask_threshold: float = 0.3) -> None:
        super().__init__(folder)
        self._labels, self._threshold = labels, mask_threshold

    def write(self, record: Record, frame: NDArray[np.uint8] | None = None) -> None:
        """Write the cutouts of one record, which needs its frame."""
        if frame is None:
            raise ValueError("cutouts need the frame: write(record, frame)")
        found = record.detections
        pictures = zip(found.class_id.tolist(), cut_out(frame, found, self._threshold))
        for number, (class_id, picture) in enumerate(pictures, 1):
            ending = object_ending(number, label_of(class_id, self._labels)) + ".png"
            write_whole(self.path_for(record, ending), encode_png(picture))
