"""YOLO segmentation: a text file for each picture, a line for each object, and ``data.yaml``.

A line is the class id and the outline, x and y from 0 to 1. One line is one object and one ring, so
holes and parts are joined to it by bridges of no width (`polygons.one_ring`); readers that paint
outlines add the pixels of a bridge between parts. A vertex is the pixel plus a quarter: readers that
cut and readers that round find the same pixel. An object whose mask has no pixel is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cvmask.formats.record import FileForEach, Record
from cvmask.results.detections import Detections
from cvmask.results.polygons import one_ring
from cvmask.system.files import write_whole


def to_lines(detections: Detections, mask_threshold: float | None = None, scores: bool = False) -> list[str]:
    """Give one line for each object; `scores` adds the confidence at its end, as Ultralytics does."""
    height, width = detections.frame_size
    lines = []
    columns = zip(
        detections.class_id.tolist(), detections.confidence.tolist(), detections.polygons(mask_threshold)
    )
    for class_id, score, parts in columns:
        ring = one_ring(parts)
        if not len(ring):
            continue
        # Readers take fewer than three points for a box.
        ring = np.concatenate([ring, ring[-1:].repeat(max(0, 3 - len(ring)), axis=0)])
        values = ((ring + 0.25) / (width, height)).ravel().tolist()
        end = f" {score:.6f}" if scores else ""
        lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in values) + end)
    return lines


def to_yaml(labels: Sequence[str]) -> str:
    """Give the text of ``data.yaml``; the pictures belong into ``images`` beside it."""
    # A JSON string is a YAML string, whatever stands in it.
    names = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(labels)
    )
    return f"path: .\ntrain: images\nval: images\nnames:\n{names}"


class YoloWriter(FileForEach):
    """Writes ``folder/labels/NAME.txt`` for each record, empty where nothing was found, and ``data.yaml``."""

    def __init__(
        self, folder: Path, labels: Sequence[str], mask_threshold: float | None = None, scores: bool = False
    ) -> None:
        super().__init__(folder / "labels")
        self._labels, self._threshold, self._scores = labels, mask_threshold, scores

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            write_whole(self.folder.parent / "data.yaml", to_yaml(self._labels).encode())

    def write(self, record: Record, frame: NDArray[np.uint8] | None = None) -> None:
        """Write one text file."""
        lines = to_lines(record.detections, self._threshold, self._scores)
        write_whole(self.path_for(record, ".txt"), "".join(line + "\n" for line in lines).encode())
