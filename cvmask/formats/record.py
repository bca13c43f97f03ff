"""The input of every format: one picture or video frame, and its detections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Protocol, TypeVar

from cvmask.errors import SinkError
from cvmask.formats.metadata import NO_METADATA, Metadata
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.system.files import fit_name

_SUFFIX = re.compile(r"\.(?!\d+$)[A-Za-z0-9]{1,6}")
_LONGEST_LABEL = 100  # bytes of an object's label in a file name: the picture's name needs room too
_FRAME = re.compile(r"(.+)_\d{6,}", re.ASCII)


def key_of(name: str) -> str:
    """Turn the name of a picture or video into a path below any folder, without suffix."""
    path = PurePath(name)
    stem = path.stem if _SUFFIX.fullmatch(path.suffix) else path.name  # 192.168.1.10_live has none
    parts = [part for part in (*path.parent.parts, stem) if part not in (path.anchor, "..", "")]
    return "/".join(re.sub(r'[<>:"|?*\\/\x00-\x1f]+', "_", part) for part in parts) or "frame"


class Names:
    """Finds pictures and videos whose output files would have the same name; memory does not grow with frames."""

    def __init__(self) -> None:
        self._by_key: dict[str, str] = {}
        self._videos: dict[str, str] = {}
        self._like_frames: dict[str, str] = {}

    def add(self, name: str, video: bool) -> None:
        """Add a picture or a video; adding it again has no effect.

        Raises
        ------
        SinkError
            If another one would get the same file: ``a.jpg`` and ``a.png``, or ``a_000017.jpg`` and a frame of
            ``a.mp4``.
        """
        # Many file systems do not distinguish A and a.
        key = key_of(name).casefold()
        self._refuse(self._by_key.setdefault(key, name), name, key)
        like_frame = _FRAME.fullmatch(key)
        if video:
            self._videos[key] = name
            self._refuse(self._like_frames.get(key, name), name, f"{key}_ and a number")
        elif like_frame:
            self._like_frames[like_frame[1]] = name
            self._refuse(self._videos.get(like_frame[1], name), name, key)

    def _refuse(self, first: str, name: str, key: str) -> None:
        if first != name:
            raise SinkError(f"{first} and {name} would both be saved as {key}: rename one")


@dataclass(frozen=True)
class Record:
    """One picture or video frame, and its detections.

    Attributes
    ----------
    name
        Of the picture or video, relative to what the user gave: ``street.jpg``, ``day2/clip.mp4``.
    frame_index
        From 0, in a video; None for a picture.
    time_s
        Of the frame in its video, in seconds; None for a picture or where it is not known.
    image_path
        Path of the picture, for formats that refer to it.
    metadata
        Colour profile and resolution of the picture, for formats that hold its pixels.
    file_name
        The file that `frames` has written, relative to its folder; empty if there is none.
    """

    name: str
    detections: Detections
    frame_index: int | None = None
    time_s: float | None = None
    image_path: Path | None = None
    metadata: Metadata = NO_METADATA
    file_name: str = ""

    @property
    def key(self) -> str:
        """Name for files of this record, without suffix: ``street``, ``day2/clip_000017``."""
        clean = key_of(self.name)
        return clean if self.frame_index is None else f"{clean}_{self.frame_index:06d}"


class Writer(Protocol):
    """The interface of every format: a context manager that takes one record after the other.

    Its files appear when the block ends without an error. After an error there are no unfinished files.
    """

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write one record; formats that hold pixels need `frame`."""


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
        """Give the path of a record's file.

        Raises
        ------
        SinkError
            If another picture or video could have the same file, see `Names`.
        """
        self._names.add(record.name, record.frame_index is not None)
        key = PurePath(record.key)
        return self.folder / key.parent / fit_name(key.name, ending)


def object_ending(number: int, label: str) -> str:
    """Give the end of the name of an object's own file: ``_003_traffic_light``; `number` counts from 1."""
    name = re.sub(r"\W+", "_", label).strip("_") or "object"
    return f"_{number:03d}_" + fit_name(name, longest=_LONGEST_LABEL)
