"""COCO: a data set (images, categories, annotations) and results, with compressed RLE or with polygons.

Category ids are class ids plus 1, which gives the labels of the COCO models their official ids.
Image ids count from 1. Boxes are x, y, width, height in pixels, to a hundredth. Definitions:
https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from cvmask.errors import SinkError
from cvmask.formats.record import Record
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.results.masks import BoxMask
from cvmask.results.polygons import one_ring, trace_edges
from cvmask.system.files import whole_file


def to_results(detections: Detections, image_id: int, mask_threshold: float | None = None) -> list[dict[str, Any]]:
    """Give the results of one image, in the form that ``COCO.loadRes`` of pycocotools reads."""
    corners = detections.xyxy.astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2)
    scores = detections.confidence.astype(np.float64).round(6)
    columns = zip(
        detections.class_id.tolist(), boxes.tolist(), scores.tolist(), detections.rle(mask_threshold)
    )
    return [
        {
            "image_id": image_id,
            "category_id": class_id + 1,
            "bbox": box,
            "score": score,
            "segmentation": rle,
        }
        for class_id, box, score, rle in columns
    ]


def to_annotations(
    detections: Detections,
    image_id: int,
    first_id: int = 1,
    mask_threshold: float | None = None,
    polygons: bool = False,
) -> list[dict[str, Any]]:
    """Give the annotations of one image of a data set; their ids count from `first_id`.

    Objects whose masks have no pixel are left out. With `polygons` the segmentation is not RLE, see `to_polygons`.
    """
    found = detections[detections.area(mask_threshold) > 0]
    results = to_results(found, image_id, mask_threshold)
    if polygons:
        for result, box_mask in zip(results, found.box_masks(mask_threshold)):
            result["segmentation"] = to_polygons(box_mask)
    areas = found.area(mask_threshold).tolist()
    return [
        {"id": number, **result, "area": area, "iscrowd": 0}
        for number, (result, area) in enumerate(zip(results, areas), first_id)
    ]


def to_polygons(box_mask: BoxMask) -> list[list[int]]:
    """Give the polygons of one mask, one for each part: x, y, x, y along the edges of its pixels.

    pycocotools makes the same mask from them. COCO has no holes: the outline runs into each hole and back.
    """
    return [one_ring([part]).ravel().tolist() for part in trace_edges(box_mask)]


def to_image(record: Record, image_id: int) -> dict[str, Any]:
    """Describe one image; a video frame also has ``video``, ``frame_index`` and ``time_s``."""
    height, width = record.detections.frame_size
    size = {"width": width, "height": height}
    if record.frame_index is None:
        return {"id": image_id, "file_name": record.file_name or record.name, **size}
    place = {"video": record.name, "frame_index": record.frame_index, "time_s": record.time_s}
    return {"id": image_id, "file_name": record.file_name or record.key, **size, **place}


class CocoWriter:
    """Writes ``dataset`` and ``results``, one record at a time and in constant memory.

    Parameters
    ----------
    results
        None: they are not written.
    polygons
        Write the data set with polygons. Results are always RLE, the only form that their readers accept.
    image_ids
        Ids of an existing data set by file name, to evaluate the results against it. Default: 1, 2, 3.
    """

    def __init__(
        self,
        dataset: Path,
        results: Path | None,
        labels: Sequence[str],
        mask_threshold: float | None = None,
        image_ids: Mapping[str, int] | None = None,
        polygons: bool = False,
    ) -> None:
        self._dataset_path, self._results_path = dataset, results
        self._labels, self._polygons = labels, polygons
        self._threshold, self._image_ids = mask_threshold, image_ids
        self._images_written = self._objects_written = 0
        self._stack = ExitStack()

    def __enter__(self) -> CocoWriter:
        self._dataset = self._stack.enter_context(whole_file(self._dataset_path))
        self._results: IO[str] | None = None
        if self._results_path is not None:
            self._results = self._stack.enter_context(whole_file(self._results_path))
            self._results.write("[")
        # Images and annotations are two lists in one file: the shorter one is kept in memory until the end.
        waiting = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")
        self._images = self._stack.enter_context(waiting)
        names = [{"id": number, "name": name} for number, name in enumerate(self._labels, 1)]
        # Some readers fail without these fields.
        self._dataset.write('{"info": {"description": "Found by cvmask", "version": "1.0"},\n"licenses": [],\n')
        self._dataset.write(f'"categories": {json.dumps(names, ensure_ascii=False)},\n"annotations": [')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._stack.pop_all() as stack:
            if kind is None:
                if self._results is not None:
                    self._results.write("]\n")
                self._dataset.write('],\n"images": [')
                self._images.seek(0)
                shutil.copyfileobj(self._images, self._dataset)
                self._dataset.write("]}\n")
                return None
            return stack.__exit__(kind, error, trace)

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one image and its objects; SinkError if `image_ids` lacks its name."""
        image_id = self._id_of(record)
        found = record.detections
        annotations = to_annotations(
            found, image_id, self._objects_written + 1, self._threshold, self._polygons
        )
        _append(self._images, [to_image(record, image_id)], self._images_written)
        _append(self._dataset, annotations, self._objects_written)
        if self._results is not None:
            shown = found[found.area(self._threshold) > 0]
            _append(self._results, to_results(shown, image_id, self._threshold), self._objects_written)
        self._images_written += 1
        self._objects_written += len(annotations)

    def _id_of(self, record: Record) -> int:
        if self._image_ids is None:
            return self._images_written + 1
        if record.name not in self._image_ids:
            raise SinkError(f"{record.name} has no id: image_ids must name every image")
        return self._image_ids[record.name]


def _append(file: IO[str], items: Sequence[dict[str, Any]], already: int) -> None:
    for number, item in enumerate(items, already):
        file.write((",\n" if number else "\n") + json.dumps(item, ensure_ascii=False))
