"""YOLO segmentation: a text file for each picture, a line for each object, and ``data.yaml``.

A line is the class id and the outline, x and y from 0 to 1. One line is one object and one ring, so holes
and parts are joined to it by bridges of no width (`polygons.one_ring`). Readers that paint outlines add the
pixels of a bridge between parts, so parts with fewer pixels than their bridge are left out. A vertex is the
pixel plus a quarter: readers that truncate and readers that round get the same pixel. Objects whose masks
have no pixel are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from cvmask.formats.images import FramesWriter
from cvmask.formats.record import FileForEach, Record
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.results.polygons import one_ring, worth_joining
from cvmask.system.files import write_whole


def to_lines(
    detections: Detections, mask_threshold: float | None = None, scores: bool = False, largest_part: bool = False
) -> list[str]:
    """Give one line for each object.

    Parameters
    ----------
    scores
        Add the confidence at the end of a line, as Ultralytics does.
    largest_part
        Write only the largest part of an object.
    """
    height, width = detections.frame_size
    lines = []
    columns = zip(
        detections.class_id.tolist(), detections.confidence.tolist(), detections.polygons(mask_threshold)
    )
    for class_id, score, parts in columns:
        ring = one_ring(parts[:1] if largest_part else worth_joining(parts))
        if not len(ring):
            continue
        # Readers treat fewer than three points as a box.
        ring = np.concatenate([ring, ring[-1:].repeat(max(0, 3 - len(ring)), axis=0)])
        values = ((ring + 0.25) / (width, height)).ravel().tolist()
        end = f" {score:.6f}" if scores else ""
        lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in values) + end)
    return lines


def to_yaml(labels: Sequence[str], folder: Path) -> str:
    """Give the text of ``data.yaml`` in `folder`; the pictures belong in ``images`` beside it."""
    # Every JSON string is also a YAML string.
    names = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(labels)
    )
    place = json.dumps(Path(os.path.abspath(folder)).as_posix(), ensure_ascii=False)
    # Trainers look for a relative path in folders of their own.
    return f"path: {place}  # the folder of this file: change it when the folder moves\n" + (
        f"train: images\nval: images\nnames:\n{names}"
    )


class YoloWriter(FileForEach):
    """Writes ``folder/labels/NAME.txt`` for each record, empty where nothing was found, and ``data.yaml``.

    With its frame, a record's picture is ``folder/images/NAME.jpg`` or ``.png``, see `images.frame_file`: trainers
    find labels by the name of the picture.
    """

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        mask_threshold: float | None = None,
        scores: bool = False,
        largest_part: bool = False,
    ) -> None:
        super().__init__(folder / "labels")
        self._images = FramesWriter(folder / "images")
        self._labels, self._threshold = labels, mask_threshold
        self._scores, self._largest_part = scores, largest_part

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            write_whole(self.folder.parent / "data.yaml", to_yaml(self._labels, self.folder.parent).encode())

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one text file, and its picture."""
        lines = to_lines(record.detections, self._threshold, self._scores, self._largest_part)
        write_whole(self.path_for(record, ".txt"), "".join(line + "\n" for line in lines).encode())
        if frame is not None:
            self._images.write(record, frame)
