"""labelme: one JSON for each picture, with polygons.

labelme fills a polygon including the pixels of its vertices, as OpenCV does. It has no holes: the outline
runs into each hole and back, which leaves the hole open. Parts of one object are shapes with the same
``group_id``. Objects whose masks have no pixel are left out. labelme lists the pictures of a folder and
reads the JSON beside each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvmask.formats.images import frame_file
from cvmask.formats.record import FileForEach, Record
from cvmask.results.arrays import Picture, label_of
from cvmask.results.detections import Detections
from cvmask.results.polygons import one_ring, simplify
from cvmask.system.files import write_whole


def to_shapes(
    detections: Detections, labels: Sequence[str], mask_threshold: float | None = None, tolerance_px: float = 1.0
) -> list[dict[str, Any]]:
    """Give the shapes of one picture; the description of each holds its score.

    `tolerance_px` is how far a polygon may lie from its mask, see `polygons.simplify`; 0 for every vertex.
    """
    shapes = []
    columns = zip(
        detections.class_id.tolist(),
        detections.confidence.tolist(),
        detections.polygons(mask_threshold),
    )
    for number, (class_id, score, parts) in enumerate(columns, 1):
        for part in parts:
            points = one_ring([simplify(part, tolerance_px)]).tolist()
            shapes.append(
                {
                    "label": label_of(class_id, labels),
                    # labelme needs three points: one pixel becomes a triangle without area
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
    mask_threshold: float | None = None,
    tolerance_px: float = 1.0,
) -> dict[str, Any]:
    """Give the whole JSON; labelme opens `image_path`, from the folder of the JSON."""
    height, width = record.detections.frame_size
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": to_shapes(record.detections, labels, mask_threshold, tolerance_px),
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


class LabelmeWriter(FileForEach):
    """Writes ``folder/NAME.json``, and its picture beside it, see `images.frame_file`.

    Without a frame no picture is written, and the JSON refers to the `image_path` of its record.

    Parameters
    ----------
    tolerance_px
        See `to_shapes`.
    """

    def __init__(
        self, folder: Path, labels: Sequence[str], mask_threshold: float | None = None, tolerance_px: float = 1.0
    ) -> None:
        super().__init__(folder)
        self._labels, self._threshold, self._tolerance_px = labels, mask_threshold, tolerance_px

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one JSON and its picture."""
        path = self.path_for(record, ".json")
        image = f"{path.stem}.png"
        if frame is not None:
            ending, data = frame_file(record, frame)
            image = path.stem + ending
            write_whole(path.with_name(image), data)
        elif record.image_path is not None:
            image = _relative(record.image_path, path.parent)
        document = to_document(record, self._labels, image, self._threshold, self._tolerance_px)
        write_whole(path, json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace"))


def _relative(path: Path, folder: Path) -> str:
    try:
        # Behind a link, ".." is another folder.
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
