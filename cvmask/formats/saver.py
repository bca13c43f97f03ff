"""Several formats at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.coco import CocoWriter
from cvmask.formats.images import CropsWriter, CutoutsWriter, FramesWriter, PngWriter
from cvmask.formats.labelme import LabelmeWriter
from cvmask.formats.lines import CsvWriter, JsonlWriter
from cvmask.formats.record import FileForEach, Names, Record, Writer
from cvmask.formats.yolo import YoloWriter
from cvmask.results.arrays import Picture
from cvmask.system.interrupts import deferred_signals


class SaveSettings(NamedTuple):
    """Settings of all formats: the folder; names and colours (BGR, shape (k, 3)) of classes; the mask threshold."""

    folder: Path
    labels: Sequence[str] = ()
    colors: NDArray[np.uint8] | None = None
    mask_threshold: float | None = None
    refine: bool = False


def _coco(to: SaveSettings) -> Writer:
    return CocoWriter(to.folder / "coco.json", to.folder / "coco_results.json", to.labels, to.mask_threshold)


def _coco_polygons(to: SaveSettings) -> Writer:
    return CocoWriter(to.folder / "coco_polygons.json", None, to.labels, to.mask_threshold, polygons=True)


def _yolo_largest(to: SaveSettings) -> Writer:
    return YoloWriter(to.folder / "yolo_largest", to.labels, to.mask_threshold, largest_part=True)


def _png(to: SaveSettings, kind: str) -> Writer:
    return PngWriter(to.folder / kind.replace("-", "_"), to.labels, kind, to.colors, to.mask_threshold)


FORMATS: Mapping[str, Callable[[SaveSettings], Writer]] = MappingProxyType(
    {
        "coco": _coco,
        "coco-polygons": _coco_polygons,
        "frames": lambda to: FramesWriter(to.folder / "frames"),
        "labelme": lambda to: LabelmeWriter(to.folder / "labelme", to.labels, to.mask_threshold),
        "yolo": lambda to: YoloWriter(to.folder / "yolo", to.labels, to.mask_threshold),
        "yolo-largest": _yolo_largest,
        "png": partial(_png, kind="masks"),
        "png-instances": partial(_png, kind="instances"),
        "png-classes": partial(_png, kind="classes"),
        "png-classes-grey": partial(_png, kind="classes-grey"),
        "csv": lambda to: CsvWriter(to.folder / "detections.csv", to.labels, to.mask_threshold),
        "jsonl": lambda to: JsonlWriter(to.folder / "detections.jsonl", to.labels, to.mask_threshold),
        "crops": lambda to: CropsWriter(to.folder / "crops", to.labels),
        "cutouts": lambda to: CutoutsWriter(to.folder / "cutouts", to.labels, to.mask_threshold),
    }
)

# These files hold all records; the other formats write files for each record, in folders of their own.
FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "coco": ("coco.json", "coco_results.json"),
        "coco-polygons": ("coco_polygons.json",),
        "csv": ("detections.csv",),
        "jsonl": ("detections.jsonl",),
    }
)
ONE_FILE = frozenset(FILES)


class Saver:
    """Writes each record in several formats; a context manager like each of them.

    If the block ends without an error or is interrupted (KeyboardInterrupt), all files are finished and hold the
    records so far. After any other error, such as a failed write, files that hold many records do not appear. If the
    files of one record cannot be written, the other records are not affected.

    Parameters
    ----------
    formats
        Names of `formats.FORMATS`; ValueError if one is unknown.
    settings
        The folder, and what the formats need.
    """

    def __init__(self, formats: Sequence[str], settings: SaveSettings) -> None:
        # Frames come first, because other formats name their files.
        names = sorted(check_formats(formats), key=lambda name: name != "frames")
        self._writers = [FORMATS[name](settings) for name in names]
        self._threshold, self._refine = settings.mask_threshold, settings.refine
        self._stack = ExitStack()
        self._failure: BaseException | None = None

    def __enter__(self) -> Saver:
        with self._stack:
            for writer in self._writers:
                self._stack.enter_context(writer)
            self._stack = self._stack.pop_all()
        return self

    @deferred_signals()
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._failure is not None:
            self._stack.__exit__(type(self._failure), self._failure, None)
        elif kind is None or issubclass(kind, KeyboardInterrupt):
            self._stack.close()
        else:
            self._stack.__exit__(kind, error, trace)

    @deferred_signals()
    def write(self, record: Record, frame: Picture) -> None:
        """Write one record and its frame, which must not be annotated.

        Objects whose masks have no pixel are left out, so that an object has the same number in every format.

        Raises
        ------
        SinkError
            If a file of this record cannot be written. All others are written, and later records are accepted.
        """
        if self._failure is not None:
            raise self._failure
        found = record.detections.refined(frame) if self._refine else record.detections
        record = replace(record, detections=found[found.area(self._threshold) > 0])
        refused = None
        for writer in self._writers:
            try:
                if isinstance(writer, FramesWriter):
                    path = writer.save(record, frame)
                    record = replace(record, file_name=path.relative_to(writer.folder).as_posix())
                else:
                    writer.write(record, frame)
            except Exception as error:
                if isinstance(writer, FileForEach) and isinstance(error, SinkError):
                    refused = refused or error
                    continue
                self._failure = error
                raise
        if refused is not None:
            raise refused


def check_formats(formats: Sequence[str]) -> list[str]:
    """Give the names, each once; ValueError lists all if one is unknown."""
    if isinstance(formats, str):
        raise TypeError(f"formats must be a list of names, got the text {formats!r}: use {formats.split(',')!r}")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        got = ", ".join(map(repr, unknown)) or "nothing"
        raise ValueError(f"needed one or more of {', '.join(FORMATS)}, got {got}")
    return list(dict.fromkeys(formats))


def check_names(pictures: Sequence[str], videos: Sequence[str], formats: Sequence[str]) -> None:
    """Check that no two pictures or videos would be saved as the same file, before the run begins.

    Raises
    ------
    SinkError
        If two could get the same file in a format that writes one for each: ``a.jpg`` and ``a.png``.
    """
    if not set(formats) - ONE_FILE:
        return
    names = Names()
    for name in pictures:
        names.add(name, video=False)
    for name in videos:
        names.add(name, video=True)
