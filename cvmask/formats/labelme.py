"""labelme: one JSON for each picture, with polygons.

labelme fills a polygon up to and including its vertices' pixels, as OpenCV does. It knows no holes:
the outline runs into each hole and back, which leaves the hole open. Parts of one object are shapes
with the same ``group_id``. An object whose mask has no pixel is left out.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.formats.record import FileForEach, Record, label_of
from cvmask.results.detections import Detections
from cvmask.results.polygons import one_ring
from cvmask.system.files import write_whole


def to_shapes(
    detections: Detections, labels: Sequence[str], mask_threshold: float | None = None
) -> list[dict[str, Any]]:
    """Give the shapes of one picture; the score stands in the description."""
    shapes = []
    columns = zip(
        detections.class_id.tolist(),
        detections.confidence.tolist(),
        detections.polygons(mask_threshold),
    )
    for number, (class_id, score, parts) in enumerate(columns, 1):
        for part in parts:
            points = one_ring([part]).tolist()
            shapes.append(
                {
                    "label": label_of(class_id, labels),
                    # labelme asks for three points: one pixel is a triangle without an area
                    "points": points + points[-1:] * (3 - len(points)),
                    "group_id": number if len(parts) > 1 else None,
                    "description": f"{score:.4f}",
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
    return shapes


def to_document(
    record: Record,
    labels: Sequence[str],
    image_path: str,
    frame: NDArray[np.uint8] | None = None,
    mask_threshold: float | None = None,
) -> dict[str, Any]:
    """Give the whole JSON; with `frame` the picture is in it, else labelme opens `image_path`."""
    height, width = record.detections.frame_size
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": to_shapes(record.detections, labels, mask_threshold),
        "imagePath": image_path,
        "imageData": None if frame is None else _to_base64_png(frame),
        "imageHeight": height,
        "imageWidth": width,
    }


def _to_base64_png(frame: NDArray[np.uint8]) -> str:
    return base64.b64encode(cv2.imencode(".png", frame)[1].tobytes()).decode("ascii")


class LabelmeWriter(FileForEach):
    """Writes ``folder/NAME.json``.

    A record with an `image_path` is referred to, relative to the JSON. Any other, such as a frame of a
    video, is put into the JSON as PNG if the frame is given.
    """

    def __init__(self, folder: Path, labels: Sequence[str], mask_threshold: float | None = None) -> None:
        super().__init__(folder)
        self._labels, self._threshold = labels, mask_threshold

    def write(self, record: Record, frame: NDArray[np.uint8] | None = None) -> None:
        """Write one JSON."""
        path = self.path_for(record, ".json")
        if record.image_path is None:
            image = f"{Path(record.key).name}.png"
        else:
            image, frame = _relative(record.image_path, path.parent), None
        document = to_document(record, self._labels, image, frame, self._threshold)
        write_whole(path, json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace"))


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
