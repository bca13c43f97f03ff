"""Pictures: one file, or a folder with one for each frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.metadata import NO_METADATA, Metadata, embed
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.sink import Sink, file_id, file_ids
from cvmask.streams.sources.source import Frame
from cvmask.system.files import fit_name, write_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class ImageFile(Sink):
    """A single picture; a second frame is an error."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        if Path(self.name).suffix.lower() not in SUFFIXES:
            raise SinkError(f"{self.name}: a picture ends in one of {' '.join(SUFFIXES)}")
        self._written = False

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Write the picture, whole or not at all."""
        if self._written:
            raise SinkError(f"{self.name} is one picture, but more frames came: give a folder or a video")
        write_image(self.name, check_frame(image, alpha=True), NO_METADATA if frame is None else frame.metadata)
        self._written = True

    def close(self) -> None:
        """Do nothing: the picture was whole when `write` returned."""


def no_folder(name: str) -> str:
    """Return why no folder can have this name; "" if it can."""
    if name.rstrip("/" + os.sep) == "-":
        return "results do not go to standard output: name a file or a folder"
    if os.path.dirname(os.path.abspath(name)) == "/dev" and not os.path.isdir(name):
        return "a device is no output: name a file or a folder"
    return ""


class ImageFolder(Sink):
    """One picture a frame: pictures keep their names, frames of videos get ``name_000123``.

    Two of the same name get "_2", "_3" and so on. The folder is made if missing.

    Parameters
    ----------
    suffix
        For pictures whose source has an ending that is not in `SUFFIXES`.
    sources
        Files that are still to be read: they are not replaced, and neither is the frame's own file.
    """

    def __init__(
        self, folder: str | os.PathLike[str], suffix: str = ".png", sources: Sequence[str] = ()
    ) -> None:
        self.name = os.fspath(folder)
        if wrong := no_folder(self.name):
            raise SinkError(f"{self.name}: {wrong}")
        self._suffix = suffix
        self._sources = file_ids(sources)
        self._taken: set[str] = set()
        self._count = 0

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Write the picture of a frame, whole or not at all."""
        image = check_frame(image, alpha=True)
        path = Path(self.name) / self._free_name(frame)
        found = file_id(path)
        if found is not None and (found in self._sources or (frame is not None and found == file_id(frame.name))):
            raise SinkError(f"{path} would replace a source: give another folder")
        write_image(path, image, NO_METADATA if frame is None else frame.metadata)
        self._count += 1

    def close(self) -> None:
        """Do nothing: every picture was whole when `write` returned."""

    def _free_name(self, frame: Frame | None) -> str:
        source = Path("frame" if frame is None else frame.name)
        suffix = source.suffix if source.suffix.lower() in SUFFIXES else self._suffix
        stem = source.stem or "frame"
        if frame is None or frame.time_s is not None:
            stem = f"{stem}_{self._count if frame is None else frame.index:06d}"
        number, name = 1, fit_name(stem, suffix)
        while name.casefold() in self._taken:
            number += 1
            name = fit_name(stem, f"_{number}{suffix}")
        self._taken.add(name.casefold())
        return name


def write_image(
    path: str | os.PathLike[str], image: NDArray[np.uint8], metadata: Metadata = NO_METADATA
) -> None:
    """Write a picture in the format of its ending, whole or not at all; SinkError if that fails."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"a picture is written to a path, got {type(path).__name__}")
    suffix = Path(path).suffix
    data = encode_image(suffix, image, metadata)
    if data is None:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise SinkError(f"{os.fspath(path)}: OpenCV cannot write {size} pixels as {suffix or 'no format'}")
    write_whole(path, data)


def encode_image(suffix: str, image: NDArray[np.uint8], metadata: Metadata = NO_METADATA) -> bytes | None:
    """Encode a picture in the format of an ending (``.png``); None where OpenCV cannot."""
    try:
        written, data = cv2.imencode(suffix, image)
    except cv2.error:
        return None
    return embed(data.tobytes(), metadata) if written else None
