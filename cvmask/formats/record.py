"""What every format gets to write: one picture or video frame, and what was found in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cvmask.formats.names import Names, key_of
from cvmask.results.detections import Detections


@dataclass(frozen=True)
class Record:
    """One picture or video frame, and what was found in it.

    Attributes
    ----------
    name
        Of the picture or video, relative to what the user gave: ``street.jpg``, ``day2/clip.mp4``.
    frame_index
        From 0, in a video; None for a picture.
    time_s
        Of the frame in its video, in seconds; None for a picture or where it is not known.
    image_path
        Where the picture lies, for formats that refer to it.
    """

    name: str
    detections: Detections
    frame_index: int | None = None
    time_s: float | None = None
    image_path: Path | None = None

    @property
    def key(self) -> str:
        """Name for files of this record, without suffix: ``street``, ``day2/clip_000017``."""
        clean = key_of(self.name)
        return clean if self.frame_index is None else f"{clean}_{self.frame_index:06d}"


class Writer(Protocol):
    """What every format offers: a context manager that takes one record after the other.

    Its files are there when the block has ended well; after an error none that it had not finished.
    """

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def write(self, record: Record, frame: NDArray[np.uint8] | None = None) -> None:
        """Take one record; `frame` is needed by the formats that hold pixels."""


_Self = TypeVar("_Self", bound="FileForEach")


class FileForEach:
    """Base of the formats that write files for each record into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = Names()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def path_for(self, record: Record, ending: str) -> Path:
        """Give the place of a record's file.

        Raises
        ------
        SinkError
            If another picture or video could have the same one; see `names.Names`.
        """
        self._names.add(record.name, record.frame_index is not None)
        return self.folder / f"{record.key}{ending}"


def label_of(class_id: int, labels: Sequence[str]) -> str:
    """Name a class; "class 7" where there is no label."""
    return labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"


def object_ending(number: int, label: str) -> str:
    """End the name of an object's own file: ``_003_traffic_light``; `number` counts from 1."""
    return f"_{number:03d}_" + (re.sub(r"\W+", "_", label).strip("_") or "object")
