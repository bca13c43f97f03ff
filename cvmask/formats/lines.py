"""JSON lines and CSV: one file, written line by line; JSON lines can be read back."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from cvmask.errors import SourceError
from cvmask.formats.record import Record
from cvmask.results.arrays import Picture, label_of
from cvmask.results.detections import Detections
from cvmask.results.masks import threshold_of
from cvmask.system.files import LineTooLong, bounded_lines, whole_file


def to_line(record: Record, labels: Sequence[str], mask_threshold: float | None = None) -> dict[str, Any]:
    """Give the content of one line: the record, `Detections.to_dict`, labels, areas, COCO's RLE."""
    found = record.detections
    return {
        "name": record.name,
        "frame_index": record.frame_index,
        "time_s": record.time_s,
        **found.to_dict(),
        "labels": [label_of(class_id, labels) for class_id in found.class_id.tolist()],
        "mask_threshold": threshold_of(found.mask_paste, mask_threshold),
        "area": found.area(mask_threshold).tolist(),
        "rle": [rle["counts"] for rle in found.rle(mask_threshold)],
    }


def from_line(fields: dict[str, Any]) -> Record:
    """Rebuild the record, with equal detections. ValueError if a field is bad."""
    name, index, time_s = fields["name"], fields["frame_index"], fields["time_s"]
    if not isinstance(name, str):
        raise ValueError(f"name must be a text, got {str(name)[:60]}")
    if index is not None and (type(index) is not int or index < 0):
        raise ValueError(f"frame_index must be a whole number from 0 up, or null, got {str(index)[:60]}")
    if time_s is not None and not (type(time_s) in (int, float) and math.isfinite(time_s)):
        raise ValueError(f"time_s must be a number of seconds, or null, got {str(time_s)[:60]}")
    return Record(name=name, detections=Detections.from_dict(fields), frame_index=index, time_s=time_s)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Read a file record by record; SourceError names a line that is damaged."""
    try:
        with open(path, "rb") as file:
            for number, line in bounded_lines(file):
                try:
                    fields = json.loads(line.decode())
                    if "detections" in fields:
                        cure = "`--save-json` of a video writes it; its reader is cvmask.streams.sinks.read_json_lines"
                        raise SourceError(f"{path}: line {number} has another format: {cure}")
                    record = from_line(fields)
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    raise SourceError(f"{path}: line {number} is not a record of detections: {error}") from error
                yield record
    except LineTooLong as error:
        raise SourceError(f"{path}: {error}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


_Self = TypeVar("_Self", bound="_LinesWriter")


class _LinesWriter:
    """Base of the formats that write ``path`` line by line; it appears when the block has ended without an error."""

    def __init__(
        self, path: str | os.PathLike[str], labels: Sequence[str] = (), mask_threshold: float | None = None
    ) -> None:
        self._path, self._labels, self._threshold = path, labels, mask_threshold
        self._stack = ExitStack()

    def __enter__(self: _Self) -> _Self:
        self._file = self._stack.enter_context(whole_file(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


class JsonlWriter(_LinesWriter):
    """Writes ``path``, one record at a time."""

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one line."""
        line = to_line(record, self._labels, self._threshold)
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


COLUMNS = (
    "name", "frame_index", "time_s", "width", "height", "object", "tracker_id", "class_id", "label",
    "confidence", "left", "top", "right", "bottom", "area", "carried",
)  # fmt: skip


def to_rows(
    record: Record, labels: Sequence[str], mask_threshold: float | None = None
) -> Iterator[tuple[str | int | float | None, ...]]:
    """Give the rows of one record, in the order of `COLUMNS`; None becomes an empty field.

    ``object`` counts from 1 in each frame, as the values of the instance map do. Coordinates are
    pixels with right and bottom exclusive, to a hundredth; ``area`` is the mask's, in pixels.
    """
    found = record.detections
    height, width = found.frame_size
    place = (record.name, record.frame_index, record.time_s, width, height)
    ids = [None] * len(found) if found.tracker_id is None else found.tracker_id.tolist()
    boxes = found.xyxy.astype(np.float64).round(2).tolist()
    scores = found.confidence.astype(np.float64).round(6).tolist()
    columns = zip(ids, found.class_id.tolist(), scores, boxes, found.area(mask_threshold).tolist())
    for number, (tracker_id, class_id, score, box, area) in enumerate(columns, 1):
        name = label_of(class_id, labels)
        yield (*place, number, tracker_id, class_id, name, score, *box, area, found.carried)


class CsvWriter(_LinesWriter):
    """Writes ``path``: a line with the names of the columns, then the rows, with texts as in `guarded`; UTF-8."""

    def __enter__(self) -> CsvWriter:
        super().__enter__()
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)
        return self

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one row for each object."""
        rows = to_rows(record, self._labels, self._threshold)
        self._rows.writerows([guarded(field) if isinstance(field, str) else field for field in row] for row in rows)


# First characters that spreadsheets run as a formula, and the apostrophe itself.
_RUN = ("=", "+", "-", "@", "\t", "\r", "'")


def guarded(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_RUN) else text


def unguarded(field: str) -> str:
    """Undo `guarded`."""
    return field[1:] if field.startswith("'") and field[1:].startswith(_RUN) else field
